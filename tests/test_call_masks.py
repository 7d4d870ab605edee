"""What is learned of conversations with tools: golden masks of each syntax, and calls that come back exactly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling_families import ANSWERED, ONE, PARALLEL, SAYING, SYNTAXES, TWICE, calling_tokenizer

from runner.data.examples import Chat
from runner.text import calling, templates, tokens

MASKS = Path(__file__).parent / "call_masks"
CASES = [
    ("a call", ONE, "completions"),
    ("a call and its result", ANSWERED, "completions"),
    ("the last answer", TWICE, "last"),
    ("every answer", TWICE, "completions"),
    ("two calls at once", PARALLEL, "completions"),
    ("a text and a call", SAYING, "completions"),
    ("the whole text", ONE, "all"),
]


def golden(tokenizer: Any) -> str:
    """Each case as its tokens give it back, with ⟦ ⟧ round what is learned, or why it is refused."""
    blocks = []
    for name, example, learn in CASES:
        try:
            rendered = templates.render(example, tokenizer, learn, use_template=True)
        except templates.Refused as refused:
            blocks.append(f"=== {name}, refused\n{refused.reason}\n{refused.hint}\n")
            continue
        encoded = tokens.encode(rendered, tokenizer)
        text = "".join(f"⟦{run}⟧" if yes else run for run, yes in tokens.runs(encoded, tokenizer))
        blocks.append(f"=== {name}, stops {' '.join(rendered.stops)}, rewritten {rendered.rewritten}\n{text}\n")
    return "\n".join(blocks)


@pytest.mark.parametrize("family", SYNTAXES)
def test_masks_are_those_of_the_golden_file(family: str, dressed: Callable[..., Any]) -> None:
    """`TUNESMITH_WRITE_MASKS=1` writes the files anew, to be read before they are kept."""
    found = golden(calling_tokenizer(family, dressed))
    path = MASKS / f"{family}.txt"
    if os.environ.get("TUNESMITH_WRITE_MASKS"):
        path.write_text(found, encoding="utf-8", newline="")
    assert found == path.read_bytes().decode("utf-8")


def test_every_golden_file_belongs_to_a_family() -> None:
    assert sorted(path.stem for path in MASKS.iterdir()) == sorted(SYNTAXES)


@pytest.mark.parametrize("family", SYNTAXES)
@pytest.mark.parametrize("example", [ONE, ANSWERED, TWICE], ids=["one", "answered", "twice"])
def test_a_prompt_is_the_beginning_of_the_row_and_asks_for_its_calls(
    family: str, example: Chat, dressed: Callable[..., Any]
) -> None:
    tokenizer = calling_tokenizer(family, dressed)
    asked = templates.prompt(example, tokenizer, use_template=True)
    rendered = templates.render(example, tokenizer, "last", use_template=True)
    ((start, end),) = rendered.learned
    (stop,) = rendered.stops
    assert rendered.text[:start] == asked.text and asked.tools == example.tools
    assert tokens.encode(rendered, tokenizer).learned.index(True) == len(tokens.encode_prompt(asked.text, tokenizer))
    found = calling.read(rendered.text[start : end - len(stop)], SYNTAXES[family], asked.tools)
    assert not isinstance(found, calling.Fault)
    assert calling.difference(asked.calls, found[1]) is None
    assert found[0].removeprefix("<think>\n\n</think>").strip() == asked.answer
