"""An error of the YAML parser -> a Problem in plain words, where the mistake is and not where it was noticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import yaml

from runner.errors import Place, Problem

KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)?([A-Za-z0-9_.-]+):(?=[^\s/])")
KEY = re.compile(r"\s*(?:- +)?[^\s#][^#]*?:(?:\s|$)")
PAIR = "write `key: value`, with a space after the colon"
Spot = Callable[[int, int, int], Place]  # line and column from 0, width -> Place

TOKENS = {
    "<block mapping start>": "a key",
    "<block sequence start>": "a list",
    "<block end>": "the end of the block",
    "<stream end>": "the end of the file",
    "<document start>": "`---`",
    "<document end>": "`...`",
    "<scalar>": "text",
    "<alias>": "an alias",
    "<anchor>": "an anchor",
    "<tag>": "a tag",
}


def explain(error: yaml.MarkedYAMLError, lines: Sequence[str], spot: Spot) -> Problem:
    """The mistake behind a parser's error. `lines` are the file's, `spot` makes a Place in it."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem("the file is not YAML")
    start = error.context_mark or mark
    problem, context = error.problem or "", error.context or ""
    here, there = spot(mark.line, mark.column, 1), spot(start.line, start.column, 1)
    line = _line(lines, mark.line)

    if "cannot start any token" in problem:
        return _bad_start(line, mark.column, here)
    if "quoted scalar" in context and "end of stream" in problem or "document separator" in problem:
        return Problem("the quote that opens here is never closed", there)
    if "escape" in problem:
        hint = "write `\\\\` for a backslash, or use single quotes, in which a backslash is just that"
        return Problem("the backslash stands for nothing here: it begins no known escape", here, hint)
    if "flow sequence" in context or "flow mapping" in context:
        return _open_bracket("[" if "sequence" in context else "{", mark.line, start.line, here, there, problem)
    if "could not find expected ':'" in problem:
        return _no_colon(lines, start.line, start.column, spot)
    if "mapping values are not allowed" in problem:
        return _second_colon(lines, mark.line, mark.column, spot)
    if "sequence entries are not allowed" in problem:
        return Problem("a list item cannot begin here", here, "put each `- item` on a line of its own under its key")
    if "<block end>" in problem:
        return _block(line, mark.column, problem, here)
    if "<document start>" in problem:
        hint = "a recipe is one document: take away the `...` or the closing bracket above, or what follows it"
        return Problem(f"the document has ended above, and {_found(problem)} follows", here, hint)
    if "expected the node content" in problem:
        return Problem(f"a value was expected here, and {_found(problem)} was found", here)
    if "alias" in context or "anchor" in context:
        return Problem("a value cannot begin with `*` or `&`", there, "put the value in quotes")
    if "block scalar" in context:
        return Problem("after `|` or `>` nothing may stand on the same line", here, "begin the text on the next line")
    if "tag" in context or "tag" in problem:
        return Problem("tags, which begin with `!`, are not part of a recipe", there, "put a value with `!` in quotes")
    if "directive" in context or "YAML document" in problem or "directive" in problem:
        return Problem("the directive, a line with `%`, cannot be read", here, "take the line away")
    return Problem(f"the file is not YAML: {problem.replace(chr(39), chr(96))}", here)


def _bad_start(line: str, column: int, here: Place) -> Problem:
    character = line[column : column + 1]
    if character != "\t":
        return Problem(f"a value cannot begin with `{character}`", here, "put the value in quotes")
    if line[:column].strip() == "":
        hint = "YAML is indented with spaces: put two spaces for each tab"
        return Problem("the line is indented with a tab", here, hint)
    return Problem("a tab stands where YAML wants spaces", here, "put a space in its place")


def _open_bracket(opening: str, line: int, start: int, here: Place, there: Place, problem: str) -> Problem:
    closing = {"[": "]", "{": "}"}[opening]
    if line != start or "<stream end>" in problem:
        return Problem(f"the `{opening}` that opens here is not closed", there, f"close it with `{closing}`")
    return Problem(f"`,` or `{closing}` was expected here, and {_found(problem)} was found", here)


def _no_colon(lines: Sequence[str], line: int, column: int, spot: Spot) -> Problem:
    text = _line(lines, line)
    if joined := KEY_WITHOUT_SPACE.match(text):
        return _missing_space(joined, line, spot)
    width = max(len(text.rstrip()) - column, 1)
    return Problem("the line is no `key: value` pair", spot(line, column, width), PAIR)


def _second_colon(lines: Sequence[str], line: int, column: int, spot: Spot) -> Problem:
    """A `: ` where no key can be: the cause is on this line, or on the one above, which ran on into it."""
    text = _line(lines, line)
    if re.search(r":\s", text[:column]):
        hint = "put a value that holds `: ` in quotes"
        return Problem("a second `: ` stands on the line", spot(line, column, 1), hint)
    above = line - 1
    while above > 0 and not _line(lines, above).strip():
        above -= 1
    previous = _line(lines, above) if above >= 0 else ""
    if joined := KEY_WITHOUT_SPACE.match(previous):
        return _missing_space(joined, above, spot)
    indent = len(text) - len(text.lstrip(" "))
    if KEY.match(previous):
        place = spot(line, indent, max(column - indent, 1))
        message = "the line is indented more than the one above it, which has a value already"
        return Problem(message, place, "give keys of one block the same indentation")
    indent = len(previous) - len(previous.lstrip(" "))
    place = spot(max(above, 0), indent, max(len(previous.strip()), 1))
    return Problem("the line is no `key: value` pair", place, PAIR)


def _missing_space(joined: re.Match[str], line: int, spot: Spot) -> Problem:
    return Problem(f"no space after the colon of `{joined.group(1)}`", spot(line, joined.end() - 1, 1), PAIR)


def _block(line: str, column: int, problem: str, here: Place) -> Problem:
    if line[:column].strip() == "":
        if line[column : column + 1] == "-":
            return Problem("a list item stands where a key was expected", here, "indent the list under its key")
        hint = "give keys of one block the same indentation"
        return Problem("the indentation of the line fits no block above it", here, hint)
    return Problem(f"{_found(problem)} cannot stand here", here, "put a value with special characters in quotes")


def _found(problem: str) -> str:
    token = problem.rpartition("but found ")[2] if "but found " in problem else problem.rpartition("but got ")[2]
    token = token.strip("'\"")
    return TOKENS.get(token, f"`{token}`")


def _line(lines: Sequence[str], number: int) -> str:
    return lines[number] if 0 <= number < len(lines) else ""
