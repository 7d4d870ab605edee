"""Which of two sets' members go together, one to one: as many as can, whatever the order they come in."""

from __future__ import annotations

from collections.abc import Sequence


def most_pairs(fits: Sequence[Sequence[bool]]) -> int:
    """How many pairs a largest matching has. `fits[a][b]` says whether member a may go with member b.

    By augmenting paths (Kuhn 1955; Hopcroft and Karp's search is not needed for the few calls of a turn). Taking the
    first partner that fits may leave a later member without its only one; a path moves the earlier one on.
    """
    partner: dict[int, int] = {}  # b -> a

    def paired(member: int, tried: set[int]) -> bool:
        for other, fit in enumerate(fits[member]):
            if fit and other not in tried:
                tried.add(other)
                if other not in partner or paired(partner[other], tried):
                    partner[other] = member
                    return True
        return False

    return sum(paired(member, set()) for member in range(len(fits)))
