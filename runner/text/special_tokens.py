"""What a tokenizer does of its own accord: its special tokens, and what it puts round a text.

In: a transformers fast tokenizer. Out: `SpecialTokens`, worked out once for each tokenizer.
"""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from typing import Any

from runner.errors import Problem, RecipeError


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that a tokenizer reads as one unit wherever their text stands."""

    control: re.Pattern[str]  # any token marked as special
    added: re.Pattern[str]  # any token added to the vocabulary, special or not, that is not white space
    start: str | None  # the beginning-of-sequence token, where the tokenizer itself puts it before a text
    start_id: int | None  # the beginning-of-sequence token's id, whether or not the tokenizer puts it there
    end: str | None  # the end-of-sequence token
    anchor: str | None  # a special token that leaves the text on both sides of it as it is
    anchor_id: int | None


_known: weakref.WeakKeyDictionary[Any, tuple[tuple[object, ...], SpecialTokens]] = weakref.WeakKeyDictionary()


def of(tokenizer: Any) -> SpecialTokens:
    """The special tokens of a tokenizer. Raises `RecipeError` where it cannot say which characters a token covers."""
    signature = (len(tokenizer), tokenizer.bos_token, tokenizer.eos_token)
    known = _known.get(tokenizer)
    if known is None or known[0] != signature:
        known = (signature, _read(tokenizer))
        _known[tokenizer] = known
    return known[1]


def _read(tokenizer: Any) -> SpecialTokens:
    if not tokenizer.is_fast:
        raise RecipeError(
            Problem(
                "the model's tokenizer does not tell which characters a token covers, so no mask can be proved",
                hint="use a model whose repository holds a `tokenizer.json`",
            )
        )
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.content.strip()}
    named = {text for text in tokenizer.all_special_tokens if text.strip()}
    control = named | {text for text, token in added.items() if token.special}
    plain = [
        text
        for text in sorted(control)
        if text in added and not (added[text].lstrip or added[text].rstrip or added[text].single_word)
    ]
    anchor = plain[0] if plain else None
    start_id = tokenizer.bos_token_id
    starts = start_id is not None and tokenizer("a")["input_ids"][:1] == [start_id]
    return SpecialTokens(
        control=_any_of(control),
        added=_any_of(control | set(added)),
        start=tokenizer.bos_token if starts else None,
        start_id=start_id,
        end=tokenizer.eos_token,
        anchor=anchor,
        anchor_id=tokenizer.convert_tokens_to_ids(anchor) if anchor is not None else None,
    )


def _any_of(texts: set[str]) -> re.Pattern[str]:
    # The longest comes first: `<|end|>` must not hide `<|end|><|stop|>`. Without any text, nothing must match.
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or r"(?!)")
