"""Which rows are learned from and which are held out: splits, shares, weights and limits."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import pair, prompts, read, source, told, write

from runner.data import choice

pytestmark = pytest.mark.usefixtures("here")


def test_a_column_says_which_split_a_row_is_for() -> None:
    write("a.jsonl", [pair(1, split="train"), pair(2, split="evaluation"), pair(3), pair(4, split=None)])
    data = read("a.jsonl")
    assert (prompts(data.train), prompts(data.evaluation)) == (["p1", "p3", "p4"], ["p2"])
    write("b.jsonl", [{"question": "q", "completion": "c", "part": "evaluation"}])
    columns = (("prompt", "question"), ("split", "part"))
    assert prompts(read([source("a.jsonl"), source("b.jsonl", columns=columns)]).evaluation) == ["p2", "q"]


@pytest.mark.parametrize(
    ("split", "shown", "hint"),
    [
        ("validation", "validation", "write `evaluation`, or leave the row out"),
        ("test", "test", "write `evaluation`, or leave the row out"),
        ("Train", "Train", None),
        ("", "", None),
        (["train"], "['train']", None),
    ],
)
def test_an_unknown_split_is_told(split: Any, shown: str, hint: str | None) -> None:
    write("a.jsonl", [pair(1), pair(2, split=split)])
    assert told("a.jsonl") == [("a.jsonl:2", f"`split` is `{shown}`, not `train` or `evaluation`", hint)]


def test_a_training_row_in_a_source_for_evaluation_is_told() -> None:
    write("a.jsonl", [pair(1)])
    write("b.jsonl", [pair(2, split="evaluation"), pair(3, split="train")])
    hint = "name the file in `dataset.train` alone: its `split` is followed there"
    message = "the row says `split: train`, and its source is of `dataset.evaluation`"
    assert told("a.jsonl", [source("b.jsonl")]) == [("b.jsonl:2", message, hint)]


def test_a_share_and_a_column_cannot_both_say_what_to_evaluate_on() -> None:
    write("a.jsonl", [pair(1), pair(2, split="evaluation"), pair(3)])
    message = "the row is for evaluation by its `split`, and `dataset.evaluation` asks for a share of all rows"
    assert told("a.jsonl", evaluation_fraction=0.5) == [("a.jsonl:2", message, "use one of the two")]


def test_a_share_is_held_out_by_the_seed() -> None:
    write("a.jsonl", [pair(number) for number in range(100)])
    data = read("a.jsonl", evaluation_fraction=0.2)
    assert (len(data.train), len(data.evaluation)) == (80, 20)
    assert sorted(prompts(data.train) + prompts(data.evaluation)) == sorted(f"p{number}" for number in range(100))
    assert data == read("a.jsonl", evaluation_fraction=0.2)
    assert data.evaluation != read("a.jsonl", evaluation_fraction=0.2, seed=2).evaluation
    assert data.ledger.leaked == 0


def test_equal_rows_are_not_parted_by_a_share() -> None:
    write("a.jsonl", [pair(number % 10) for number in range(100)])
    data = read("a.jsonl", evaluation_fraction=0.2)
    assert len(data.evaluation) == 20 and not set(prompts(data.train)) & set(prompts(data.evaluation))


def test_a_share_of_very_few_rows() -> None:
    write("a.jsonl", [pair(1), pair(2)])
    assert len(read("a.jsonl", evaluation_fraction=0.01).evaluation) == 1
    assert len(read("a.jsonl", evaluation_fraction=0.99).train) == 1
    write("a.jsonl", [pair(1)])
    assert len(read("a.jsonl", evaluation_fraction=0.9).train) == 1
    write("a.jsonl", [pair(1), pair(1)])
    assert read("a.jsonl", evaluation_fraction=0.5).ledger.leaked == 1


def test_a_weight_below_one_takes_a_part_by_the_seed() -> None:
    write("a.jsonl", [pair(number) for number in range(100)])
    half = [source("a.jsonl", weight=0.5)]
    data = read(half)
    assert len(data.train) == 50 and prompts(data.train) == sorted(prompts(data.train), key=lambda name: int(name[1:]))
    assert data.ledger.dropped == {"weight below 1": 50}
    assert data == read(half) and data.train != read(half, seed=2).train
    assert len(read([source("a.jsonl", weight=0.001)]).train) == 1


def test_a_weight_above_one_repeats_and_holds_no_copy_out() -> None:
    write("a.jsonl", [pair(number) for number in range(10)])
    data = read([source("a.jsonl", weight=2.5)])
    assert Counter(Counter(prompts(data.train)).values()) == {2: 5, 3: 5}
    assert (data.ledger.kept, data.ledger.repeats) == (10, 15)
    data = read([source("a.jsonl", weight=2.0)], evaluation_fraction=0.2)
    assert (len(data.train), len(data.evaluation), data.ledger.leaked) == (16, 2, 0)


def test_a_weight_leaves_rows_that_ask_for_evaluation_alone() -> None:
    write("a.jsonl", [pair(1, split="evaluation"), pair(2), pair(3, split="evaluation"), pair(4)])
    data = read([source("a.jsonl", weight=3.0)])
    assert (len(data.train), len(data.evaluation)) == (6, 2)


def test_a_limit_is_of_each_split() -> None:
    write("a.jsonl", [pair(number) for number in range(50)])
    write("b.jsonl", [pair(number) for number in range(50, 60)])
    data = read("a.jsonl", [source("b.jsonl")], limit=5, shuffle=False)
    assert prompts(data.train) == [f"p{number}" for number in range(5)]
    assert prompts(data.evaluation) == [f"p{number}" for number in range(50, 55)]
    assert data.ledger.dropped == {"over the limit": 50}
    drawn = read("a.jsonl", limit=5)
    assert len(drawn.train) == 5 and drawn.train != data.train and drawn == read("a.jsonl", limit=5)
    assert [sample.place.line for sample in drawn.train] == sorted(sample.place.line for sample in drawn.train)


def test_rows_that_are_trained_and_evaluated_on_are_counted() -> None:
    write("a.jsonl", [pair(1), pair(2), pair(3)])
    write("b.jsonl", [pair(2), pair(4), pair(2, id=7)])
    assert read("a.jsonl", [source("b.jsonl")]).ledger.leaked == 2


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), max_size=30), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 9)
)  # fmt: skip
def test_what_is_held_out_keeps_its_promises(rows: list[int], fraction: float, seed: int) -> None:
    held = choice.held_out(rows, fraction, Random(seed))
    assert bool(held) == (len(rows) > 1) and len(held) < max(len(rows), 1)
    if len(set(rows)) > 1:
        assert not {rows[i] for i in held} & {row for i, row in enumerate(rows) if i not in held}


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(0, 40), weight=st.floats(0.001, 4), seed=st.integers(0, 9))
def test_weights_keep_their_promises(rows: int, weight: float, seed: int) -> None:
    copies = choice.copies(rows, weight, Random(seed))
    assert len(copies) == rows and set(copies) <= {int(weight), int(weight) + 1}
    assert abs(sum(copies) - rows * weight) <= 0.5 or (rows and sum(copies) == 1)
