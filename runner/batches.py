"""Which rows a process computes in which micro-batch: one list for the whole run, the same for the same seed.

Every optimiser step takes the next `batch_size` rows of a shuffled epoch, exactly as an unpacked run would. Within
a step the rows are sorted by length and dealt out, so that a micro-batch holds rows of like length and little
padding, and every process has about the same work. The loss is averaged over the step's learned tokens, so the
grouping changes the speed and not the result.

The list depends on nothing but its arguments: a run that goes on from step n takes the list from step n.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FILLER = -1  # stands for a row from which nothing is learned, where a process would have none


@dataclass(frozen=True)
class Order:
    """How rows become micro-batches. `lengths` are the rows' tokens, in the order of the data."""

    lengths: Sequence[int]
    batch_size: int
    micro: int
    processes: int
    total_steps: int
    seed: int
    shuffle: bool


def steps(order: Order) -> Iterator[list[int]]:
    """The rows of each optimiser step. An epoch's last step is shorter where the rows do not divide evenly."""
    done = epoch = 0
    while order.lengths and done < order.total_steps:
        rows = array("Q", range(len(order.lengths)))  # a third of a list's memory
        if order.shuffle:
            random.Random(f"{order.seed}/{epoch}").shuffle(rows)
        for start in range(0, len(rows), order.batch_size):
            yield rows[start : start + order.batch_size].tolist()
            done += 1
            if done == order.total_steps:
                return
        epoch += 1


def micro_batches(order: Order, rank: int) -> Iterator[list[int]]:
    """One process's micro-batches, as row numbers; a step has equally many on every process."""
    accumulation = order.batch_size // (order.micro * order.processes)
    for rows in steps(order):
        yield from deal(rows, order.lengths, order.micro, order.processes, accumulation)[rank]


class MicroBatches:
    """One process's micro-batches as a batch sampler: counted beforehand, made one by one."""

    def __init__(self, order: Order, rank: int) -> None:
        self.order, self.rank = order, rank

    def __len__(self) -> int:
        return self.order.total_steps * (self.order.batch_size // (self.order.micro * self.order.processes))

    def __iter__(self) -> Iterator[list[int]]:
        return micro_batches(self.order, self.rank)


def deal(
    rows: Sequence[int], lengths: Sequence[int], micro: int, processes: int, accumulation: int
) -> list[list[list[int]]]:
    """One step's rows as [process][micro-batch][row], the longest first.

    The longest come first so that a step which does not fit into memory fails at once and not in its middle.
    """
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    dealt: list[list[list[int]]] = [[] for _ in range(processes)]
    for turn in range(accumulation):
        group = ordered[turn * micro * processes : (turn + 1) * micro * processes]
        for rank in range(processes):
            dealt[rank].append(group[rank::processes] or [FILLER])
    return dealt


def evaluation_batches(lengths: Sequence[int], micro: int, processes: int, rank: int) -> list[list[int]]:
    """One process's share of the held-out rows, as micro-batches; equally many on every process."""
    turns = -(-len(lengths) // (micro * processes))
    return deal(range(len(lengths)), lengths, micro, processes, turns)[rank]
