"""Marks put into contents, and contents found by them again: plain strings, without any tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable

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
