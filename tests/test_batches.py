"""The order of rows: each taken once an epoch, equally many micro-batches on each process, no state."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runner import batches, recipe
from runner.batches import FILLER, Order
from runner.steps import count


@st.composite
def orders(draw: st.DrawFn) -> Order:
    micro, processes, accumulation = (draw(st.integers(1, most)) for most in (4, 5, 4))
    return Order(
        lengths=draw(st.lists(st.integers(1, 50), min_size=1, max_size=40)),
        batch_size=micro * processes * accumulation,
        micro=micro,
        processes=processes,
        total_steps=draw(st.integers(0, 12)),
        seed=draw(st.integers(0, 2**32 - 1)),
        shuffle=draw(st.booleans()),
    )


def whole_epochs(order: Order, epochs: int) -> Order:
    an_epoch = -(-len(order.lengths) // order.batch_size)
    return replace(order, total_steps=epochs * an_epoch)


def shares(order: Order) -> list[list[list[int]]]:
    return [list(batches.micro_batches(order, rank)) for rank in range(order.processes)]


def training(**changes: Any) -> recipe.Training:
    values: dict[str, Any] = {
        "epochs": 1.0, "max_steps": None, "learning_rate": 1e-4, "scheduler": "cosine", "scheduler_settings": (),
        "warmup_ratio": 0.0, "embedding_learning_rate": None,
        "optimizer": "adamw_torch", "weight_decay": 0.0, "max_grad_norm": 1.0, "batch_size": 4,
        "micro_batch_size": None, "packing": "auto", "gradient_checkpointing": "auto", "seed": 0, "log_every": 1,
        "evaluate_every": None, "early_stopping": None, "checkpoints": recipe.Checkpoints(None, 2, None),
        "non_finite": "stop", "stall_timeout": None,
    }  # fmt: skip
    return recipe.Training(**(values | changes))


@given(orders(), st.integers(1, 3))
def test_every_row_of_each_epoch_is_taken_once_over_all_processes(order: Order, epochs: int) -> None:
    order = whole_epochs(order, epochs)
    taken = Counter(row for share in shares(order) for micro in share for row in micro if row != FILLER)
    assert taken == dict.fromkeys(range(len(order.lengths)), epochs)


@given(orders())
def test_each_step_holds_the_rows_of_one_epoch_only(order: Order) -> None:
    an_epoch = -(-len(order.lengths) // order.batch_size)
    steps = list(batches.steps(whole_epochs(order, 2)))
    for epoch in (steps[:an_epoch], steps[an_epoch:]):
        assert sorted(itertools.chain(*epoch)) == list(range(len(order.lengths)))
        assert all(len(step) == order.batch_size for step in epoch[:-1])


@given(orders())
def test_processes_have_equally_many_micro_batches(order: Order) -> None:
    accumulation = order.batch_size // (order.micro * order.processes)
    assert {len(share) for share in shares(order)} == {order.total_steps * accumulation}


@given(orders())
def test_a_micro_batch_is_never_empty_and_never_above_its_size(order: Order) -> None:
    assert all(1 <= len(micro) <= order.micro for share in shares(order) for micro in share)


@given(orders())
def test_a_filler_stands_alone_and_only_where_the_rows_of_a_step_run_out(order: Order) -> None:
    accumulation = order.batch_size // (order.micro * order.processes)
    for step, rows in enumerate(batches.steps(order)):
        dealt = [share[step * accumulation : (step + 1) * accumulation] for share in shares(order)]
        flat = [micro for share in dealt for micro in share]
        assert sorted(row for micro in flat for row in micro if row != FILLER) == sorted(rows)
        assert all(micro == [FILLER] for micro in flat if FILLER in micro)
        if len(rows) == order.batch_size:
            assert [FILLER] not in flat
        for turn in range(accumulation):  # no process gets a second row of a turn before each has its first
            sizes = [len(share[turn]) if share[turn] != [FILLER] else 0 for share in dealt]
            assert max(sizes) - min(sizes) <= 1


@given(orders())
def test_the_longest_rows_of_a_step_come_first(order: Order) -> None:
    accumulation = order.batch_size // (order.micro * order.processes)
    for share in shares(order):
        for start in range(0, len(share), accumulation):
            turns = share[start : start + accumulation]
            lengths = [order.lengths[row] for micro in turns for row in micro if row != FILLER]
            assert lengths == sorted(lengths, reverse=True)


@given(orders())
def test_the_same_arguments_give_the_same_list(order: Order) -> None:
    assert shares(order) == shares(replace(order, lengths=tuple(order.lengths)))


@given(orders(), st.data())
def test_a_run_that_goes_on_takes_the_tail_of_the_whole_list(order: Order, data: st.DataObject) -> None:
    shorter = replace(order, total_steps=data.draw(st.integers(0, order.total_steps)))
    for whole, head in zip(shares(order), shares(shorter), strict=True):
        assert whole[: len(head)] == head
    assert len(list(batches.steps(shorter))) == shorter.total_steps


def test_shuffling_depends_on_the_seed_and_the_epoch() -> None:
    order = Order([1] * 64, 64, 64, 1, 2, seed=0, shuffle=True)
    first, second = batches.steps(order)
    (other, _) = batches.steps(replace(order, seed=1))
    assert len({tuple(first), tuple(second), tuple(other), tuple(range(64))}) == 4
    assert list(batches.steps(replace(order, shuffle=False))) == [list(range(64))] * 2


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 3))
def test_as_many_steps_as_the_plan_counts(rows: int, batch_size: int, epochs: int) -> None:
    counted = count(training(batch_size=batch_size, epochs=float(epochs)), rows, 0)
    order = Order([1] * rows, batch_size, batch_size, 1, counted.total, 0, True)
    steps = list(batches.steps(order))
    assert len(steps) == counted.total == epochs * counted.an_epoch
    assert Counter(itertools.chain(*steps)) == dict.fromkeys(range(rows), epochs)


def test_a_short_last_step_is_spread_over_the_processes() -> None:
    order = Order(lengths=[5, 9, 7], batch_size=8, micro=2, processes=2, total_steps=1, seed=0, shuffle=False)
    assert shares(order) == [[[1, 0], [FILLER]], [[2], [FILLER]]]


def test_more_processes_than_rows() -> None:
    order = Order(lengths=[3, 4], batch_size=4, micro=1, processes=4, total_steps=1, seed=0, shuffle=False)
    assert shares(order) == [[[1]], [[0]], [[FILLER]], [[FILLER]]]


def test_without_rows_there_is_no_step() -> None:
    assert list(batches.steps(Order([], 4, 4, 1, 3, 0, True))) == []


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 4), st.integers(1, 5))
def test_held_out_rows_are_each_taken_once(lengths: list[int], micro: int, processes: int) -> None:
    shared = [batches.evaluation_batches(lengths, micro, processes, rank) for rank in range(processes)]
    assert len({len(share) for share in shared}) == 1
    taken = [row for share in shared for one in share for row in one if row != FILLER]
    assert sorted(taken) == list(range(len(lengths)))
    assert all(1 <= len(one) <= micro for share in shared for one in share)


def test_a_long_run_is_counted_without_being_made() -> None:
    order = Order(lengths=[5] * 10, batch_size=4, micro=1, processes=2, total_steps=10**12, seed=0, shuffle=True)
    micro_batches = batches.MicroBatches(order, 1)
    assert len(micro_batches) == 2 * 10**12
    first = [next(iter(micro_batches)) for _ in range(2)]
    assert first[0] == first[1]
