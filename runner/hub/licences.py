"""Models and data in, the licences that they name out. What names none is unknown, and nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner import architecture

CARD = "README.md"
LARGEST_CARD = 2**20  # characters
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "USE_POLICY.md")


@dataclass(frozen=True)
class Licence:
    """What a model or data set says of its licence; without a name it is unknown."""

    name: str | None = None  # as the Hub has it, such as `apache-2.0`; several are parted by commas
    link: str | None = None
    told_by: str = ""  # what says so, or what lies there and was not read as a licence


def of_model(name: str, revision: str | None) -> Licence:
    """The licence of a model named as recipes name it, from its files on this machine."""
    path = Path(name)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _of_gguf(path)
    return _of_directory(path if path.is_dir() else architecture.cached(name, revision))


def of_data(path: str) -> Licence:
    """The licence of data by its absolute path, or by its Hub id where the local Hub cache has its card."""
    place = Path(path)
    if not place.is_absolute():
        return _of_directory(architecture.cached(path, None, "datasets"))
    return _of_directory(place if place.is_dir() else place.parent)


def _of_directory(directory: Path | None) -> Licence:
    if directory is None:
        return Licence()
    try:
        with (directory / CARD).open(encoding="utf-8", errors="replace") as file:
            found = _of_card(file.read(LARGEST_CARD))
    except OSError:
        found = Licence()
    if found.name is not None:
        return found
    beside = next((name for name in FILES if (directory / name).is_file()), None)
    return Licence(told_by=f"a file `{beside}` lies beside it") if beside else Licence()


def _of_card(text: str) -> Licence:
    """The licence in a card's metadata, where the Hub looks for it."""
    head = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", text, re.DOTALL)
    try:
        values = yaml.safe_load(head[1]) if head else {}
    except (yaml.YAMLError, RecursionError, ValueError):
        values = {}
    values = values if isinstance(values, dict) else {}
    named = values.get("license_name") if values.get("license") == "other" else None
    return _licence(named or values.get("license"), values.get("license_link"), f"its card, `{CARD}`")


def _of_gguf(path: Path) -> Licence:
    try:
        facts: Mapping[str, Any] = architecture.gguf_facts(path)
    except architecture.UnreadableModel:
        facts = {}
    name = facts.get("general.license.name") if facts.get("general.license") == "other" else None
    return _licence(
        name or facts.get("general.license"), facts.get("general.license.link"), "the header of its GGUF file"
    )


def _licence(name: Any, link: Any, told_by: str) -> Licence:
    names = [str(each) for each in (name if isinstance(name, list) else [name]) if each]
    if not names or names == ["unknown"]:
        return Licence()
    return Licence(", ".join(names), link if isinstance(link, str) and link.startswith("https://") else None, told_by)
