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


@given(LENGTHS, st.integers(1, 4096), st.integers(1, 8), st.integers(1, 10**5), st.booleans())
def test_a_choice_divides_the_rows_and_fits(
    lengths: list[int], rows: int, processes: int, overhead: int, padded: bool
) -> None:
    most = 7
    size = microbatch.choose(
        rows, processes, microbatch.quantiles(lengths), overhead, padded, lambda size: size <= most
    )
    assert size is not None and rows % size == 0 and size <= most
    assert microbatch.choose(rows, processes, lengths, overhead, padded, lambda size: False) is None


def test_rows_of_one_length_are_taken_together_and_unlike_rows_apart() -> None:
    everything, overhead = lambda size: True, microbatch.overhead("cpu", 30, 135_000_000)  # noqa: E731
    assert microbatch.choose(16, 1, [80] * 64, overhead, True, everything) == 16
    unlike = sorted([40] * 32 + [160] * 16 + [400] * 16)
    assert microbatch.choose(16, 1, unlike, overhead, True, everything) == 4
    assert microbatch.choose(16, 1, unlike, overhead, False, everything) == 16


def test_no_micro_batch_is_larger_than_a_device_has_use_for() -> None:
    assert microbatch.choose(64, 1, [4096], 1000, False, lambda size: True) == 4
    assert microbatch.choose(64, 1, [4096], 4096, False, lambda size: True) == 8


def test_small_layers_leave_a_gpu_waiting_for_the_next_kernel() -> None:
    small, large = microbatch.overhead("cuda", 30, 134_515_008), microbatch.overhead("cuda", 16, 1_100_000_000)
    assert 50_000 < small < 80_000 and 4_000 < large < 6_000  # as measured on an H200, by half
    assert microbatch.overhead("cuda", 0, 0) == microbatch.UNKNOWN
    assert microbatch.overhead("cpu", 30, 134_515_008) == microbatch.ON_A_CPU


def test_padding_is_counted_by_the_longest_row_of_each_turn() -> None:
    assert microbatch.cost(4, 4, [10, 10, 10, 50], overhead=7) == 7 + 4 * 50
    assert microbatch.cost(4, 1, [10, 10, 10, 50], overhead=7) == 4 * 7 + 80
