"""Token rows: what is too long is cut, split, left out or refused as the recipe says, and always counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settled import recipe_of

from runner import recipe
from runner.data.dataset import FileLedger, Ledger, Sample
from runner.data.examples import Chat, Instruction, Message
from runner.errors import DataError, Place
from runner.text import encoding
from runner.text.encoding import NOT_LEARNED, NOTHING_LEARNED, REFUSED, TOO_LONG, Encoded, TokenRow

DATASET = recipe_of().dataset
LONG = 10_000  # tokens; longer than any row here


def samples(*pairs: tuple[str, str]) -> list[Sample]:
    return [Sample(Instruction(*pair), Place("rows.jsonl", line)) for line, pair in enumerate(pairs, 1)]


def encode(rows: Sequence[Sample], tokenizer: Any, most: int = LONG, **changes: Any) -> Encoded:
    plain: dict[str, Any] = {"apply_chat_template": "false", "overflow": "error"}
    return encoding.encode(rows, tokenizer, replace(DATASET, **(plain | changes)), most)


def count(text: str, tokenizer: Any) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_row_has_the_labels_of_its_answer(tokenizer: Any) -> None:
    (row,) = encode(samples(("one two three", " four five")), tokenizer).rows
    prompt = count("one two three", tokenizer)
    assert row.labels == [NOT_LEARNED] * prompt + row.ids[prompt:]
    assert row.learned == len(row.ids) - prompt == count(" four five", tokenizer) + 1  # and the end of the text
    assert row.place == Place("rows.jsonl", 1)


def test_the_first_token_is_never_learned(tokenizer: Any) -> None:
    (row,) = encode(samples(("one two", " three")), tokenizer, learn="all").rows
    assert row.labels == [NOT_LEARNED, *row.ids[1:]]


def test_rows_keep_their_order_over_many_calls(tokenizer: Any) -> None:
    many = samples(*((f"question {number}", f" {number}") for number in range(encoding.AT_ONCE + 5)))
    assert [row.place.line for row in encode(many, tokenizer).rows] == list(range(1, encoding.AT_ONCE + 6))


@pytest.mark.parametrize(("asked", "used"), [("auto", True), ("true", True), ("false", False)])
def test_whether_the_chat_template_is_used(tokenizer: Any, asked: str, used: bool) -> None:
    wanted: recipe.Dataset = replace(DATASET, apply_chat_template=asked)
    assert encoding.uses_template(wanted, tokenizer) is used
    (row,) = encode(samples(("Hello", "Hi")), tokenizer, apply_chat_template=asked).rows
    assert ("<|im_start|>" in tokenizer.decode(row.ids)) is used


# too long

PAIR = ("one two three", " four five six seven eight nine ten")


@pytest.fixture(scope="module")
def whole(tokenizer: Any) -> TokenRow:
    (row,) = encode(samples(PAIR), tokenizer).rows
    return row


def test_a_row_of_just_the_length_is_kept(tokenizer: Any, whole: TokenRow) -> None:
    assert encode(samples(PAIR), tokenizer, len(whole.ids)).rows == [whole]


def test_a_longer_row_is_a_fault(tokenizer: Any, whole: TokenRow) -> None:
    length = len(whole.ids)
    encoded = encode(samples(PAIR, ("a", "b"), PAIR), tokenizer, length - 1)
    assert len(encoded.rows) == 1 and not encoded.dropped
    with pytest.raises(DataError) as caught:
        encoding.raise_faults([encoded, encoded])
    assert caught.value.total == 4
    assert [problem.place.line for problem in caught.value.problems if problem.place] == [1, 3, 1, 3]
    assert caught.value.problems[0].message == f"the row has {length} tokens, and at most {length - 1} fit"


def test_faults_beyond_the_first_are_counted(tokenizer: Any) -> None:
    encoded = encode(samples(*[PAIR] * 50), tokenizer, 8)
    with pytest.raises(DataError) as caught:
        encoding.raise_faults([encoded])
    assert caught.value.total == 50 > len(caught.value.problems)
    encoding.raise_faults([encode(samples(("a", "b")), tokenizer)])


def test_a_longer_row_is_left_out(tokenizer: Any, whole: TokenRow) -> None:
    encoded = encode(samples(PAIR, ("a", "b")), tokenizer, len(whole.ids) - 1, overflow="drop")
    assert (len(encoded.rows), encoded.dropped, encoded.problems) == (1, {TOO_LONG: 1}, [])
    (rejected,) = encoded.rejected
    assert rejected.place.line == 1 and "tokens, and at most" in rejected.problem.message


def test_a_longer_row_is_cut(tokenizer: Any, whole: TokenRow) -> None:
    encoded = encode(samples(PAIR), tokenizer, 8, overflow="truncate")
    assert encoded.rows == [TokenRow(whole.ids[:8], whole.labels[:8], whole.place)]
    assert (encoded.truncated, encoded.windows, encoded.dropped) == (1, 0, {})


def test_a_row_of_which_only_the_question_is_left_is_left_out(tokenizer: Any) -> None:
    encoded = encode(samples(("one two three four five six seven", "x")), tokenizer, 4, overflow="truncate")
    assert (encoded.rows, encoded.truncated, encoded.dropped) == ([], 0, {TOO_LONG: 1})


def test_a_longer_row_is_split(tokenizer: Any, whole: TokenRow) -> None:
    encoded = encode(samples(PAIR), tokenizer, 5, overflow="split")
    first, *others = encoded.rows
    assert first.ids == whole.ids[:5] and first.labels == whole.labels[:5]
    for before, after in zip(encoded.rows, others, strict=False):
        assert after.ids[0] == before.ids[-1] and after.labels[0] == NOT_LEARNED
    assert encoded.windows == len(encoded.rows) > 2
    assert (encoded.truncated, encoded.dropped) == (0, {})


WORDS = st.lists(st.sampled_from(["one", " two", "three ", "\n", "é", "日本", "."]), min_size=1, max_size=30).map(
    "".join
)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAIRS, st.integers(2, 40), st.sampled_from(["error", "drop", "truncate", "split"]))
def test_no_sample_vanishes(tokenizer: Any, pairs: list[tuple[str, str]], most: int, overflow: str) -> None:
    given_samples = samples(*pairs)
    unlimited = {row.place.line: row for row in encode(given_samples, tokenizer).rows}
    encoded = encode(given_samples, tokenizer, most, overflow=overflow)
    assert all(2 <= len(row.ids) <= most for row in encoded.rows)
    assert all(row.learned and row.labels[0] == NOT_LEARNED for row in encoded.rows)
    by_sample: dict[int, list[TokenRow]] = {}
    for row in encoded.rows:
        by_sample.setdefault(row.place.line, []).append(row)
    assert len(pairs) == len(by_sample) + encoded.dropped.total() + len(encoded.problems)
    assert encoded.dropped.total() == len(encoded.rejected)
    pieces = sum(len(rows) for line, rows in by_sample.items() if len(unlimited[line].ids) > most)
    assert encoded.windows == (pieces if overflow == "split" else 0)
    assert encoded.truncated == (pieces if overflow == "truncate" else 0)
    if overflow == "split":  # every token that was to be learned is learned once
        for line, row in unlimited.items():
            learned = [label for label in row.labels if label != NOT_LEARNED]
            assert [x for piece in by_sample[line] for x in piece.labels if x != NOT_LEARNED] == learned
    if overflow != "error":
        assert not encoded.problems


# rows that cannot be learned from


def chat(*turns: tuple[str, str]) -> Sample:
    return Sample(Chat(tuple(Message(*turn) for turn in turns)), Place("chat.jsonl", 7))


REFUSING = "{{ messages[0].content | upper }}"  # no turn can be found again in what this renders


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_row_for_which_no_mask_can_be_proved(dressed: Any, on_bad_row: str) -> None:
    rows = [chat(("user", "Hello there"), ("assistant", "Hi")), *samples(("a", "b"))]
    encoded = encode(rows, dressed(REFUSING), apply_chat_template="true", on_bad_row=on_bad_row)
    assert not encoded.rows
    if on_bad_row == "skip":
        assert (encoded.dropped, encoded.problems) == ({REFUSED: 2}, [])
        assert [each.place.line for each in encoded.rejected] == [7, 1]
    else:
        assert (encoded.dropped, len(encoded.problems)) == ({}, 2)


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_row_without_a_token_to_learn(tokenizer: Any, on_bad_row: str) -> None:
    encoded = Encoded()
    sample = samples(("a", "b"))[0]
    nothing = encoding.Tokens([1, 2, 3], [True, False, False])  # the first is predicted from nothing
    encoding._keep(encoded, sample, nothing, replace(DATASET, on_bad_row=on_bad_row), LONG)
    assert not encoded.rows
    if on_bad_row == "skip":
        assert (encoded.dropped, encoded.problems) == ({NOTHING_LEARNED: 1}, [])
    else:
        (problem,) = encoded.problems
        assert (problem.message, problem.place) == ("the row has no token to learn", Place("rows.jsonl", 1))


def test_no_samples_are_no_rows(tokenizer: Any) -> None:
    assert encode([], tokenizer) == Encoded()


def test_the_files_ledger_counts_what_was_dropped_here_once_a_row(tokenizer: Any) -> None:
    rows = samples(("short", " one"), ("long " * 40, " two"), ("short", " three"))
    encoded = encode([*rows, rows[1]], tokenizer, most=20, overflow="drop")  # the long row is there twice, by weight
    file = FileLedger("rows.jsonl", read=4, kept=3, dropped={"invalid": 1})
    whole = encoding.whole_ledger(Ledger((file,), repeats=1, leaked=0, unanswered=0), (encoded,))
    assert encoded.dropped[TOO_LONG] == 2 and len(encoded.rejected) == 1
    assert whole.dropped == {"invalid": 1, TOO_LONG: 1}
    assert whole.read == whole.kept + sum(whole.dropped.values()) == 4
    assert "two" in encoded.rejected[0].raw
