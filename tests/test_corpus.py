"""Token rows of documents: to the token, read = trained + dropped, and every token but the first of all is learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from documents import settings, survey
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st
from samples import source, write

from runner import corpus
from runner.corpus import Corpus
from runner.errors import DataError, RecipeError
from runner.recipe import Dataset
from runner.token_rows import NOT_LEARNED, TokenRows

pytestmark = pytest.mark.usefixtures("here")

TEXTS = st.lists(st.text("ab \n.é", min_size=1, max_size=80).map(lambda text: "x" + text), min_size=1, max_size=8)


def made(wanted: Dataset, tokenizer: Any, length: int, wrapped: bool) -> Corpus:
    shutil.rmtree("rows", ignore_errors=True)
    return corpus.write(wanted, survey(wanted), tokenizer, length, wrapped, Path("rows"))


def texts(chosen: list[str]) -> Dataset:
    write("a.jsonl", [{"text": text} for text in chosen])
    return settings("a.jsonl")


def ids_of(chosen: list[str], tokenizer: Any) -> list[list[int]]:
    return [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in chosen]


def learned(rows: TokenRows) -> list[int]:
    return [label for row in rows for label in row["labels"] if label != NOT_LEARNED]


@given(chosen=TEXTS, length=st.integers(8, 40))
@checked(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_joined_documents_every_token_but_the_first_is_learned_once(
    tokenizer: Any, chosen: list[str], length: int
) -> None:
    found = made(texts(chosen), tokenizer, length, wrapped=True)
    rows = TokenRows(Path("rows/train"))
    joined = [token for ids in ids_of(chosen, tokenizer) for token in ids]
    assert learned(rows) == joined[1:]
    assert [row["length"] for row in rows][:-1] == [length] * (len(rows) - 1)
    counted = found.ledger["splits"]["train"]
    assert counted["learned_tokens"] + 1 == counted["tokens_read"] == counted["tokens_trained"] == len(joined)
    assert counted["tokens_dropped"] == {} and counted["documents"] == len(chosen)


@given(chosen=TEXTS, length=st.integers(8, 40), overflow=st.sampled_from(["split", "truncate", "drop"]))
@checked(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_apart_have_rows_of_their_own(tokenizer: Any, chosen: list[str], length: int, overflow: str) -> None:
    wanted = settings("a.jsonl", overflow=overflow)
    ids = ids_of(chosen, tokenizer)
    texts(chosen)
    kept = [each if overflow == "split" else each[:length] for each in ids]
    kept = [each for each, whole in zip(kept, ids, strict=True) if overflow != "drop" or len(whole) <= length]
    if not kept:
        with pytest.raises(DataError, match="no row is left"):
            made(wanted, tokenizer, length, wrapped=False)
        return
    found = made(wanted, tokenizer, length, wrapped=False)
    rows = TokenRows(Path("rows/train"))
    assert learned(rows) == [token for each in kept for token in each[1:]]
    counted = found.ledger["splits"]["train"]
    assert counted["tokens_trained"] + sum(counted["tokens_dropped"].values()) == counted["tokens_read"]
    assert counted["tokens_read"] == sum(map(len, ids))
    assert counted["tokens_trained"] == sum(map(len, kept)) == counted["learned_tokens"] + len(kept)
    assert found.ledger["read"] == found.ledger["kept"] + sum(found.ledger["dropped"].values()) == len(chosen)
    assert max(rows["length"]) <= length == max(length, counted["longest"])


def test_a_document_that_is_too_long_is_told_with_its_place(tokenizer: Any) -> None:
    write("a.jsonl", [{"text": "short"}, {"text": "long " * 20}])
    with pytest.raises(DataError) as raised:
        made(settings("a.jsonl", overflow="error"), tokenizer, 8, wrapped=False)
    (problem,) = raised.value.problems
    assert (str(problem.place), problem.message) == (
        "a.jsonl:2", "the document has 22 tokens, and at most 8 fit into a row",
    )  # fmt: skip
    assert problem.hint and "`split`" in problem.hint


def test_a_text_is_begun_as_the_tokenizer_begins_one(tokenizer: Any, dressed: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    begun = dressed(None)
    begun.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begun.bos_token} $A", special_tokens=[(begun.bos_token, begun.bos_token_id)]
    )
    made(texts(["one two", "three"]), begun, 32, wrapped=True)
    (row,) = TokenRows(Path("rows/train"))
    plain = ids_of(["one two", "three"], tokenizer)
    assert row["input_ids"] == [token for ids in plain for token in (begun.bos_token_id, *ids)]
    begun.eos_token = None
    with pytest.raises(RecipeError, match="no end-of-text token"):
        made(texts(["one"]), begun, 32, wrapped=True)


def test_splits_are_written_apart_and_the_hash_is_of_both(tokenizer: Any) -> None:
    write("a.jsonl", [{"text": "a b c"}])
    write("b.jsonl", [{"text": "d e f"}])
    wanted = settings("a.jsonl", evaluation=(source("b.jsonl", format="text"),))
    first = made(wanted, tokenizer, 8, wrapped=True)
    assert first.facts["train"]["rows"] == first.facts["evaluation"]["rows"] == 1
    assert made(wanted, tokenizer, 8, wrapped=True).fingerprint == first.fingerprint
    write("b.jsonl", [{"text": "d e g"}])
    assert made(wanted, tokenizer, 8, wrapped=True).fingerprint != first.fingerprint


def test_rows_can_be_picked_and_asked_for_columns(tokenizer: Any) -> None:
    made(texts(["a b c d e f g h i j k l m n o p"]), tokenizer, 8, wrapped=True)
    rows = TokenRows(Path("rows/train"))
    assert list(rows["length"]) == [8, 8, 3] and list(rows["learned"]) == [7, 7, 2]
    assert rows[-1] == rows[2] and len(rows.select(range(2))) == 2
    assert list(rows.select(range(1, 3))) == [rows[1], rows[2]]
    assert rows[0]["input_ids"][-1] == rows[1]["input_ids"][0]
    with pytest.raises(IndexError):
        rows[3]
