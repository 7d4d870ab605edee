"""Marks put into contents, and contents found by them again: plain strings, without any tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.text import marks

FIRST = marks.ALPHABETS[0]


def found(content: str, template: Callable[[str], str]) -> str:
    """The part of the rendered text in which the content is found."""
    reading = marks.read(template(marks.mark(content, 7, FIRST)), FIRST)
    assert reading.plain == template(content)
    extent = marks.find(content, 7, reading)
    return reading.plain[extent.start : extent.end]


@given(st.text(), st.text(), st.text())
@example("", "\n", "")
@example("", "<think></think>", "")
@example("", "<think> x </think> y", "")
def test_a_content_is_found_where_it_was_put(before: str, content: str, after: str) -> None:
    text = before + marks.mark(content, 12, FIRST) + after
    reading = marks.read(text, FIRST)
    assert reading.plain == before + content + after
    extent = marks.find(content, 12, reading)
    assert reading.plain[extent.start : extent.end] == content.strip()
    assert not extent.thinking_dropped
    assert extent.start == len(before) + len(content) - len(content.lstrip())


def changed(content: str, template: Callable[[str], str]) -> str:
    with pytest.raises(marks.Changed) as caught:
        found(content, template)
    return str(caught.value)


def test_a_change_on_either_side_of_the_mark_is_noticed() -> None:
    assert changed("one two", lambda text: text.replace("one", "eins")) == "writes it differently"
    assert changed("one two", lambda text: text.replace("two", "zwei")) == "writes it differently"


def test_a_content_that_is_not_there_once_is_noticed() -> None:
    assert changed("one", lambda text: "") == "leaves it out"
    assert changed("one", lambda text: text + text) == "writes it more than once"


THOUGHT = "<think>\nfirst this\n</think>\n\nthen that"


def split(text: str) -> tuple[str, str]:
    thinking, answer = text.removeprefix("<think>").split("</think>")
    return thinking, answer


def test_reasoning_may_be_set_apart_or_left_out() -> None:
    assert found(THOUGHT, lambda text: "[{}] {}".format(*split(text))) == "first this\n] \n\nthen that"
    reading = marks.read("| " + split(marks.mark(THOUGHT, 0, FIRST))[1].strip(), FIRST)
    assert marks.find(THOUGHT, 0, reading) == marks.Extent(2, 11, thinking_dropped=True)


def test_reasoning_must_be_there_once_before_the_answer_and_unchanged() -> None:
    assert changed(THOUGHT, lambda text: "{0}|{0}|{1}".format(*split(text))) == "writes its reasoning more than once"
    assert changed(THOUGHT, lambda text: "{1}|{0}".format(*split(text))) == "writes its reasoning after the answer"
    assert changed(THOUGHT, lambda text: "|".join(split(text)).replace("first", "1")) == "writes it differently"
    assert changed(THOUGHT, lambda text: "|".join(split(text)).replace("this", "it")) == "writes it differently"


@pytest.mark.parametrize("content", ["<think>", "</think>", "<tool_call>", "a<b>c</b>d", "<x> <tool_response>\n1"])
def test_no_mark_stands_inside_a_tag(content: str) -> None:
    marked = marks.mark(content, 3, FIRST)
    assert re.findall(r"<\S+?>", marked) == re.findall(r"<\S+?>", content)


def test_an_alphabet_is_one_that_no_text_uses() -> None:
    first, second, third = (chr(code) for code in marks.ALPHABETS)
    assert marks.alphabet(["plain"]) == ord(first)
    assert marks.alphabet(["plain", first]) == ord(second)
    assert marks.alphabet([first, second]) == ord(third)
    assert marks.alphabet([first + second + third]) is None


# calls

NAMES = ("get_weather", "f", "get_weather")


def called(template: Callable[[Sequence[str]], str]) -> marks.Extent:
    reading = marks.read(template([marks.mark_name(name, 7, FIRST) for name in NAMES]), FIRST)
    assert reading.plain == template(NAMES) and not reading.places
    return marks.find_calls(NAMES, 7, reading)


def test_calls_are_found_from_the_first_name_to_the_last() -> None:
    assert called("f; {0[0]}() {0[1]}() {0[2]}(), f".format) == marks.Extent(3, 32, thinking_dropped=False)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("{0[0]} {0[2]}", "leaves a call out"),
        ("{0[0]} {0[1]} {0[1]} {0[2]}", "writes a call more than once"),
        ("{0[1]} {0[0]} {0[2]}", "writes a call's name differently"),
    ],
)
def test_calls_that_are_not_there_once_and_in_order_are_noticed(text: str, change: str) -> None:
    with pytest.raises(marks.Changed) as caught:
        called(text.format)
    assert str(caught.value) == change


def test_a_name_that_is_changed_is_noticed() -> None:
    with pytest.raises(marks.Changed, match="name differently"):
        marks.find_calls(["get"], 7, marks.read(marks.mark_name("get", 7, FIRST).replace("g", "b"), FIRST))
    with pytest.raises(marks.Changed, match="name differently"):
        marks.find_calls(["getter"], 7, marks.read(marks.mark_name("getter", 7, FIRST)[2:], FIRST))


@pytest.mark.parametrize("content", ["", " \n", "<think></think>", "<think>\nfirst this\n</think>\n"])
def test_an_empty_answer_beside_calls_stays_empty(content: str) -> None:
    marked = marks.mark(content, 7, FIRST, beside_calls=True)
    assert not marks.has_answer(content)
    assert marked.split("</think>")[-1] == content.split("</think>")[-1]


def test_reasoning_without_an_answer_is_found_or_left_out() -> None:
    thought = "<think>\nfirst this\n</think>\n"
    marked = marks.mark(thought, 7, FIRST, beside_calls=True)
    assert marks.find_thinking(thought, 7, marks.read("| " + marked, FIRST)) == marks.Extent(10, 20, False)
    assert marks.find_thinking(thought, 7, marks.read("|", FIRST)) is None
    with pytest.raises(marks.Changed, match="its reasoning more than once"):
        marks.find_thinking(thought, 7, marks.read(marked * 2, FIRST))
