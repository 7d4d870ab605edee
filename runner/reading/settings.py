"""A recipe's values with defaults filled in, as the rules between keys look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.errors import Place, Problem
from runner.reading.source import Path, Places


@dataclass(frozen=True)
class Settings:
    """The values with defaults filled in, and the places of what the recipe itself says."""

    values: dict[str, Any]
    places: Places

    def __getitem__(self, key: str) -> Any:
        value: Any = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def written(self, key: str) -> bool:
        """Whether the recipe itself sets the key."""
        return _path(key) in self.places

    def problem(self, keys: tuple[str, ...], message: str, hint: str | None = None) -> Problem:
        """A fault between keys, at the last of them that the recipe sets."""
        written = [self.places[_path(key)].key for key in keys if self.written(key)]
        latest = max(written, key=_order) if written else None
        others = [f"`{key}` is set on line {self._key(key).line}" for key in keys if self._other(key, latest)]
        return Problem(message, latest, "; ".join([*([hint] if hint else []), *others]) or None)

    def _key(self, key: str) -> Place:
        return self.places[_path(key)].key

    def _other(self, key: str, latest: Place | None) -> bool:
        """Whether the line of the key is worth a word: it is in the same file, and not the line that is shown."""
        if latest is None or not self.written(key):
            return False
        place = self._key(key)
        return place.file != latest.file or place.line != latest.line


def _order(place: Place) -> tuple[bool, int, int]:
    """Later lines last, and what the command line says after all of them."""
    return place.file == "--set", place.line, place.column


def _path(key: str) -> Path:
    """The path that a dotted key names; numbers are items of lists."""
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))
