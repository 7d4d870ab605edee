"""Two texts in, how many of their words agree out, 0 to 1: the measures for answers that may be worded otherwise."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
WORD = re.compile(r"[a-z0-9]+")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def token_f1(got: str, wanted: str) -> float:
    """The harmonic mean of precision and recall over words, each counted as often as it stands there.

    Words are compared in lower case, without ASCII punctuation and English articles. Where one text has no word left,
    the score is 1 if the other has none either. Rajpurkar et al. 2016 (SQuAD), as the script of SQuAD 2.0 has it.
    """
    answer, reference = _normalised(got), _normalised(wanted)
    if not answer or not reference:
        return float(answer == reference)
    return _harmonic((Counter(answer) & Counter(reference)).total(), len(answer), len(reference))


def rouge_l(got: str, wanted: str) -> float:
    """The harmonic mean of precision and recall of the longest common subsequence of words.

    Words are runs of ASCII letters and digits in lower case and are not stemmed, as in the `rouge-score` package; the
    text is taken as one sentence. Lin 2004, ROUGE-L with beta 1. A text without such words scores 0.
    """
    answer, reference = WORD.findall(got.lower()), WORD.findall(wanted.lower())
    return _harmonic(_common_subsequence(answer, reference), len(answer), len(reference))


def _normalised(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def _harmonic(common: int, got: int, wanted: int) -> float:
    return 2 * common / (got + wanted) if common else 0.0


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, in |one| operations on integers of |other| bits.

    Hyyrö 2004: bit j of `open_` is 0 where the subsequence of what was read grows at word j of `other`.
    """
    places: dict[str, int] = {}
    for number, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << number
    whole = (1 << len(other)) - 1
    open_ = whole
    for word in one:
        met = open_ & places.get(word, 0)
        open_ = ((open_ + met) | (open_ - met)) & whole
    return len(other) - open_.bit_count()
