"""Rendered text to token ids, and which of them are learned.

In: `Rendered` rows and the model's tokenizer. Out: `Tokens`, or `Refused` where the ids do not give the
text back. Masks come from character positions alone: no id is ever compared with the padding token or
the end-of-sequence token, so a stop token is learned even where the padding token has the same id.

This is the one way from text to ids, for training and for prompts. A server cuts its prompt into tokens
without knowing the answer, so no token of a row may reach across the end of a prompt. Cutting the text
into pieces there would do, but for tokenizers that write a space in front of whatever they are given.
Instead a special token (the anchor) is put at each boundary, the text is tokenised in one go, and the
anchor is taken out again. Where that does not give the text back (tokenizers that put a space behind
every special token), the text is tokenised as it is, and must happen to break at the boundaries.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from runner.text import special_tokens
from runner.text.special_tokens import SpecialTokens
from runner.text.templates import Refused, Rendered

SHOWN = 30
# What tokenizers count as white space. Python counts four control characters more, which they can lose.
WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace() and not 0x1C <= code <= 0x1F)


@dataclass(frozen=True)
class Tokens:
    """Token ids of a row, and for each of them whether it is learned. Both have the same length."""

    ids: list[int]
    learned: list[bool]


@dataclass(frozen=True)
class _Cut:
    """A text cut into tokens: ids, the characters each covers, and the index of the token behind each boundary."""

    ids: list[int]
    spans: list[tuple[int, int]]
    breaks: dict[int, int]


def encode(rendered: Rendered, tokenizer: Any) -> Tokens:
    """The ids of one row. Raises `Refused` where they cannot be proved to be those of the text."""
    outcome = encode_many([rendered], tokenizer)[0]
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def encode_many(rows: Sequence[Rendered], tokenizer: Any) -> list[Tokens | Refused]:
    """The ids of many rows, in their order; in place of a row that cannot be used stands the reason."""
    special = special_tokens.of(tokenizer)
    anchored = [row for row in rows if row.boundaries and special.anchor is not None]
    cuts = iter(_cut([_with_anchors(row, special) for row in anchored], tokenizer))
    outcomes: list[Tokens | Refused] = []
    for row in rows:
        try:
            cut = _without_anchors(next(cuts), row, special) if row.boundaries and special.anchor is not None else None
            outcomes.append(_checked(row, cut, tokenizer, special))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def encode_prompt(text: str, tokenizer: Any) -> list[int]:
    """The ids of a server's prompt, in which special tokens are already written out.

    They are the first ids of the row whose last answer it asks for, if that answer alone is learned. A row in
    which earlier answers are learned breaks at each of their prompts' ends, too; a server that is asked for the
    last answer does not, so there a pair of line breaks, for one, may be cut otherwise inside the context.
    """
    ids: list[int] = _cut([text], tokenizer)[0].ids
    return ids


def runs(tokens: Tokens, tokenizer: Any) -> list[tuple[str, bool]]:
    """The row as text again: neighbouring tokens of one kind together, each with whether it is learned."""
    edges = [0] + [at for at in range(1, len(tokens.ids)) if tokens.learned[at] != tokens.learned[at - 1]]
    ends = [*edges[1:], len(tokens.ids)]
    return [
        (_decode(tokens.ids[begin:end], tokenizer), tokens.learned[begin])
        for begin, end in zip(edges, ends, strict=True)
        if begin < end
    ]


def check(rendered: Rendered, tokens: Tokens, tokenizer: Any) -> None:
    """Decodes a row, and raises `Refused` unless its ids are its text and its learned ids are its learned text.

    Only what tokenizers are known to do to any text is let pass: composing accents, swallowing or adding
    white space next to special tokens, and leaving out a space at the beginning of what is decoded. For that
    last one the whole text is compared as well as its learned parts: a space too many would not show in a part.
    """
    found = runs(tokens, tokenizer)
    expected = _expected_runs(rendered)
    if len(found) != len(expected):  # a special token may swallow the white space behind it, to the last character
        expected = [(text, learned) for text, learned in expected if learned or text.strip(WHITE_SPACE)]
    if [learned for _, learned in found] != [learned for _, learned in expected]:
        raise Refused("the learned tokens do not lie where the learned text lies")
    exact = _check_text(rendered.text, tokens.ids, tokenizer)
    control = special_tokens.of(tokenizer).control
    for (got, learned), (want, _) in zip(found, expected, strict=True):
        if learned and not (
            _same(got, want)
            or _same(got, want.removeprefix(" "))
            or (not exact and _bare(got, control) == _bare(want, control))
        ):
            raise Refused(f"the learned tokens are not the learned text: {_difference(want, got)}")


def _check_text(text: str, ids: list[int], tokenizer: Any) -> bool:
    """Whether the ids give back the text exactly; `Refused` if not even but for white space at special tokens."""
    decoded = _decode(ids, tokenizer)
    if _same(decoded, text):
        return True
    control = special_tokens.of(tokenizer).control
    got, want = _bare(decoded, control), _bare(text, control)
    if got != want:
        raise Refused(f"the tokenizer does not give the text back: {_difference(want, got)}")
    return False


def _checked(row: Rendered, anchored: _Cut | None, tokenizer: Any, special: SpecialTokens) -> Tokens:
    if anchored is not None:
        tokens = _tokens(row, anchored)
        try:
            check(row, tokens, tokenizer)
        except Refused:
            pass  # the anchor changed the text round it: see below whether the text breaks there of itself
        else:
            _check_start(tokens, special)
            return tokens
    tokens = _tokens(row, _as_it_is(row, tokenizer))
    check(row, tokens, tokenizer)
    _check_start(tokens, special)
    return tokens


def _check_start(tokens: Tokens, special: SpecialTokens) -> None:
    if special.start_id is not None and tokens.ids[:2] == [special.start_id, special.start_id]:
        raise Refused("the row begins with two beginning-of-sequence tokens", "take the one in the text out")


def _cut(texts: list[str], tokenizer: Any) -> list[_Cut]:
    if not texts:
        return []
    batch = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    return [_Cut(ids, spans, {}) for ids, spans in zip(batch["input_ids"], batch["offset_mapping"], strict=True)]


def _with_anchors(row: Rendered, special: SpecialTokens) -> str:
    edges = [0, *row.boundaries, len(row.text)]
    return str(special.anchor).join(row.text[begin:end] for begin, end in pairwise(edges))


def _without_anchors(cut: _Cut, row: Rendered, special: SpecialTokens) -> _Cut | None:
    """Takes the anchors out again, and sets the token positions right; `None` if one was not read as a token."""
    length = len(str(special.anchor))
    anchors = {boundary + number * length: boundary for number, boundary in enumerate(row.boundaries)}
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    breaks: dict[int, int] = {}
    for token, (begin, end) in zip(cut.ids, cut.spans, strict=True):
        if token == special.anchor_id and end - begin == length and begin in anchors:
            breaks[anchors[begin]] = len(ids)
        else:
            gone = len(breaks) * length
            ids.append(token)
            spans.append((begin - gone, end - gone))
    return _Cut(ids, spans, breaks) if len(breaks) == len(anchors) else None


def _as_it_is(row: Rendered, tokenizer: Any) -> _Cut:
    """The text cut without anchors; `Refused` if a token reaches across a boundary, or a prompt is cut otherwise."""
    cut = _cut([row.text], tokenizer)[0]
    _check_text(row.text, cut.ids, tokenizer)
    for boundary in row.boundaries:
        index = bisect_right(cut.spans, boundary, key=lambda span: span[1])
        before = encode_prompt(row.text[:boundary], tokenizer)
        if cut.ids[:index] != before:
            around = row.text[max(boundary - SHOWN, 0) : boundary + SHOWN]
            raise Refused(
                f"the tokenizer does not break where a prompt ends, in {around!r}",
                "end the prompt without white space, and begin the completion with a space or a new line",
            )
        cut.breaks[boundary] = index
    return cut


def _tokens(row: Rendered, cut: _Cut) -> Tokens:
    """Learned are the tokens from each boundary to the first one that reaches the end of the span."""
    learned = [False] * len(cut.ids)
    for start, end in row.learned:
        begin = cut.breaks[start] if start else 0
        last = len(cut.ids)
        if end < len(row.text):
            last = min(bisect_left(cut.spans, end, lo=begin, key=lambda span: span[1]) + 1, last)
        learned[begin:last] = [True] * (last - begin)
    return Tokens(cut.ids, learned)


def _expected_runs(rendered: Rendered) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    edges = [0, *(edge for span in rendered.learned for edge in span), len(rendered.text)]
    for number, (begin, end) in enumerate(pairwise(edges)):
        if begin < end and found and found[-1][1] == bool(number % 2):
            found[-1] = (found[-1][0] + rendered.text[begin:end], found[-1][1])
        elif begin < end:
            found.append((rendered.text[begin:end], bool(number % 2)))
    return found


def _decode(ids: list[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _same(got: str, want: str) -> bool:
    return got == want or unicodedata.normalize("NFC", got) == unicodedata.normalize("NFC", want)


def _bare(text: str, control: re.Pattern[str]) -> str:
    """The text without what tokenizers do to any text: compatibility forms, and white space at special tokens."""
    parts = control.split(unicodedata.normalize("NFKC", text))
    between = control.findall(text)
    return "".join(part.strip(WHITE_SPACE) + token for part, token in zip(parts, [*between, ""], strict=True))


def _difference(want: str, got: str) -> str:
    """Both texts from a little before the first character in which they differ."""
    same = next(
        (at for at, (left, right) in enumerate(zip(want, got, strict=False)) if left != right), min(len(want), len(got))
    )
    begin = max(same - SHOWN // 2, 0)
    return f"{want[begin : begin + SHOWN]!r} comes back as {got[begin : begin + SHOWN]!r}"
