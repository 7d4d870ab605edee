"""Where a message's content ends up in a rendered conversation, found by marking it.

A mark is a short run of private-use characters put into the *middle* of a content. The text rendered
with marks, less the marks, must be the text rendered without them: then each mark stands where the
middle of that content stands, and the content is read off to its left and its right. A content is not
replaced as a whole, because templates look at how it begins and ends (`<tool_response>`) and at whether
it is empty, and take the reasoning (`<think> … </think>`) out of an answer: reasoning gets a mark of its own.
So do the names of an answer's calls: every template writes a name as it is, whatever it does to arguments.

In and out: plain strings. Nothing here knows a tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Three places to take 14 characters from. Icon fonts use the beginnings of the private-use planes, not the ends.
ALPHABETS = (0x10F000, 0xFF000, 0xF800)
OPEN, CLOSE_ANSWER, CLOSE_THINKING, CLOSE_CALL = 10, 11, 12, 13
THINK, END_OF_THINKING = "<think>", "</think>"
TAG = re.compile(r"<[^<>\s]{1,40}>")
LONGEST_TAG = 42


class Changed(Exception):
    """The template does something to a content that is more than to trim it or to take its reasoning out."""


@dataclass(frozen=True)
class Reading:
    """A marked text less its marks, and where they stood: (message, is reasoning) -> positions in `plain`.

    `calls` has the positions of the names of a message's calls.
    """

    plain: str
    places: dict[tuple[int, bool], tuple[int, ...]]
    calls: dict[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Extent:
    """Where one content stands, without the white space round it: characters `start` to `end`.

    White space is left out because nobody can tell whose it is: a template that trims contents and writes a
    line break in front of them gives the same text for `x` as for a line break and `x`.
    """

    start: int
    end: int
    thinking_dropped: bool  # it has reasoning, and the text does not


def alphabet(texts: Iterable[str]) -> int | None:
    """The first character of an alphabet that none of the texts uses; `None` if there is no such alphabet."""
    used = {ord(character) for character in set("".join(texts)) if not character.isascii()}
    for first in ALPHABETS:
        if not any(first <= character <= first + CLOSE_CALL for character in used):
            return first
    return None


def mark(content: str, message: int, first: int, beside_calls: bool = False) -> str:
    """The content with a mark in the middle of its answer, and one in the middle of its reasoning if it has any.

    Beside calls an answer may be empty, and templates ask whether it is: then it gets no mark.
    """
    thinking, answer = _parts(content)
    marked = content
    if not beside_calls or has_answer(content):
        middle = _middle(content, answer, len(content))
        marked = content[:middle] + _sign(message, first, CLOSE_ANSWER) + content[middle:]
    if thinking is not None:
        middle = _middle(content, *thinking)
        marked = marked[:middle] + _sign(message, first, CLOSE_THINKING) + marked[middle:]
    return marked


def mark_name(name: str, message: int, first: int) -> str:
    """The name of a call with a mark in its middle."""
    middle = len(name) // 2
    return name[:middle] + _sign(message, first, CLOSE_CALL) + name[middle:]


def read(marked: str, first: int) -> Reading:
    """Takes the marks out of a text, and says where each of them stood."""
    opening, digits = chr(first + OPEN), f"{chr(first)}-{chr(first + 9)}"
    signs = re.compile(f"{opening}([{digits}]+)([{chr(first + CLOSE_ANSWER)}-{chr(first + CLOSE_CALL)}])")
    pieces: list[str] = []
    places: dict[tuple[int, bool], tuple[int, ...]] = {}
    calls: dict[int, tuple[int, ...]] = {}
    position = done = 0
    for sign in signs.finditer(marked):
        pieces.append(marked[done : sign.start()])
        position += sign.start() - done
        done = sign.end()
        message = int("".join(str(ord(character) - first) for character in sign[1]))
        if sign[2] == chr(first + CLOSE_CALL):
            calls[message] = (*calls.get(message, ()), position)
        else:
            key = (message, sign[2] == chr(first + CLOSE_THINKING))
            places[key] = (*places.get(key, ()), position)
    pieces.append(marked[done:])
    return Reading("".join(pieces), places, calls)


def find(content: str, message: int, reading: Reading) -> Extent:
    """Where the content of a message stands in a text. Raises `Changed` with what the template did to it."""
    answers = reading.places.get((message, False), ())
    if not answers:
        raise Changed("leaves it out")
    if len(answers) > 1:
        raise Changed("writes it more than once")
    text, place = reading.plain, answers[0]
    thinking, answer = _parts(content)
    middle = _middle(content, answer, len(content))
    end = _right(text, place, content[middle:])
    whole = content[:middle].lstrip()
    if text.endswith(whole, 0, place):
        return Extent(place - len(whole), end, thinking_dropped=False)
    start = _left(text, place, content[answer:middle])
    thoughts = reading.places.get((message, True), ())
    if len(thoughts) > 1:
        raise Changed("writes its reasoning more than once")
    if thinking is None or not thoughts:
        return Extent(start, end, thinking_dropped=thinking is not None)
    thought = _middle(content, *thinking)
    if _right(text, thoughts[0], content[thought : thinking[1]]) > start:
        raise Changed("writes its reasoning after the answer")
    return Extent(_left(text, thoughts[0], content[thinking[0] : thought]), end, thinking_dropped=False)


def find_thinking(content: str, message: int, reading: Reading) -> Extent | None:
    """Where the reasoning of a content without an answer stands; `None`: it is left out. Raises `Changed`."""
    thinking, _ = _parts(content)
    thoughts = reading.places.get((message, True), ())
    if thinking is None or not thoughts:
        return None
    if len(thoughts) > 1:
        raise Changed("writes its reasoning more than once")
    middle = _middle(content, *thinking)
    start = _left(reading.plain, thoughts[0], content[thinking[0] : middle])
    end = _right(reading.plain, thoughts[0], content[middle : thinking[1]])
    return Extent(start, end, thinking_dropped=False)


def find_calls(names: Sequence[str], message: int, reading: Reading) -> Extent:
    """From the first name of a message's calls to the last. Raises `Changed` unless each is there once, in order."""
    places = reading.calls.get(message, ())
    if len(places) < len(names):
        raise Changed("leaves a call out")
    if len(places) > len(names):
        raise Changed("writes a call more than once")
    for name, place in zip(names, places, strict=True):
        if reading.plain[max(place - len(name) // 2, 0) :][: len(name)] != name:
            raise Changed("writes a call's name differently")
    return Extent(places[0] - len(names[0]) // 2, places[-1] + (len(names[-1]) + 1) // 2, thinking_dropped=False)


def has_thinking(content: str) -> bool:
    """Whether there is reasoning in a content."""
    return _parts(content)[0] is not None


def has_answer(content: str) -> bool:
    """Whether a content says anything beside its reasoning."""
    return bool(content[_parts(content)[1] :].strip())


def _parts(content: str) -> tuple[tuple[int, int] | None, int]:
    """Where the reasoning stands in a content (`None`: there is none), and where the answer begins."""
    close = content.rfind(END_OF_THINKING)
    if close < 0:
        return None, 0
    opened = content.find(THINK, 0, close)
    # Text in front of `<think>` belongs to the reasoning here, so that a template that loses it is noticed.
    begin = opened + len(THINK) if opened >= 0 and not content[:opened].strip() else 0
    answer = close + len(END_OF_THINKING)
    return ((begin, close) if content[begin:close].strip() else None), answer


def _middle(content: str, begin: int, end: int) -> int:
    """A place in the middle of `content[begin:end]`: inside the white space round it, and not inside a tag."""
    inner = content[begin:end].strip()
    if not inner:
        return end
    middle = begin + content[begin:end].index(inner[0]) + len(inner) // 2
    for tag in TAG.finditer(content, max(begin, middle - LONGEST_TAG), min(end, middle + LONGEST_TAG)):
        if tag.start() < middle < tag.end():
            return tag.end()
    return middle


def _sign(message: int, first: int, close: int) -> str:
    return chr(first + OPEN) + "".join(chr(first + int(digit)) for digit in str(message)) + chr(first + close)


def _left(text: str, place: int, part: str) -> int:
    """Where `part`, which ends at `place`, begins, white space aside."""
    bare = part.lstrip()
    if not text.endswith(bare, 0, place):
        raise Changed("writes it differently")
    return place - len(bare)


def _right(text: str, place: int, part: str) -> int:
    """Where `part`, which begins at `place`, ends, white space aside."""
    bare = part.rstrip()
    if not text.startswith(bare, place):
        raise Changed("writes it differently")
    return place + len(bare)
