"""The files of a run in, plain values out, whatever state they are in: not there, half written, or of another make.

Nothing here raises for what a file holds. What could not be read is noted, so that a page can say it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner import runfile
from runner.errors import Problem, RecipeError, listed
from runner.secrets import cleaned, holding, redact

LARGEST_DRAWN = 1e12
KEPT_BY_A_RUN = (runfile.NAME, "plan.json", "metrics.jsonl")  # each of which tells that a directory is that of a run
WITH_TEXTS = ("rewards", "measured", "warnings")  # what a logged step has beside numbers
MOST_NAMED = 8  # runs in a hint
LARGEST_TEXT = 2**20  # characters of a file that is shown as text
# What a browser acts on, hides or refuses: controls, separators of lines, orders of direction, halves of characters.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufdd0-\ufdef\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)


class Files:
    """What is in a run's directory; `notes` are sentences on what of it could not be read."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        # only what holds a secret: it is gone through for each text
        self.environment = holding(environment)
        self.notes: list[str] = []

    def object(self, name: str) -> dict[str, Any]:
        """A JSON object without its secrets; empty where there is none."""
        try:
            found = json.loads(self._text(name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            self._note(f"`{name}` cannot be read")
            return {}
        return mapping(cleaned(found, self.environment)) if isinstance(found, dict) else {}

    def text(self, name: str) -> str:
        """The beginning of a text file, without its secrets; empty where there is none."""
        try:
            return redact(self._text(name, LARGEST_TEXT), self.environment)
        except FileNotFoundError:
            return ""
        except OSError:
            self._note(f"`{name}` cannot be read")
            return ""

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects of a file of JSON lines, with their secrets; lines that a kill cut off are left out."""
        for _, found in self.measured_lines(name):
            yield found

    def measured_lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same, each with its bytes."""
        torn = 0
        try:
            with (self.directory / name).open("rb") as file:
                for line in file:
                    try:
                        found = json.loads(line.decode("utf-8", "replace"))
                    except (ValueError, RecursionError):
                        torn += bool(line.strip())
                        continue
                    if isinstance(found, dict):
                        yield len(line), found
        except FileNotFoundError:
            return
        except OSError:
            self._note(f"`{name}` cannot be read")
        if torn:
            self._note(f"{torn} {'line' if torn == 1 else 'lines'} of `{name}` cannot be read")

    def events(self) -> Iterator[dict[str, Any]]:
        """Logged steps and evaluations, in order, without their secrets."""
        for event in self.lines("metrics.jsonl"):
            if isinstance(event.get("step"), int) and "event" in event:
                yield event | {key: cleaned(event[key], self.environment) for key in WITH_TEXTS if key in event}

    def _text(self, name: str, most: int = -1) -> str:
        with (self.directory / name).open(encoding="utf-8", errors="replace") as file:
            return file.read(most)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def is_run(directory: Path) -> bool:
    """Whether a run has left anything in the directory."""
    try:
        return any((directory / name).is_file() for name in KEPT_BY_A_RUN)
    except (OSError, ValueError):
        return False


def no_run(directory: Path) -> RecipeError:
    """The fault that a directory holds no run, with the likeliest one that does."""
    message = f"`{directory}` holds no run"
    try:
        if not directory.exists():
            message = f"there is no `{directory}`"
        below = sorted(str(each) for each in directory.iterdir() if is_run(each)) if directory.is_dir() else []
        above = next((str(each) for each in directory.parents if is_run(each)), None)
    except (OSError, ValueError):
        below, above = [], None
    hint = "name the directory that `train` wrote to, such as `outputs/demo`"
    if above:
        hint = f"the run is `{above}`"
    elif below:
        hint = f"name one of the runs in it: {listed(below[:MOST_NAMED])}" + (" and more" if below[MOST_NAMED:] else "")
    return RecipeError(Problem(message, hint=hint))


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A number that can be drawn, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST_DRAWN else None  # neither is what is no number


def visible(text: str) -> str:
    """The text with everything that a page would hide, or act on, written out."""
    return HIDDEN.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def short(text: str, most: int) -> str:
    """The text, cut where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
