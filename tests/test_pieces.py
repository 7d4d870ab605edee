"""Tokens of long texts: windows that overlap give the ids of the whole text, with the real tokenizer and others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.text import pieces
from runner.text.pieces import Part, Sizes

SMALL = Sizes(window=160, overlap=64, at_once=400, agreed=8)
WORDS = st.sampled_from(
    ["the", "Tokens", "naïve", "don't", "3.14159", "def f(x):", "    return", "…", "日本語", "🙂", "e\u0301", "a,b;c"]
)
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n\n", ", ", ".\n", "\t", "  ", "\r\n"])
PROSE = st.lists(st.tuples(WORDS, GAPS), max_size=150).map(lambda pairs: "".join(word + gap for word, gap in pairs))


def parts(texts: Iterable[str], size: int) -> Iterable[Part[int]]:
    for number, text in enumerate(texts):
        cuts = range(0, max(len(text), 1), size)
        for start in cuts:
            yield Part(number, text[start : start + size], start == cuts[-1])


def ids_of(texts: list[str], tokenizer: Any, size: int, sizes: Sizes) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in texts]
    ended = []
    for each in pieces.encode(parts(texts, size), tokenizer, sizes):
        found[each.key] += each.ids
        ended += [each.key] * each.ends
    assert ended == list(range(len(texts)))
    return found


@given(texts=st.lists(PROSE, max_size=4), size=st.sampled_from([7, 100, 10**6]))
@settings(deadline=None, max_examples=200)
def test_ids_in_windows_are_those_of_the_whole_text(tokenizer: Any, texts: list[str], size: int) -> None:
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert ids_of(texts, tokenizer, size, SMALL) == whole


@given(text=st.text(st.sampled_from("aab =\n-é🙂"), max_size=900), size=st.sampled_from([7, 100, 10**6]))
@settings(deadline=None, max_examples=200)
def test_no_character_is_lost_where_windows_do_not_agree(tokenizer: Any, text: str, size: int) -> None:
    (ids,) = ids_of([text], tokenizer, size, SMALL)
    assert tokenizer.decode(ids) == text


def llama() -> Any:
    """A tokenizer that writes a mark for each space, and one in front of whatever it is given."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = {character: number for number, character in enumerate("▁abcdefghijklmnopqrstuvwxyz.\n")}
    merged = {"▁t": 100, "he": 101, "▁the": 102, "in": 103, "▁a": 104}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("▁", "a")]
    inner = Tokenizer(models.BPE({**letters, **merged}, merges))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Replace("▁", " ")
    return PreTrainedTokenizerFast(tokenizer_object=inner)


@given(words=st.lists(st.sampled_from(["the", "a", "in", "then", "tide", ".", "\n"]), min_size=1, max_size=200))
@settings(deadline=None)
def test_a_tokenizer_that_puts_something_in_front_does_so_once(words: list[str]) -> None:
    text, tokenizer = " ".join(words), llama()
    assert ids_of([text], tokenizer, 100, SMALL) == [tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("length", [2**16, 2**16 + 1, 3 * 2**16])
def test_windows_of_the_size_that_is_used(tokenizer: Any, length: int) -> None:
    text = ("The quick brown fox, of 1,024 colours.\n\nIt jumps (over) the 'lazy' dog; " * 4000)[:length]
    assert ids_of([text], tokenizer, 2**20, Sizes()) == [tokenizer(text, add_special_tokens=False)["input_ids"]]
