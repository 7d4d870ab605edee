"""Conversations with tools through the stages of a run on a tiny model: rows, questions, steps, adapter, tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from calling_families import ANSWERED, ASKED, ONE, SAYING, TOOLS, TWICE
from runs import write_recipe

from runner import architecture, machine, model, plan, planfile, prepare, preview
from runner.choices import Rows
from runner.data.dataset import Data, FileLedger, Ledger, Sample
from runner.data.examples import Chat, Message
from runner.errors import Place, RecipeError
from runner.plan import Plan
from runner.reading import check
from runner.signals import Signals
from runner.text import templates, tokens
from runner.text.encoding import NOT_LEARNED
from runner.workers import Stage, run

pytestmark = pytest.mark.slow

CHATS = (ONE, ANSWERED, TWICE, SAYING, Chat((ASKED, Message("assistant", "I cannot know.")), TOOLS[:1]))


def data() -> Data:
    train = [Sample(chat, Place("rows.jsonl", line)) for line, chat in enumerate(CHATS * 2, 1)]
    held_out = [Sample(chat, Place("held_out.jsonl", line)) for line, chat in enumerate(CHATS, 1)]
    ledger = Ledger((FileLedger("rows.jsonl", len(train), len(train), {}),), repeats=0, leaked=0, unanswered=0)
    return Data(train, held_out, [], ledger, {})


def planned(folder: Path, tiny_model: Path, template: str) -> Plan:
    recipe = check.read(
        str(
            write_recipe(
                folder,
                tiny_model,
                {
                    "model": {"chat_template": template, "dtype": "float32"},
                    "training": {"max_steps": 8, "batch_size": 5, "learning_rate": 1e-2},
                    "evaluation": {"samples": 5, "max_new_tokens": 2, "metrics": ["loss"], "baseline": False},
                },
            )
        )
    )
    settled = plan.make(
        replace(recipe, task="function_calling"), machine.here(), architecture.read(str(tiny_model)), Rows(10, 5, 500)
    )
    (Path(settled.directory)).mkdir(parents=True)
    (Path(settled.directory) / "plan.json").write_text(planfile.to_json(settled))
    return settled


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    settled = planned(tmp_path_factory.mktemp("calls"), tiny_model, "hermes")
    prepare._prepare(settled, data(), model.tokenizer(settled.recipe.model), "key", Path(settled.directory))
    return settled


def test_the_rows_hold_the_calls_and_only_the_models_turns_are_learned(prepared: Plan) -> None:
    tokenizer: Any = model.tokenizer(prepared.recipe.model)
    rows = datasets.load_from_disk(str(Path(prepared.directory) / "prepared" / "train"))
    for row, chat in zip(rows, CHATS * 2, strict=True):
        rendered = templates.render(chat, tokenizer, "completions", use_template=True)
        learned = [token for token in row["labels"] if token != NOT_LEARNED]
        assert tokenizer.decode(learned) == "".join(rendered.text[start:end] for start, end in rendered.learned)
        assert tokenizer.decode(row["input_ids"]) == rendered.text


def test_a_preview_shows_tools_unlearned_and_calls_learned(prepared: Plan) -> None:
    tokenizer: Any = model.tokenizer(prepared.recipe.model)
    train, _ = prepare.encode(prepared, data(), tokenizer)
    shown = preview._tokens(train.rows[1], tokenizer, coloured=False).plain
    before, call = shown.split("[<")[:2]
    assert "<tools>" in before and '"get_weather"' in before and "[" not in before.split("</tools>")[1]
    assert call.startswith("tool") or call.startswith("]")
    assert "".join(call.split("</")[0]).count("[") > 10
    assert shown.count("[<|im_end|>]") == 2 and "<tool_response>" in shown.replace("⏎\n", "")


def test_questions_hold_the_calls_that_are_wanted(prepared: Plan) -> None:
    asked = json.loads((Path(prepared.directory) / "prepared" / "questions.json").read_text())
    assert (asked["syntax"], asked["stops"]) == ("hermes", ["<|im_end|>"])
    found = [(each["line"], each["answer"], [call["name"] for call in each["calls"]]) for each in asked["questions"]]
    assert found == [
        (1, "", ["get_weather"]),
        (2, "It is fine.", []),
        (2, "", ["get_weather"]),
        (3, "", ["get_weather"]),
        (4, "Let me see.", ["get_time"]),
    ]
    first = asked["questions"][0]
    assert first["calls"] == [{"name": "get_weather", "arguments": '{"city": "Zürich \\"north\\"", "days": 1}'}]
    assert first["tools"] == list(TOOLS)
    tokenizer = model.tokenizer(prepared.recipe.model)
    assert first["ids"] == tokens.encode_prompt(first["prompt"], tokenizer)


def test_a_run_learns_the_calls_and_its_adapter_has_the_template(prepared: Plan) -> None:
    from transformers import AutoTokenizer

    directory = Path(prepared.directory)
    logged: list[dict[str, Any]] = []
    for stage in ("train", "evaluate"):
        run(Stage(stage, prepared.processes, prepared.device, directory), Signals(), logged.append)
    losses = [event["loss"] for event in logged if event["event"] == "step"]
    assert len(losses) == 8 and losses[-1] < losses[0]
    saved: Any = AutoTokenizer.from_pretrained(directory / "adapter")
    used = model.tokenizer(prepared.recipe.model)
    assert saved.chat_template == used.chat_template
    assert templates.render(TWICE, saved, "completions", True) == templates.render(TWICE, used, "completions", True)


def test_a_template_without_tools_stops_a_run_once(tiny_model: Path, tmp_path: Path) -> None:
    settled = planned(tmp_path, tiny_model, "auto")
    with pytest.raises(RecipeError) as caught:
        prepare.encode(settled, data(), model.tokenizer(settled.recipe.model))
    (problem,) = caught.value.problems
    assert problem.message == "the model's chat template does not show tools to the model"
    assert problem.hint == "take one that shows tools and calls: `model.chat_template: hermes`"
