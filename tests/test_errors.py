"""A fault is shown so that its place can be seen, in three styles, and no input can break or hide it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import errors
from runner.errors import Place, Problem, RecipeError

LINE = "  learning_rat: 2e-4"
PROBLEM = Problem(
    "unknown key `learning_rat`", Place("a.yaml", 7, 3, 12, LINE), "a similar key exists: `learning_rate`"
)


def test_text() -> None:
    assert errors.as_text(PROBLEM) == (
        "error: unknown key `learning_rat`\n"
        " --> a.yaml:7:3\n"
        "  |\n"
        "7 |   learning_rat: 2e-4\n"
        "  |   ^^^^^^^^^^^^\n"
        "hint: a similar key exists: `learning_rate`"
    )


def test_colour_changes_nothing_but_colour() -> None:
    coloured = errors.as_text(PROBLEM, colour=True)
    assert "\x1b[" in coloured
    for code in ("\x1b[1m", "\x1b[1;31m", "\x1b[1;34m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == errors.as_text(PROBLEM)


def test_the_gutter_is_as_wide_as_the_line_number() -> None:
    lines = errors.as_text(Problem("wrong", Place("a.yaml", 1234, 1, 1, "x: y"))).split("\n")
    assert [line.index("|") for line in lines if "|" in line] == [5, 5, 5]


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (None, "error: wrong"),
        (Place("a.yaml"), "error: wrong\n --> a.yaml"),
        (Place("a.yaml", 3), "error: wrong\n --> a.yaml:3"),
        (Place("a.yaml", 3, text="x"), "error: wrong\n --> a.yaml:3\n  |\n3 | x"),
        (Place("a.yaml", 3, 2), "error: wrong\n --> a.yaml:3:2"),
    ],
)
def test_places_that_are_less_known(place: Place | None, shown: str) -> None:
    assert errors.as_text(Problem("wrong", place)) == shown


@pytest.mark.parametrize(
    ("text", "column", "width", "line", "carets"),
    [
        ("a: x", 4, 1, "a: x", "   ^"),
        ("\ta: x", 2, 1, "    a: x", "    ^"),
        ("a: 日本 b", 4, 2, "a: 日本 b", "   ^^^^"),
        ("a: 日本 b", 7, 1, "a: 日本 b", "        ^"),
        ("e\u0301: x", 5, 1, "e\u0301: x", "   ^"),
        ("\u2764\ufe0f: x", 5, 1, "\u2764\ufe0f: x", "   ^"),
        ("a: \x1b[2J", 4, 1, "a: \\x1b[2J", "   ^^^^"),
        ("a: x", 5, 1, "a: x", "    ^"),
        ("a: x", 4, 99, "a: x", "   ^"),
        ("a: x", 99, 5, "a: x", " " * 98 + "^"),
        ("", 1, 1, "", "^"),
        ("a: x\r\n", 4, 1, "a: x", "   ^"),
    ],
)
def test_carets_stand_under_what_is_meant(text: str, column: int, width: int, line: str, carets: str) -> None:
    shown = errors.as_text(Problem("wrong", Place("a.yaml", 1, column, width, text))).split("\n")
    assert shown[3] == f"1 | {line}".rstrip()
    if column <= len(text) + 1:
        assert shown[4] == f"  | {carets}"


@pytest.mark.parametrize("column", [1, 60, 80, 81, 119, 120, 121, 500, 1000])
def test_a_long_line_is_cut_around_its_carets(column: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(1000))
    shown = errors.as_text(Problem("wrong", Place("a.yaml", 1, column, 1, text))).split("\n")
    assert len(shown[3]) <= 4 + errors.LONGEST_LINE_SHOWN + 2
    assert shown[3][shown[4].index("^")] == text[column - 1]


def test_no_input_reaches_the_terminal_as_a_command() -> None:
    ugly = "\x1b[2J\x07\u202e\u2028\udce9\x9b"
    problem = Problem(f"wrong `{ugly}`", Place(f"a{ugly}\n.yaml", 1, 1, 1, ugly), ugly)
    for style in ("text", "github", "json"):
        shown = errors.report(RecipeError(problem), style)
        assert not any(character in shown for character in ugly if not character.isprintable())
        shown.encode()
    assert json.loads(errors.report(RecipeError(problem), "json"))["message"] == problem.message


def test_json_has_one_object_a_line() -> None:
    lines = errors.report(RecipeError([PROBLEM, Problem("no\nplace")]), "json").split("\n")
    assert [json.loads(line) for line in lines] == [
        {
            "message": PROBLEM.message,
            "file": "a.yaml",
            "line": 7,
            "column": 3,
            "width": 12,
            "hint": PROBLEM.hint,
        },
        {"message": "no\nplace", "file": None, "line": None, "column": None, "width": None, "hint": None},
    ]


def test_github_commands() -> None:
    shown = errors.report(
        RecipeError([PROBLEM, Problem("50%\nleft", Place("a:b,c%.yaml")), Problem("no place")]), "github"
    )
    assert shown.split("\n") == [
        "::error file=a.yaml,line=7,col=3,endColumn=15::unknown key `learning_rat`"
        "%0Ahint: a similar key exists: `learning_rate`",
        "::error file=a%3Ab%2Cc%25.yaml::50%25%0Aleft",
        "::error::no place",
    ]


def test_the_number_of_problems_is_told() -> None:
    assert "Found" not in errors.report(RecipeError(PROBLEM))
    assert errors.report(RecipeError([PROBLEM, PROBLEM])).endswith("\n\nFound 2 problems")
    assert errors.report(RecipeError([PROBLEM, PROBLEM], total=9)).endswith(
        "\n\nFound 9 problems; the first 2 are shown"
    )


def test_exit_codes() -> None:
    codes = {kind: kind.exit_code for kind in (errors.RecipeError, errors.DataError, errors.RunError)}
    assert list(codes.values()) == [2, 2, 1]
    assert [kind.exit_code for kind in (errors.PushError, errors.OutOfMemory, errors.Interrupted)] == [3, 4, 75]
    assert str(RecipeError([PROBLEM, Problem("b")])) == "unknown key `learning_rat`; b"


ANY = st.text(st.characters(exclude_categories=()), max_size=40)


@given(ANY, ANY, ANY, st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.none() | ANY)
def test_any_problem_can_be_shown(
    message: str, file: str, text: str, line: int, column: int, width: int, hint: str | None
) -> None:
    error = RecipeError(Problem(message, Place(file, line, column, width, text), hint))
    for style in ("text", "github", "json"):
        errors.report(error, style).encode()
    assert len(errors.report(error, "github").splitlines()) == 1
    assert json.loads(errors.report(error, "json"))["file"] == file
    assert len(errors.report(error, "json").splitlines()) == 1


def test_an_error_goes_to_another_process_and_back() -> None:
    error = errors.OutOfMemory([Problem("a", Place("f", 3, 2), "h"), Problem("b")], 9)
    back = errors.unpacked(json.loads(json.dumps(errors.packed(error))))
    assert type(back) is errors.OutOfMemory and (back.problems, back.total) == (error.problems, 9)


@pytest.mark.parametrize("length", [100, 961, 3000, 10**6])
def test_an_error_that_is_kept_is_shown_as_it_was_and_has_no_long_line(length: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(length))
    for column in (0, 1, 79, 80, 81, 119, 121, 500, 959, length - 130, length - 59, length, length + 1):
        for width in (1, 50, 10**6):
            error = RecipeError(Problem("wrong", Place("a.yaml", 1, max(column, 0), width, text)))
            kept = json.dumps(errors.packed(error))
            for style in ("text", "json", "github"):
                assert errors.report(errors.unpacked(json.loads(kept)), style) == errors.report(error, style)
            assert len(kept) < 1300


@pytest.mark.parametrize("kind", ["Exception", "Place", "json", "", 3])
def test_what_is_no_error_is_not_taken_for_one(kind: object) -> None:
    values = {"kind": kind, "problems": [{"message": "a", "place": None, "hint": None}], "total": 1}
    with pytest.raises((ValueError, TypeError, KeyError)):
        errors.unpacked(values)
