"""How many rows are computed at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner import microbatch

LENGTHS = st.lists(st.integers(1, 5000), max_size=300)


@given(LENGTHS)
def test_quantiles_are_few_ordered_and_of_the_data(lengths: list[int]) -> None:
    found = microbatch.quantiles(lengths)
    assert len(found) == min(len(lengths), microbatch.QUANTILES)
    assert list(found) == sorted(found) and set(found) <= set(lengths)


@given(LENGTHS, st.integers(1, 4096), st.integers(1, 8), st.sampled_from(["cpu", "cuda"]), st.booleans())
def test_a_choice_divides_the_rows_and_fits(
    lengths: list[int], rows: int, processes: int, device: str, padded: bool
) -> None:
    most = 7
    size = microbatch.choose(rows, processes, microbatch.quantiles(lengths), device, padded, lambda size: size <= most)
    assert size is not None and rows % size == 0 and size <= most
    assert microbatch.choose(rows, processes, lengths, device, padded, lambda size: False) is None


def test_rows_of_one_length_are_taken_together_and_unlike_rows_apart() -> None:
    everything = lambda size: True  # noqa: E731
    assert microbatch.choose(16, 1, [80] * 64, "cpu", True, everything) == 16
    unlike = sorted([40] * 32 + [160] * 16 + [400] * 16)
    assert microbatch.choose(16, 1, unlike, "cpu", True, everything) == 4
    assert microbatch.choose(16, 1, unlike, "cpu", False, everything) == 16


def test_no_micro_batch_is_larger_than_a_device_has_use_for() -> None:
    assert microbatch.choose(64, 1, [4096], "cuda", False, lambda size: True) == 4


def test_padding_is_counted_by_the_longest_row_of_each_turn() -> None:
    assert microbatch.cost(4, 4, [10, 10, 10, 50], overhead=7) == 7 + 4 * 50
    assert microbatch.cost(4, 1, [10, 10, 10, 50], overhead=7) == 4 * 7 + 80
