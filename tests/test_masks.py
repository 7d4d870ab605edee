"""Golden masks of the common model families, and every other template at hand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, LONG, REASONED, SHIPPED, SHORT, shipped, tokenizer_of

from runner.data.examples import Chat
from runner.text import templates, tokens

MASKS = Path(__file__).parent / "masks"
CASES = [
    ("one answer", SHORT, "completions"),
    ("every answer", LONG, "completions"),
    ("the last answer", LONG, "last"),
    ("reasoning", REASONED, "completions"),
    ("the whole text", SHORT, "all"),
]


def golden(family: str, tokenizer: Any) -> str:
    """Each case as its tokens give it back, with ⟦ ⟧ round what is learned."""
    blocks = []
    for name, example, learn in CASES:
        if family == "gemma" and example is LONG:
            example = Chat(LONG.messages[1:])  # its template takes no system message, which another test shows
        rendered = templates.render(example, tokenizer, learn, use_template=True)
        encoded = tokens.encode(rendered, tokenizer)
        text = "".join(f"⟦{run}⟧" if yes else run for run, yes in tokens.runs(encoded, tokenizer))
        text = re.sub(r"Today Date: .*", "Today Date: (today)", text)
        blocks.append(f"=== {name}, stops {' '.join(rendered.stops)}, rewritten {rendered.rewritten}\n{text}\n")
    return "\n".join(blocks)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_those_of_the_golden_file(family: str, tokenizer: Any, dressed: Callable[..., Any]) -> None:
    """`TUNESMITH_WRITE_MASKS=1` writes the files anew, to be read before they are kept."""
    found = golden(family, tokenizer_of(family, tokenizer, dressed))
    path = MASKS / f"{family}.txt"
    if os.environ.get("TUNESMITH_WRITE_MASKS"):
        path.write_text(found, encoding="utf-8", newline="")
    assert found == path.read_bytes().decode("utf-8")


def test_every_golden_file_belongs_to_a_family() -> None:
    assert sorted(path.stem for path in MASKS.iterdir()) == sorted(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("example", [SHORT, REASONED, Chat(LONG.messages[1:])], ids=["short", "reasoned", "long"])
def test_a_prompt_is_the_beginning_of_the_row(
    family: str, example: Chat, tokenizer: Any, dressed: Callable[..., Any]
) -> None:
    other = tokenizer_of(family, tokenizer, dressed)
    asked = templates.prompt(example, other, use_template=True)
    rendered = templates.render(example, other, "last", use_template=True)
    if templates.reads_clock(other) and not rendered.text.startswith(asked.text):
        asked = templates.prompt(example, other, use_template=True)
    assert asked.answer == example.messages[-1].content
    assert rendered.text[: rendered.learned[0][0]] == asked.text
    ids = tokens.encode_prompt(asked.text, other)
    encoded = tokens.encode(rendered, other)
    assert encoded.ids[: len(ids)] == ids
    assert encoded.learned.index(True) == len(ids)


def test_every_shipped_template_is_proved_or_refused(dressed: Callable[..., Any]) -> None:
    names = sorted(path.stem for path in SHIPPED.glob("*.jinja") if not path.stem.endswith("_training"))
    assert len(names) > 20
    control = re.compile(r"<\|[^|<>'\"{} ]+\|>|<｜[^｜]+｜>|<\w+_of_turn>|<\|?turn\|?>")
    other = dressed(None, bos_token="<bos>", eos_token="<eos>")
    other.add_tokens(sorted({token for name in names for token in control.findall(shipped(name))}), special_tokens=True)
    outcomes = {}
    for name in names:
        other.chat_template = shipped(name)
        try:
            rendered = templates.render(SHORT, other, "completions", use_template=True)
        except templates.Refused as refused:
            outcomes[name] = refused.reason
        else:
            ((start, end),) = rendered.learned
            assert rendered.text[start:end].endswith("4" + rendered.stops[0]), name
            outcomes[name] = "proved"
    assert sum(outcome == "proved" for outcome in outcomes.values()) > len(names) / 2, outcomes
