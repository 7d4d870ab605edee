"""A file of completions in, each with its prompt and its columns as rewards are to see them, out. No model is asked.

A row has a `completion`. Its `prompt` may be missing, a text, or a list of turns. Rewards see its other columns; where
there is an object `example`, they see what that holds and nothing beside it. So a `completions.jsonl` with examples can
be scored again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from runner.data import formats, readers, strict_json
from runner.data.examples import Question, plain
from runner.data.rows import Fault, Row
from runner.errors import DataError, Problem
from runner.nearest import nearest

MOST_SHOWN = 20  # problems of one DataError
ASIDE = ("prompt", "completion", "split")  # columns that rewards do not see
LIKELY = ("response", "output", "generation", "generated", "text")  # what others call a completion


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion. Those of one prompt have the same `group`.

    `prompt` is text; `asked` is the prompt as its row says it, and `columns` what rewards see beside it, both as JSON.
    `ids` are the completion's tokens and `cut` says whether its limit ended it: None where nobody knows.
    """

    prompt: str
    asked: str
    columns: str
    completion: str
    group: int
    file: str
    line: int
    ids: list[int] | None = None
    cut: bool | None = None


def read(path: str) -> list[Answer]:
    """The completions of a data file of any type, in order. Raises DataError with every fault of it.

    Completions are of one group where their prompts are equal, and without a prompt where their columns are.
    """
    found: list[Answer] = []
    problems: list[Problem] = []
    groups: dict[tuple[bool, str], int] = {}
    for item in readers.read(path):
        if isinstance(item, Fault):
            problems.append(item.problem)
            continue
        read_row = _answer(item, groups)
        if isinstance(read_row, Answer):
            found.append(read_row)
        else:
            problems += read_row
    if problems:
        raise DataError(problems[:MOST_SHOWN], len(problems))
    return found


def _answer(row: Row, groups: dict[tuple[bool, str], int]) -> Answer | list[Problem]:
    faults = _completion_faults(row)
    columns = row.values.get("example")
    if not isinstance(columns, dict):
        columns = {name: value for name, value in row.values.items() if name not in ASIDE}
    kept = json.dumps(columns, ensure_ascii=False, default=str)
    problems = formats.placed(row, faults)
    text, asked = "", '""'
    if row.values.get("prompt") is not None:
        question = formats.read(replace(row, values={"prompt": row.values["prompt"]}), "prompt")
        if isinstance(question, list):
            return problems + question
        assert isinstance(question, Question)
        if isinstance(question.prompt, str):
            text, turns = question.prompt, None
        else:
            text, turns = "\n\n".join(turn.content for turn in question.prompt), plain(question.prompt)
        asked = json.dumps(text if turns is None else turns, ensure_ascii=False)
    if problems:
        return problems
    key = (True, asked) if row.values.get("prompt") is not None else (False, json.dumps(columns, sort_keys=True))
    group = groups.setdefault(key, len(groups))
    return Answer(text, asked, kept, row.values["completion"], group, row.place.file, row.place.line)


def _completion_faults(row: Row) -> list[formats.Fault]:
    value: Any = row.values.get("completion")
    if "completion" not in row.values:
        names = [name for name in row.values if name not in ("prompt", "example")]
        similar = next((name for name in LIKELY if name in names), None)
        similar = similar or nearest("completion", names)
        hint = f"if `{similar}` holds it, name it `completion`" if similar else None
        return [(f"missing column `completion`; the row has {formats.columns_of(row)}", hint)]
    if not isinstance(value, str):
        return [(f"`completion` is {strict_json.kind(value)}, not text", None)]
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return [(f"`completion` has half of a character at position {error.start + 1}", None)]
    return []
