"""Columns that templates make of a row: what comes out, what is refused, and where the fault is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import read, refused, source, write
from small_recipe import only
from small_recipe import write as write_recipe

from runner.data import row_templates
from runner.data.examples import Instruction

OPTIONAL = "{{ instruction }}{% if input is defined and input %}\n\n{{ input }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        (OPTIONAL, {"instruction": "Add", "input": "1 2"}, "Add\n\n1 2"),
        (OPTIONAL, {"instruction": "Add", "input": ""}, "Add"),
        (OPTIONAL, {"instruction": "Add"}, "Add"),
        ("{{ label }}", {"label": 3}, "3"),
        ("{{ spam }}", {"spam": True}, "true"),
        ("{{ ['no', 'yes'][label] }}", {"label": 1}, "yes"),
        ("{{ data.question }}?", {"data": {"question": "Why"}}, "Why?"),
        ("{{ answers.text[0] }}", {"answers": {"text": ["a", "b"]}}, "a"),
        ("{{ fields }}", {"fields": {"größe": None}}, '{"größe": null}'),
        ('{{ row["Question (EN)"] }}', {"Question (EN)": "Why?"}, "Why?"),
        ("{{ row }}", {"row": "a column of that name"}, "a column of that name"),
        ("{{ nothing }}.", {"nothing": None}, "."),
        ("<b>{{ text }}</b>\n", {"text": "a < b & c"}, "<b>a < b & c</b>"),
    ],
)
def test_what_a_template_makes(template: str, values: dict[str, Any], text: str) -> None:
    assert row_templates.check(template)
    assert row_templates.fill(template, values) == text


@pytest.mark.parametrize("template", ["{{ a.__class__ }}", "{{ a.append(1) }}", "{{ ''.__class__.__mro__ }}{{ a }}"])
def test_a_template_reaches_nothing_but_the_row(template: str) -> None:
    assert not isinstance(row_templates.fill(template, {"a": [1]}), str)


def test_rows_are_made_before_they_are_read(here: Path) -> None:
    write(
        "rows.jsonl", [{"q": {"title": "Why", "body": "so?"}, "label": 1, "split": "evaluation"}, {"q": {}, "label": 0}]
    )
    made = (("prompt", "{{ q.title or 'nothing' }}"), ("completion", "{{ label }}"))
    given = source("rows.jsonl", templates=made)
    assert "no attribute `title`" in refused([given]).problems[0].message
    write("rows.jsonl", [{"q": {"title": "Why"}, "label": 1}, {"q": {"title": ""}, "label": 0}])
    found = [sample.example for sample in read([given]).train]
    assert found == [Instruction("Why", "1"), Instruction("nothing", "0")]


def test_a_column_inside_of_another_one(here: Path) -> None:
    write("rows.jsonl", [{"data": {"qa": {"q": "a", "r": "b"}}, "data.x": "c"}])
    names = (("prompt", "data.qa.q"), ("completion", "data.x"))
    assert read([source("rows.jsonl", columns=names)]).train[0].example == Instruction("a", "c")
    problem = refused([source("rows.jsonl", columns=(("prompt", "data.qa.p"), ("completion", "data.x")))]).problems[0]
    assert problem.message == "`columns` names column `data.qa.p`, and the row has `data`, `data.x`"


def test_a_column_that_no_row_has(here: Path) -> None:
    Path("rows.csv").write_text("question,answer\na,b\nc,d\n")
    given = source("rows.csv", templates=(("prompt", "{{ qestion }}"),), columns=(("completion", "answer"),))
    (problem,) = refused([given]).problems
    assert (str(problem.place), problem.hint) == ("rows.csv:2", "a similar column exists: `question`")
    assert problem.message == (
        "the template of `prompt` cannot be filled: `qestion` is undefined; the row has `question`, `answer`"
    )


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["prompt='{{ a }'"], "is no Jinja template: unexpected '}'", None),
        (["prompt=a {question}"], "names no column", "write a column's name in double braces: `{{ question }}`"),
        (["text='{{ a }}'"], "is of no use to `format: prompt_completion`", "take it away, or set another format"),
    ],
)
def test_a_template_that_is_wrong(overrides: list[str], message: str, hint: str | None, tmp_path: Path) -> None:
    given = ["dataset.format=prompt_completion", *(f"dataset.templates.{each}" for each in overrides)]
    problem = only(write_recipe(tmp_path), *given)
    assert problem.message.endswith(message) and problem.hint == hint


def test_a_file_of_one_text_is_not_made_into_another(here: Path) -> None:
    Path("a.txt").write_text("some text")
    given = source("a.txt", format="text", templates=(("text", "# {{ text }}"),))
    assert refused([given]).problems[0].message.startswith("`a.txt` is one text without columns")


def test_a_role_has_one_origin(tmp_path: Path) -> None:
    given = ["dataset.columns.prompt=q", "dataset.train=[{path: rows.jsonl, templates: {prompt: '{{ a }}'}}]"]
    problem = only(write_recipe(tmp_path), *given)
    assert problem.message == "`dataset.train[0].templates.prompt` makes what `columns` names already"


def test_tabs_part_columns_where_the_name_says_so(here: Path) -> None:
    Path("rows.tsv").write_bytes(b'\xef\xbb\xbfprompt\tcompletion\r\na, b\t"c\td"\r\n')
    assert read("rows.tsv").train[0].example == Instruction("a, b", "c\td")
