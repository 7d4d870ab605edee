"""Recipe text becomes plain values by YAML 1.2, each with its place, or a RecipeError; nothing else, and soon."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import errors
from runner.reading import source

SOON = 5.0  # seconds, on a busy machine; most take a few milliseconds


def faults(text: str) -> list[errors.Problem]:
    with pytest.raises(errors.RecipeError) as caught:
        source.recipe(text, "recipe.yaml")
    return list(caught.value.problems)


def read_faults(path: Path | str) -> list[errors.Problem]:
    with pytest.raises(errors.RecipeError) as caught:
        source.read(str(path))
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-4", 2e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E+3", -1500.0),
        ("010", 10),
        ("+7", 7),
        ("0o10", 8),
        ("0x1F", 31),
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2024-01-31", "2024-01-31"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("nulL", "nulL"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1e400", math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("=", "="),
        ("'3'", "3"),
        ('"true"', "true"),
        ("''", ""),
        ("٣", "٣"),
        (".", "."),
        ("1e", "1e"),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    found = source.recipe(f"key: {written}\n", "recipe.yaml").values["key"]
    assert found == value and type(found) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(source.recipe("key: .nan", "recipe.yaml").values["key"])


def test_places_of_keys_values_items_and_what_stands_below_a_key() -> None:
    text = "model:\n  name: gpt2\nlist: [a, {b: c}]  # comment\nempty:\n"
    read = source.recipe(text, "recipe.yaml")

    def spot(place: errors.Place) -> tuple[int, int, int]:
        return place.line, place.column, place.width

    assert spot(read.places[("model",)].key) == (1, 1, 5)
    assert read.places[("model",)].value == read.places[("model",)].key
    assert spot(read.places[("model", "name")].value) == (2, 9, 4)
    assert read.places[("model", "name")].value.text == "  name: gpt2"
    assert spot(read.places[("list",)].value) == (3, 7, 11)
    assert spot(read.places[("list", 0)].key) == (3, 8, 1)
    assert spot(read.places[("list", 1, "b")].value) == (3, 15, 1)
    assert read.places[("empty",)].value == read.places[("empty",)].key


def test_the_closest_place_of_what_is_not_written() -> None:
    places = source.recipe("model:\n  name: gpt2\n", "recipe.yaml").places
    assert source.closest(places, ("model", "dtype")) == places[("model",)]
    assert source.closest(places, ("dataset", "train")) is None


def test_line_ends_and_a_byte_order_mark_do_not_move_columns(tmp_path: Path) -> None:
    for number, data in enumerate((b"a: 1\r\nb: x\r\n", b"\xef\xbb\xbfa: 1\nb: x\n", b"a: 1\rb: x\r")):
        file = tmp_path / f"{number}.yaml"
        file.write_bytes(data)
        read = source.read(str(file))
        assert read.values == {"a": 1, "b": "x"}
        place = read.places[("b",)].value
        assert (place.line, place.column, place.text) == (2, 4, "b: x")


def test_both_lines_of_a_repeated_key_are_named() -> None:
    (problem,) = faults("a: 1\nb: {c: 1, c: 2}\n")
    assert problem.message == "the key `c` stands here a second time"
    assert problem.place is not None and (problem.place.line, problem.place.column) == (2, 11)
    assert problem.hint == "the first is on line 2; keep one"


def test_all_faults_of_form_are_told_before_the_one_that_ends_the_reading() -> None:
    messages = [problem.message for problem in faults("a: 1\na: 2\nb: &x 3\nc: 'never closed\n")]
    assert len(messages) == 3
    assert messages[-1] == "the quote that opens here is never closed"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "--- # nothing\n", "null\n"])
def test_an_empty_recipe(text: str) -> None:
    assert faults(text)[0].message == "the recipe is empty"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\UFFFFFFFF"', "an escape or a number here means nothing"),
        ('a: "\\ud800"', "the text holds the character U+D800, which means nothing here"),
        ('a: "\\0"', "the text holds the character U+0000, which means nothing here"),
        ('a: "\\q"', "the backslash stands for nothing here: it begins no known escape"),
        ("a: \u2028b", "the character U+2028 cannot stand in a recipe"),
        ("a: \x1b[2J", "the character U+001B cannot stand in a recipe"),
        ("a: b\u202ec", "an unseen character, U+202E, stands here"),
        ("a: " + "9" * 5000, "the number has 5000 digits"),
        ("a: x\t\n", "a tab stands where YAML wants spaces"),
        ("%YAML 2.0\n---\na: 1\n", "the directive, a line with `%`, cannot be read"),
        ("a: {{ x }}", "a mapping cannot be a key"),
        ("a: [b}", "`,` or `]` was expected here, and `}` was found"),
        ("a: @b", "a value cannot begin with `@`"),
        ("a: |x\n  b\n", "after `|` or `>` nothing may stand on the same line"),
        ("- a\nb: 1\n", "the indentation of the line fits no block above it"),
        ("a:\n  - b\n  c: d\n", "the indentation of the line fits no block above it"),
        ("a: - b\n", "a list item cannot begin here"),
        ("a: ]\n", "a value was expected here, and `]` was found"),
        ("a: 'b' c\n", "text cannot stand here"),
        ("name", "a recipe is a mapping, and this is a single value"),
    ],
)
def test_sentences(text: str, message: str) -> None:
    assert faults(text)[0].message == message


@pytest.mark.parametrize(
    "text",
    ["[" * 900_000, "{a: " * 200_000, "- " * 400_000, "? " * 400_000, "[{a: " * 20_000, "[? " * 30_000, "{" * 120_000]
    + ["\n".join(" " * level + "a:" for level in range(400))],
)
def test_deep_nesting_is_a_plain_error_and_soon(text: str) -> None:
    started = time.process_time()
    assert "nested deeper" in faults(text)[-1].message
    assert time.process_time() - started < SOON


def test_nesting_up_to_the_limit_is_read() -> None:
    text = "a: " + "[" * (source.DEEPEST - 1) + "]" * (source.DEEPEST - 1)
    assert source.recipe(text, "recipe.yaml").values["a"] is not None


@pytest.mark.parametrize(
    "text",
    [
        "k{}: 1\n",
        "- a\n",
        "#",
        "a",
        "\n",
        "'",
        '"',
        "&a ",
        "*a ",
        "!a ",
        ":\n",
        "a:\n",
        "| ",
        "%",
        "[a,",
        "{a,",
        "\\",
        "a: [b, c]\n",
    ],
)
def test_large_files_end_soon(text: str) -> None:
    whole = "".join(text.replace("{}", str(number)) for number in range(source.LARGEST_FILE // len(text)))
    whole = whole[: source.LARGEST_FILE]
    started = time.process_time()
    try:
        source.recipe(whole, "recipe.yaml")
    except errors.RecipeError as error:
        assert error.problems
    assert time.process_time() - started < SOON


def test_a_file_too_large_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as opened:
        opened.truncate(10_000_000_000)
    assert read_faults(file)[0].message == "the file is larger than 1 MB"


def test_very_many_keys_are_refused() -> None:
    text = "a: [" + ", ".join("b" * 1997) + "]"
    assert len(source.recipe(text, "recipe.yaml").values["a"]) == 1997
    assert faults(text.replace("]", ", b]"))[0].message == "the recipe has more than 2000 keys and values"


def test_what_is_no_recipe_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: 1\n")
    assert read_faults(tmp_path)[0].message == f"`{tmp_path}` is a directory"
    assert read_faults(tmp_path)[0].hint == f"name a file in it, such as `{tmp_path / 'recipe.yaml'}`"
    missing = read_faults(tmp_path / "recipe.yml")[0]
    assert missing.message == f"`{tmp_path / 'recipe.yml'}` does not exist"
    assert missing.hint == f"a similar name exists: `{tmp_path / 'recipe.yaml'}`"
    assert "its directory" in str(read_faults(tmp_path / "no" / "recipe.yaml")[0].hint)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        assert "is not a regular file" in read_faults(path)[0].message
    assert "cannot be opened" in read_faults("a\0b")[0].message
    assert "file name too long" in read_faults("a" * 5000)[0].message
    assert "not a directory" in read_faults(tmp_path / "recipe.yaml" / "x")[0].message
    assert "does not exist" in read_faults("")[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("a: 1\n")
    file.chmod(0)
    assert "permission denied" in read_faults(file)[0].message


@pytest.mark.parametrize(
    ("data", "message", "line", "column"),
    [
        ("a: 1\n".encode("utf-16"), "the file is UTF-16 text", 0, 0),
        (b"\x00\x01\x02", "the file is binary, not text", 0, 0),
        ("a: 1\nb: é".encode("latin-1"), "byte 0xE9 is not UTF-8 text", 2, 4),
        ("a: é\n".encode() + b"\xff", "byte 0xFF is not UTF-8 text", 2, 1),
        (b"a: \xed\xa0\x80", "byte 0xED is not UTF-8 text", 1, 4),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, message: str, line: int, column: int) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(data)
    (problem,) = read_faults(file)
    assert problem.place is not None
    assert (problem.message, problem.place.line, problem.place.column) == (message, line, column)
    assert errors.report(errors.RecipeError(problem))


def test_no_place_shows_a_secret() -> None:
    token = "hf_" + "Ab12" * 9
    (problem,) = faults(f"a: 1\na: {token}\n")
    assert problem.place is not None and problem.place.text == "a: " + "*" * len(token)


YAML_PIECES = st.sampled_from(
    list("ab1 :-?[]{},#&*!|>'\"%@`~\n\n\t.\\")
    + ["a: ", "- ", "\n  ", "---\n", "...\n", "<<: ", "!!int ", "&a ", "*a ", "\\u", "é"]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(YAML_PIECES, max_size=60).map("".join)))
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    started = time.process_time()
    try:
        read = source.recipe(text, "recipe.yaml")
    except errors.RecipeError as error:
        for style in ("text", "json", "github"):
            assert errors.report(error, style).encode()
        assert all(problem.place is not None for problem in error.problems)
    else:
        assert isinstance(read.values, dict)
    assert time.process_time() - started < SOON


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_recipe_or_a_recipe_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(data)
    try:
        source.read(str(file))
    except errors.RecipeError as error:
        assert errors.report(error).encode()
