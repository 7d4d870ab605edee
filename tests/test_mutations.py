"""Shipped recipes with anything wrong in them, and templates of any make: a fault is told, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import SHORT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner import machine, supervise
from runner.errors import DONE, WRONG_INPUT, RecipeError, UserError, report
from runner.reading import check, source
from runner.text import templates, tokens

RECIPES = Path(__file__).parent.parent / "recipes"
SHIPPED = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPES.glob("*.yaml"))}
WRITTEN = st.sampled_from(
    "null ~ true no 0 -1 1e999 .nan 0x10 '' \"\" [] {} [1] {a: b} - : # & * ! | > % @ ` $HOME ../../etc/passwd "
    "outputs owner/name /nowhere 2e-4 18446744073709551616 \ud7ff é 💥 \t".split(" ")
) | st.text(st.characters(codec="utf-8"), max_size=12)
LINES = st.integers(0, 10**6)


def mended(text: str, act: str, where: int, other: int, written: str) -> str:
    """A text with one thing done to it, at a line that two numbers choose."""
    lines = text.split("\n")
    at, to = where % len(lines), other % len(lines)
    line = lines[at]
    if act == "take":
        del lines[at]
    elif act == "twice":
        lines.insert(to, line)
    elif act == "swap":
        lines[at], lines[to] = lines[to], line
    elif act == "value":
        lines[at] = line.partition(":")[0] + ": " + written
    elif act == "key":
        indentation = line[: len(line) - len(line.lstrip())]
        lines[at] = indentation + written + ":" + line.partition(":")[2]
    elif act == "indent":
        lines[at] = " " * (other % 9) + line.lstrip()
    elif act == "uncomment":
        lines[at] = line.replace("# ", "", 1)
    elif act == "insert":
        column = other % (len(line) + 1)
        lines[at] = line[:column] + written + line[column:]
    else:
        return text[: other % (len(text) + 1)]
    return "\n".join(lines)


ACTS = st.sampled_from(["take", "twice", "swap", "value", "key", "indent", "uncomment", "insert", "cut"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(list(SHIPPED)), acts=st.lists(st.tuples(ACTS, LINES, LINES, WRITTEN), min_size=1, max_size=4)
)
@example(name="demo.yaml", acts=[])
def test_a_recipe_with_anything_wrong_is_good_or_told(name: str, acts: list[tuple[str, int, int, str]]) -> None:
    text = SHIPPED[name]
    for act in acts:
        text = mended(text, *act)
    path = str(RECIPES / name)
    try:
        written = source.recipe(text, path)
        supervise.settle(check.settle(written, path), written, machine.named("h100:2"), None)
        code = DONE
    except UserError as error:
        code = error.exit_code
        assert error.problems
        lines = source.LINE_END.split(text)
        for problem in error.problems:
            place = problem.place
            if place is not None and place.file == path and place.line:
                assert place.line <= len(lines) and 1 <= place.column <= len(lines[place.line - 1]) + 1, place
        for style in ("text", "json", "github"):
            shown = report(error, style)
            assert shown.encode() and "Traceback" not in shown
    assert code in (DONE, WRONG_INPUT), code


PIECES = st.sampled_from(
    [
        "{% for message in messages %}", "{% endfor %}", "{{ message.content }}", "{{ message['role'] }}",
        "{% if loop.last %}", "{% else %}", "{% endif %}", "{{ messages[9].content }}", "{{ nothing.at.all }}",
        "{{ 1 / 0 }}", "{{ bos_token }}", "{% if add_generation_prompt %}", "<|im_start|>", "<|im_end|>\n",
        "{{ raise_exception('no') }}", "{{ 'a' * 9 }}", "{{ messages | tojson }}", "{{ ''.__class__.__mro__ }}",
        "{{ message.content | trim | upper }}", "{{ range(10**12) }}", "{% set x = messages %}", "{{ x[::-1] }}",
        "{{ strftime_now('%H') }}", "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}", "{{ self._TemplateReference__context }}", "{#", "{{", "%}", "é💥",
        "{% generation %}", "{% endgeneration %}", "{{ messages.append(1) }}", "{{ cycler.__init__.__globals__ }}",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def undressed(dressed: Callable[..., Any]) -> Any:
    """A tokenizer of this file's own."""
    return dressed(None)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=st.lists(PIECES, max_size=9))
def test_any_template_renders_or_is_refused(pieces: list[str], undressed: Any) -> None:
    tokenizer = undressed
    tokenizer.chat_template = "".join(pieces)
    try:
        rendered = templates.render(SHORT, tokenizer, "completions", use_template=True)
        tokens.encode(rendered, tokenizer)
    except templates.Refused as refused:
        assert refused.reason
    except RecipeError as error:
        assert report(error)
    else:
        assert "root:" not in rendered.text and "<class" not in rendered.text
