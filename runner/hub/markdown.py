"""Texts of anybody in, Markdown out in which they are no more than text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any


class Words(str):
    """What a cell of a table shows as words, and not as the literal that it is by default."""


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A Markdown table, or nothing where there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    lines = [list(head), ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value) or "none"
    if isinstance(value, Words):
        return plain(value)
    return code(public(str(value))).replace("|", "\\|")


def public(text: str) -> str:
    """The text, or the last name of a local path: the folders above it are nobody's business."""
    return PurePath(text).name if text.startswith(("/", "~")) and PurePath(text).name else text


def plain(text: str) -> str:
    """Text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """Text on one line as code, between more backticks than it holds in a row."""
    text = " ".join(text.split()) or " "
    ticks = "`" * (_longest_run(text) + 1)
    room = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{room}{text}{room}{ticks}"


def fenced(text: str, language: str) -> str:
    """Text as a block of code that no line of it can end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
