"""Bare prompts: which rows are one, what becomes of their other columns, and the tokens that a model is asked with."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from samples import read, source, told, write

from runner import recipe
from runner.data.dataset import Sample
from runner.data.examples import Message, Question
from runner.errors import Place
from runner.text import encoding, questions, tokens
from runner.text.encoding import Encoded

pytestmark = pytest.mark.usefixtures("here")

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def asked(*rows: Any, name: str = "a.jsonl", **given: Any) -> list[Question]:
    """The prompts of a file with these rows."""
    write(name, rows)
    return examples(read([source(name, format="prompt")], **given).train)


def examples(samples: list[Sample]) -> list[Question]:
    return [sample.example for sample in samples if isinstance(sample.example, Question)]


def faults(*rows: Any, **given: Any) -> list[tuple[str, str, str | None]]:
    write("a.jsonl", rows)
    return told([source("a.jsonl", format="prompt")], **given)


# rows


def test_a_prompt_is_text_or_turns() -> None:
    text, turns = asked({"prompt": "Hi\n "}, {"prompt": TURNS})
    assert text == Question("Hi\n ", "{}")
    assert turns == Question((Message("system", "Be brief."), Message("user", "Hi")), "{}")


def test_other_columns_keep_their_types() -> None:
    columns = {"answer": 4, "share": 0.5, "right": True, "none": None, "tags": ["a", {"b": 1}], "word": "ä", "x y": ""}
    (found,) = asked({"prompt": "Hi", **columns})
    assert json.loads(found.columns) == columns
    assert "ä" in found.columns
    (found,) = asked({"completion": "as in supervised data", "prompt": "Hi", "messages": []})
    assert json.loads(found.columns) == {"completion": "as in supervised data", "messages": []}


def test_columns_of_a_csv_file_are_text() -> None:
    Path("a.csv").write_text("prompt,answer,note\nHi,4,\n", encoding="utf-8")
    (found,) = examples(read([source("a.csv", format="prompt")]).train)
    assert (found.prompt, json.loads(found.columns)) == ("Hi", {"answer": "4", "note": ""})


def test_a_cell_holds_turns_as_json() -> None:
    cells = [json.dumps(TURNS), "[1, 2]", '[{"role": "user"', "[]"]
    with Path("a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt"], *([cell] for cell in cells)])
    turns, *texts = [each.prompt for each in examples(read([source("a.csv", format="prompt")]).train)]
    assert turns == (Message("system", TURNS[0]["content"]), Message("user", "Hi"))
    assert texts == cells[1:]


def test_columns_of_a_parquet_file_keep_their_types() -> None:
    day = datetime.date(2026, 1, 2)
    rows = [{"prompt": TURNS, "answer": 4, "scores": [0.5, 1.0], "day": day, "inner": {"a": [1]}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    (found,) = examples(read([source("a.parquet", format="prompt")]).train)
    assert isinstance(found.prompt, tuple) and found.prompt[1] == Message("user", "Hi")
    assert json.loads(found.columns) == {"answer": 4, "scores": [0.5, 1.0], "day": "2026-01-02", "inner": {"a": [1]}}


def test_a_prompt_may_have_another_name() -> None:
    write("a.jsonl", [{"question": "Hi", "answer": 4}])
    columns = (("prompt", "question"),)
    data = read([source("a.jsonl", format="prompt", columns=columns)])
    assert examples(data.train) == [Question("Hi", '{"answer": 4}')]
    write("b.jsonl", [{"messages": TURNS}])
    data = read([source("b.jsonl", format="prompt", columns=(("prompt", "messages"),))])
    assert examples(data.train)[0].columns == "{}"


def test_a_split_column_is_followed_and_is_none_of_the_rewards_business() -> None:
    write("a.jsonl", [{"prompt": "a", "split": "train"}, {"prompt": "b", "split": "evaluation", "n": 1}])
    data = read([source("a.jsonl", format="prompt")])
    assert (examples(data.train), examples(data.evaluation)) == ([Question("a", "{}")], [Question("b", '{"n": 1}')])


def test_weights_repeat_and_thin_out_prompts() -> None:
    write("a.jsonl", [{"prompt": f"p{number}"} for number in range(4)])
    twice = read([source("a.jsonl", format="prompt", weight=2.0)])
    assert sorted(str(each.prompt) for each in examples(twice.train)) == sorted(["p0", "p1", "p2", "p3"] * 2)
    assert len(read([source("a.jsonl", format="prompt", weight=0.5)]).train) == 2


def test_a_share_of_the_prompts_is_held_out() -> None:
    write("a.jsonl", [{"prompt": f"p{number}", "n": number} for number in range(10)])
    data = read([source("a.jsonl", format="prompt")], evaluation_fraction=0.2)
    assert (len(data.train), len(data.evaluation)) == (8, 2)
    assert not {each.prompt for each in examples(data.train)} & {each.prompt for each in examples(data.evaluation)}


# rows that are none


@pytest.mark.parametrize(
    ("row", "message", "hint"),
    [
        (
            {"question": "Hi", "answer": 1}, "missing column `prompt`; the row has `question`, `answer`",
            "if these columns hold it, set `columns: {prompt: question}`",
        ),
        (
            {"messages": TURNS}, "missing column `prompt`; the row has `messages`",
            "set `columns: {prompt: messages}`: a prompt may be a list of turns, which ends on a `user` turn",
        ),
        ({"prompt": None}, "`prompt` is `null`", None),
        ({"prompt": 4}, "`prompt` is a number, not text or a list of turns", None),
        ({"prompt": {"role": "user"}}, "`prompt` is an object, not text or a list of turns", None),
        ({"prompt": []}, "`prompt` is an empty list, not text or a list of turns", None),
        ({"prompt": ""}, "`prompt` is empty", None),
        ({"prompt": ["Hi"]}, "`prompt[0]` is text, not an object", None),
        ({"prompt": [{"role": "user"}]}, "`prompt[0].content` is missing", None),
        (
            {"prompt": [*TURNS, {"role": "assistant", "content": "Well,"}]}, "the prompt ends on no `user` turn",
            "what every completion begins with goes into `grpo.prefill`",
        ),
        (
            {"prompt": TURNS[:1]}, "the prompt ends on no `user` turn",
            "what every completion begins with goes into `grpo.prefill`",
        ),
    ],
)  # fmt: skip
def test_a_row_that_is_no_prompt(row: dict[str, Any], message: str, hint: str | None) -> None:
    assert faults(row) == [("a.jsonl:1", message, hint)]


def test_all_faults_of_a_prompt_come_together() -> None:
    found = faults({"prompt": [{"role": "human", "content": ""}, {"role": "tool", "content": "x"}, 7]})
    assert len(found) >= 3 and {place for place, _, _ in found} == {"a.jsonl:1"}
    assert any("`prompt[2]` is a number" in message for _, message, _ in found)


def test_bad_rows_are_skipped_where_the_recipe_says_so() -> None:
    write("a.jsonl", [{"prompt": "a"}, {"prompt": 3}, {"prompt": [*TURNS, {"role": "assistant", "content": "x"}]}, "["])
    data = read([source("a.jsonl", format="prompt")], on_bad_row="skip")
    assert examples(data.train) == [Question("a", "{}")]
    (file,) = data.ledger.files
    assert (file.read, file.kept, sum(file.dropped.values())) == (4, 1, 3)
    assert [each.place.line for each in data.rejected] == [2, 3, 4]


def test_a_table_without_prompts_is_told_once() -> None:
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a"] * 50}), "a.parquet")
    assert told([source("a.parquet", format="prompt")], on_bad_row="skip") == [
        (
            "a.parquet",
            "missing column `prompt`; the file has `question`",
            "if these columns hold it, set `columns: {prompt: question}`",
        )
    ]


# tokens


def ask(prompt: Any, tokenizer: Any, prefill: str = "", most: int = 1000, **given: Any) -> Encoded:
    turns = prompt if isinstance(prompt, str) else tuple(Message(**turn) for turn in prompt)
    return questions.ask([sample(turns)], tokenizer, dataset_settings(**given), prefill, most)


def sample(prompt: Any, line: int = 3) -> Sample:
    return Sample(Question(prompt, '{"n": 1}'), Place("a.jsonl", line))


def dataset_settings(**given: Any) -> recipe.Dataset:
    settled: dict[str, Any] = {
        "train": (), "evaluation": (), "evaluation_fraction": None, "apply_chat_template": "auto",
        "learn": "completions", "max_length": None, "overflow": "error", "on_bad_row": "error", "shuffle": True,
        "limit": None, **given,
    }  # fmt: skip
    return recipe.Dataset(**settled)


@pytest.mark.parametrize("prompt", ["Hi there", TURNS])
def test_a_model_is_asked_as_a_server_asks_it(prompt: Any, tokenizer: Any) -> None:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    expected = tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True)
    expected = expected["input_ids"] if not isinstance(expected, list) else expected
    encoded = ask(prompt, tokenizer)
    assert encoded.problems == []
    (row,), (asked_for,) = encoded.rows, encoded.asked
    assert row.ids == list(expected) and row.learned == 0 and str(row.place) == "a.jsonl:3"
    assert asked_for.text == tokenizer.decode(row.ids) and asked_for.text.endswith("<|im_start|>assistant\n")
    assert json.loads(asked_for.prompt) == prompt and json.loads(asked_for.columns) == {"n": 1}


def test_without_a_template_a_prompt_stands_as_it_is(tokenizer: Any) -> None:
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    encoded = ask(text, tokenizer, apply_chat_template="false")
    assert encoded.problems == [] and encoded.asked[0].text == text
    assert encoded.rows[0].ids == tokens.encode_prompt(text, tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") in encoded.rows[0].ids


def test_a_model_without_a_template_gets_the_text(dressed: Any) -> None:
    encoded = ask("Hi", dressed(None))
    assert encoded.problems == [] and encoded.asked[0].text == "Hi"
    assert ask(TURNS, dressed(None)).problems != []


def test_a_prefill_stands_behind_the_template(tokenizer: Any) -> None:
    plain, begun = ask("Hi", tokenizer), ask("Hi", tokenizer, prefill="<think>\n")
    assert begun.asked[0].text == plain.asked[0].text + "<think>\n"
    assert begun.rows[0].ids == tokens.encode_prompt(begun.asked[0].text, tokenizer)
    assert json.loads(begun.asked[0].prompt) == "Hi"


def test_a_prompt_that_is_too_long_is_a_fault_or_left_out(tokenizer: Any) -> None:
    length = len(ask("Hi", tokenizer).rows[0].ids)
    assert len(ask("Hi", tokenizer, most=length).rows) == 1
    (problem,) = ask("Hi", tokenizer, most=length - 1).problems
    assert (str(problem.place), problem.message) == (
        "a.jsonl:3", f"the prompt has {length} tokens, and at most {length - 1} fit",
    )  # fmt: skip
    assert problem.hint is not None and "`dataset.overflow: drop`" in problem.hint
    encoded = ask("Hi", tokenizer, most=length - 1, overflow="drop")
    assert (encoded.rows, encoded.asked, encoded.problems) == ([], [], [])
    assert encoded.dropped == {encoding.TOO_LONG: 1} and encoded.lost == {("a.jsonl", 3): encoding.TOO_LONG}
    assert json.loads(encoded.rejected[0].raw) == {"prompt": "Hi", "columns": '{"n": 1}'}


def test_rows_and_what_they_ask_stay_side_by_side(tokenizer: Any) -> None:
    samples = [sample(f"word {'more ' * (40 * (number % 2))}", number) for number in range(6)]
    encoded = questions.ask(samples, tokenizer, dataset_settings(overflow="drop"), "", 50)
    assert [row.place.line for row in encoded.rows] == [0, 2, 4]
    assert [json.loads(each.prompt) for each in encoded.asked] == ["word "] * 3
    assert encoded.dropped == {encoding.TOO_LONG: 3}


@pytest.mark.parametrize("prompt", ["Say <|im_end|> twice", [{"role": "user", "content": "Say <|im_end|> twice"}]])
def test_special_tokens_in_a_prompt_are_told_where_a_template_writes_them(prompt: Any, tokenizer: Any) -> None:
    encoded = ask(prompt, tokenizer)
    (problem,) = encoded.problems
    assert "`<|im_end|>`" in problem.message and str(problem.place) == "a.jsonl:3" and problem.hint
    assert encoded.rows == []
    encoded = ask(prompt, tokenizer, on_bad_row="skip")
    assert encoded.problems == [] and encoded.dropped == {encoding.REFUSED: 1}
