"""The proof that rows which are laid together do not see each other.

One row's loss is computed behind another row, then behind the same row with every token exchanged. Where attention
keeps rows apart, the two losses are the same; where a kernel ignores the boundaries, they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.errors import Problem, RunError
from runner.text.encoding import NOT_LEARNED

LEAK = 1e-5  # of a loss, relative; the same row in the same place gives the same sums, to the last bit on most kernels

Row = dict[str, list[int]]


def prove(
    first: Row, second: Row, vocabulary: int, collate: Callable[[list[Row]], Any], loss: Callable[[Any], float]
) -> None:
    """Raise RunError unless the second row's loss is the same whatever tokens the first one has.

    `collate` lays rows together as training does, `loss` is a batch's mean loss over its learned tokens.
    """
    losses = []
    for shift in (0, vocabulary // 2):
        tokens = [(token + shift) % vocabulary for token in first["input_ids"]]
        front = first | {"input_ids": tokens, "labels": [NOT_LEARNED] * len(tokens)}
        losses.append(loss(collate([front, second])))
    if abs(losses[0] - losses[1]) > LEAK * max(abs(losses[0]), 1.0):
        raise RunError(
            Problem(
                f"packed rows see each other: one row's loss is {losses[0]:.4f} or {losses[1]:.4f}, "
                "by what stands in front of it",
                hint="use `training.packing: none`, or another `model.attention`",
            )
        )
