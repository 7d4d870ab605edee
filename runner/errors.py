"""Faults a person can cause: where each one is, and how it is shown.

A fault is a `Problem`: one sentence, its `Place` in a file, and a hint that can be acted on. Faults are
gathered and raised together as one `UserError`; the command line prints them and exits with its code.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

DONE = 0
FAILED = 1
WRONG_INPUT = 2
NOT_PUSHED = 3
OUT_OF_MEMORY = 4
INTERRUPTED = 75

LONGEST_LINE_SHOWN = 120
CONTROL_CHARACTERS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Place:
    """Where something stands in a file. Lines and columns count from 1; 0 means that it is not known.

    `text` is the line, or the part of it that begins at column `first`; `width` the number of characters to underline.
    """

    file: str
    line: int = 0
    column: int = 0
    width: int = 1
    text: str | None = None
    first: int = 1

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


@dataclass(frozen=True)
class Problem:
    """One fault: a lower-case sentence with literals in backticks, its place, and what can be done."""

    message: str
    place: Place | None = None
    hint: str | None = None


class UserError(Exception):
    """Something the person who runs this can put right. Never shown with a traceback.

    `total` is the number of faults found; it is larger than `len(problems)` where only the first are listed.
    """

    exit_code = WRONG_INPUT

    def __init__(self, problems: Problem | Sequence[Problem], total: int | None = None) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.total = len(self.problems) if total is None else total
        super().__init__("; ".join(problem.message for problem in self.problems))


class RecipeError(UserError):
    """The recipe is wrong."""


class DataError(UserError):
    """The data is wrong."""


class RunError(UserError):
    """The recipe and the data are right, and the run failed all the same."""

    exit_code = FAILED


class OutOfMemory(RunError):
    """A device or the host ran out of memory."""

    exit_code = OUT_OF_MEMORY


class Crashed(RunError):
    """A process ended without a word of its own."""


class Stalled(RunError):
    """Processes were ended, since none of them got on any more."""


class Halted(RunError):
    """Processes were ended, since another node could not go on."""


class PushError(RunError):
    """The adapter is trained and safe on disk, and could not be pushed."""

    exit_code = NOT_PUSHED


class Interrupted(RunError):
    """The run was told to stop, and saved a checkpoint: the same command goes on from there."""

    exit_code = INTERRUPTED


def packed(error: UserError) -> dict[str, Any]:
    """An error as values of JSON, for another process or a file; of a long line it has what is shown of it."""
    return {
        "kind": type(error).__name__,
        "problems": [asdict(_abridged(problem)) for problem in error.problems],
        "total": error.total,
    }


def unpacked(values: Mapping[str, Any]) -> UserError:
    """The error that `packed` made values of. Raises TypeError, KeyError or ValueError for others."""
    kind = globals().get(values["kind"])
    problems = [
        Problem(str(each["message"]), _place(each["place"]), None if each["hint"] is None else str(each["hint"]))
        for each in values["problems"]
    ]
    if not isinstance(kind, type) or not issubclass(kind, UserError) or not problems:
        raise ValueError("not an error")
    return kind(problems, int(values["total"]))


def _place(values: Mapping[str, Any] | None) -> Place | None:
    if not values:
        return None
    numbers = {key: int(values[key]) for key in ("line", "column", "width", "first") if key in values}
    text = values.get("text")
    return Place(str(values["file"]), text=None if text is None else str(text), **numbers)


def interrupted(reason: str) -> Interrupted:
    """The end of a run that was told to stop; `reason` begins the sentence."""
    return Interrupted(Problem(f"{reason}; run the same command again to go on"))


def as_text(problem: Problem, colour: bool = False, label: str = "error") -> str:
    """The fault as a person sees it: sentence, place, the line itself with carets, hint."""
    bold, red, blue, end = ("\x1b[1m", "\x1b[1;31m", "\x1b[1;34m", "\x1b[0m") if colour else ("", "", "", "")
    lines = [f"{red}{label}{end}{bold}: {printable(problem.message)}{end}"]
    place = problem.place
    if place is not None:
        gutter = len(str(place.line)) if place.line else 1
        where = printable(str(place)).replace("\n", "\\n")
        lines.append(f"{' ' * gutter}{blue}-->{end} {where}")
        if place.text is not None and place.line:
            text, before, width = _window(place)
            lines.append(f"{' ' * gutter} {blue}|{end}")
            lines.append(f"{blue}{place.line} |{end} {text}".rstrip())
            if place.column:
                lines.append(f"{' ' * gutter} {blue}|{end} {' ' * before}{red}{'^' * width}{end}")
    if problem.hint:
        lines.append(f"{blue}hint{end}: {printable(problem.hint)}")
    return "\n".join(lines)


def as_json(problem: Problem) -> str:
    """The fault as one line of JSON: `message`, `file`, `line`, `column`, `width`, `hint`."""
    place = problem.place
    text = json.dumps(
        {
            "message": problem.message,
            "file": place.file if place else None,
            "line": place.line or None if place else None,
            "column": place.column or None if place else None,
            "width": place.width if place and place.column else None,
            "hint": problem.hint,
        },
        ensure_ascii=False,
    )
    # what a terminal would act on, and half a character, which a file name can hold, are escaped as JSON does it
    return "".join(
        json.dumps(character)[1:-1] if unicodedata.category(character) in CONTROL_CHARACTERS else character
        for character in text
    )


def as_github(problem: Problem) -> str:
    """The fault as a workflow command, which GitHub shows beside the line it names."""
    place = problem.place
    properties = []
    if place is not None:
        properties.append(f"file={_escape_property(place.file)}")
        if place.line:
            properties.append(f"line={place.line}")
            if place.column:
                properties.append(f"col={place.column}")
                properties.append(f"endColumn={place.column + place.width}")
    message = problem.message + (f"\nhint: {problem.hint}" if problem.hint else "")
    head = f"::error {','.join(properties)}" if properties else "::error"
    return f"{head}::{_escape_data(message)}"


def report(error: UserError, style: str = "text", colour: bool = False) -> str:
    """All faults of one error in a style: `text`, `json` or `github`."""
    if style == "json":
        return "\n".join(as_json(problem) for problem in error.problems)
    if style == "github":
        return "\n".join(as_github(problem) for problem in error.problems)
    blocks = [as_text(problem, colour) for problem in error.problems]
    if error.total > len(error.problems):
        blocks.append(f"Found {error.total} problems; the first {len(error.problems)} are shown")
    elif error.total > 1:
        blocks.append(f"Found {error.total} problems")
    return "\n\n".join(blocks)


def printable(text: str) -> str:
    """The text with everything that a terminal would act on written out, so that no input can hide a message."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in CONTROL_CHARACTERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def cells(text: str) -> int:
    """How many terminal cells the text takes: wide East Asian characters take two, combining ones none."""
    return sum(map(_cells_of, text))


def listed(names: Iterable[object]) -> str:
    """Literals for a sentence: `a`, `b`, `c`."""
    return ", ".join(f"`{name}`" for name in names)


def _abridged(problem: Problem) -> Problem:
    """The same fault, shown in the same way, with no more of a long line than that."""
    place = problem.place
    if place is None or place.text is None or len(place.text) <= 8 * LONGEST_LINE_SHOWN:
        return problem
    start = max(place.column - place.first, 0)
    begin = max(start - LONGEST_LINE_SHOWN, 0)
    part = place.text[begin : start + 2 * LONGEST_LINE_SHOWN]
    return replace(problem, place=replace(place, text=part, first=place.first + begin))


def _window(place: Place) -> tuple[str, int, int]:
    """The part of a line that is worth showing: its text, the cells before the carets, and their number."""
    raw = (place.text or "").rstrip("\r\n")
    skipped = place.first - 1
    start = max(place.column - 1 - skipped, 0)
    first = 0 if skipped + len(raw) <= LONGEST_LINE_SHOWN or skipped + start < 80 else max(start - 60, 0)
    shown = raw[first : first + LONGEST_LINE_SHOWN]
    head, tail = "…" if skipped + first else "", "…" if first + LONGEST_LINE_SHOWN < len(raw) else ""

    def flat(text: str) -> str:
        return printable(text.replace("\t", "    ").replace("\n", "\\n"))

    before = cells(head + flat(shown[: start - first]))
    marked = shown[start - first : start - first + place.width]
    return head + flat(shown) + tail, before, max(cells(flat(marked)), 1)


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _escape_data(text: str) -> str:
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
