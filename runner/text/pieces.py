"""Documents of any length in, in pieces; their token ids out, as the tokenizer gives them for the whole text.

A long text is tokenised in windows that overlap. What a window's end or start changes does not reach far, so in the
overlap both windows soon agree on tokens and on where they stand; they are joined in the middle of the longest run of
tokens that they agree on. That holds for tokenizers that split a text at words first, and for those that put something
in front of it. Where no run is found (a single word longer than the overlap), the next window begins behind the last
token of the one before: no character is lost, and only the tokens around that place may not be those of the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True)
class Sizes:
    """Characters of a window, of the overlap of two, and of all windows given to the tokenizer in one call.

    `agreed` is how many tokens in a row two windows have to agree on.
    """

    window: int = 2**16
    overlap: int = 2**11
    at_once: int = 2**21
    agreed: int = 8


@dataclass(frozen=True)
class Part(Generic[Key]):
    """A part of a text, and whether the text ends with it."""

    key: Key
    text: str
    ends: bool


@dataclass(frozen=True)
class Ids(Generic[Key]):
    """The ids of a part of a text, in order, and whether the text ends with them."""

    key: Key
    ids: list[int]
    ends: bool


@dataclass(frozen=True)
class _Window(Generic[Key]):
    key: Key
    text: str
    begins: bool
    ends: bool


@dataclass(frozen=True)
class _Cut:
    ids: list[int]
    spans: Sequence[tuple[int, int]]  # the characters of the window that each covers


def encode(parts: Iterable[Part[Key]], tokenizer: Any, sizes: Sizes | None = None) -> Iterator[Ids[Key]]:
    """The ids of texts that come in parts, without special tokens of the tokenizer's own, in the order of the texts.

    Special tokens that stand in a text are read as the tokenizer reads them.
    """
    sizes = sizes or Sizes()
    held: list[_Window[Key]] = []
    characters = 0
    before: _Cut | None = None
    for window in _windows(parts, sizes):
        held.append(window)
        characters += len(window.text)
        if characters >= sizes.at_once:
            before = yield from _encoded(held, before, tokenizer, sizes)
            held, characters = [], 0
    yield from _encoded(held, before, tokenizer, sizes)


def _windows(parts: Iterable[Part[Key]], sizes: Sizes) -> Iterator[_Window[Key]]:
    """Each text as windows; the last is longer than the overlap, and no longer than a window."""
    rest, begins = "", True
    for part in parts:
        text, at = rest + part.text, 0
        while len(text) - at > sizes.window:
            yield _Window(part.key, text[at : at + sizes.window], begins, False)
            at, begins = at + sizes.window - sizes.overlap, False
        rest = text[at:]
        if part.ends:
            yield _Window(part.key, rest, begins, True)
            rest, begins = "", True


def _encoded(
    windows: list[_Window[Key]], before: _Cut | None, tokenizer: Any, sizes: Sizes
) -> Generator[Ids[Key], None, _Cut | None]:
    """Ids of some windows. `before` is what is not given yet of the one before them; returns that of the last."""
    whole = [window.text for window in windows if window.begins and window.ends]
    parted = [window.text for window in windows if not (window.begins and window.ends)]
    short = iter(_call(whole, tokenizer)["input_ids"] if whole else ())
    long = iter(_cuts(parted, tokenizer))
    for window in windows:
        if window.begins and window.ends:
            yield Ids(window.key, next(short), True)
            continue
        cut = next(long)
        if not window.begins:
            assert before is not None, "a window that begins no text has one before it"
            end, start = _join(before, cut, sizes)
            if end is None:
                end, cut = _behind(before, window.text, tokenizer, sizes)
            yield Ids(window.key, before.ids[:end], False)
            cut = _Cut(cut.ids[start:], cut.spans[start:])
        before = cut
        if window.ends:
            yield Ids(window.key, cut.ids, True)
            before = None
    return before


def _join(first: _Cut, second: _Cut, sizes: Sizes) -> tuple[int | None, int]:
    """How many tokens of the first window to take, and how many of the second to leave; None where they disagree."""
    shift = sizes.window - sizes.overlap
    begin = _from(first, shift)
    tokens = zip(second.ids, second.spans, strict=True)
    where = {(token, *span): number for number, (token, span) in enumerate(tokens) if span[1] <= sizes.overlap}
    run, best, end, previous = 0, 0, (0, 0), -2
    for number in range(begin, len(first.ids)):
        start, stop = first.spans[number]
        found = where.get((first.ids[number], start - shift, stop - shift), -2)
        run = 0 if found < 0 else run + 1 if found == previous + 1 else 1
        previous = found
        if run > best:
            best, end = run, (number, found)
    if best < sizes.agreed:
        return None, 0
    back = best // 2 - 1  # tokens of the run that the second window gives
    return end[0] - back, end[1] - back


def _behind(first: _Cut, text: str, tokenizer: Any, sizes: Sizes) -> tuple[int, _Cut]:
    """The second window anew, from where a token of the first one ends in the middle of the overlap."""
    shift = sizes.window - sizes.overlap
    end = _from(first, shift + sizes.overlap // 2)
    start = max(first.spans[end - 1][1] - shift, 0) if end else 0
    while end < len(first.ids) and first.spans[end][0] < start + shift:  # the other bytes of the same character
        end += 1
    (cut,) = _cuts([text[start:]], tokenizer)
    return end, _Cut(cut.ids, [(begin + start, stop + start) for begin, stop in cut.spans])


def _from(cut: _Cut, character: int) -> int:
    """The number of the first token that begins behind a character, or at it."""
    return bisect_right(cut.spans, character - 1, key=lambda span: span[0])


def _cuts(texts: list[str], tokenizer: Any) -> list[_Cut]:
    if not texts:
        return []
    found = _call(texts, tokenizer, return_offsets_mapping=True)
    return [_Cut(ids, spans) for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True)]


def _call(texts: list[str], tokenizer: Any, **more: Any) -> Any:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **more)
