"""Penalty for a text that repeats itself: a completion goes in, 0 down to `-most` comes out."""

from typing import Any

LONGEST_WORD = 16


def repetition_penalty(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    size: int = 3,
    unit: str = "words",
    free_share: float = 0.0,
    most: float = 1.0,
) -> float:
    """Take away by the share of word groups that stood in the completion before; the result is never above 0.

    Of the groups of `size` words that follow each other, the share is counted that repeats an earlier group. The
    penalty is 0 up to `free_share` and grows in a straight line to `most` where every group but one is a repeat
    of it. A completion with no two groups has nothing to repeat and costs nothing.

    Options:
    - `size`: how many words make a group.
    - `unit`: `words`, or `characters` for languages that do not part words with spaces. Upper and lower case are
      the same, and a word of more than 16 characters counts as several.
    - `free_share`: the share of repeats, 0 to below 1, that costs nothing. Long texts repeat a little by nature.
    - `most`: the largest penalty.

    What can be gamed: a short completion has nothing to repeat, so a policy that is paid by this alone learns to
    say nothing; one changed word in each group hides a repeat. Set it beside a reward for the content.

    Raises ValueError for a bad option.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError("`size` must be a whole number of 1 or more")
    if unit not in ("words", "characters"):
        raise ValueError("`unit` must be `words` or `characters`")
    if not is_number(free_share) or not 0 <= free_share < 1:
        raise ValueError("`free_share` must be a number from 0 to below 1")
    if not is_number(most) or not 0 < most < float("inf"):
        raise ValueError("`most` must be a number above 0")

    words = completion.casefold().split()
    if unit == "characters":
        pieces = list("".join(words))
    else:
        # Else a line of one letter without spaces were one word that repeats nothing.
        pieces = [word[at : at + LONGEST_WORD] for word in words for at in range(0, len(word), LONGEST_WORD)]
    groups = [tuple(pieces[at : at + size]) for at in range(len(pieces) - size + 1)]
    if len(groups) < 2:
        return 0.0
    share = (len(groups) - len(set(groups))) / (len(groups) - 1)
    return -most * (share - free_share) / (1 - free_share) if share > free_share else 0.0


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
