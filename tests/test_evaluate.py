"""The evaluation of a small model's run: what it writes, what a person sees of it, and metrics of calls."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import DEMO, run_of, tunesmith, write_recipe
from test_call_scores import WEATHER

from runner import evaluate, planfile
from runner.scores.metrics import OF_CALLS
from runner.text import calling

pytestmark = pytest.mark.slow

METRICS = [
    "loss", "perplexity", "exact_match", "json_valid", "token_f1", "rouge_l", "numeric_match", "choice_accuracy",
    "json_schema",
]  # fmt: skip
LENGTHS = """
def lengths(prompt, completion, example):
    print("seen")
    return len(completion) + len(example["answer"]) / 1000 if prompt.endswith("assistant\\n") else -1.0
"""
UNCOUNTED = ["numeric_match", "choice_accuracy"]  # the wanted answers are JSON objects


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "lengths.py").write_text(LENGTHS)
    (folder / "order.json").write_text('{"type": "object", "required": ["name"]}')
    recipe = write_recipe(
        folder,
        tiny_model,
        {
            "model": {"hub_id": "owner/tiny"},
            "dataset": {"evaluation": str(DEMO / "evaluation.jsonl")},
            "evaluation": {
                "metrics": METRICS,
                "samples": 6,
                "max_new_tokens": 8,
                "json_schema": "order.json",
                "rewards": [{"file": "lengths.py"}, {"use": "exact_answer", "name": "right"}],
            },
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    return run_of(recipe), command.out


def read(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    samples = (directory / "samples.jsonl").read_text().splitlines()
    return json.loads((directory / "evaluation.json").read_text()), [json.loads(line) for line in samples]


def test_each_metric_has_both_models_and_intervals(finished: tuple[Path, str]) -> None:
    found, samples = read(finished[0])
    assert (found["rows"], found["questions"], len(samples)) == (16, 6, 6)
    assert found["not_measured"] == UNCOUNTED
    named = [*METRICS, "reward/lengths", "reward/right"]
    assert list(found["metrics"]) == [name for name in named if name not in UNCOUNTED]
    for name, entry in found["metrics"].items():
        assert entry["rows"] == (16 if name in ("loss", "perplexity") else 6)
        assert entry["difference"] == pytest.approx(entry["adapter"] - entry["base"])
        for which in ("base", "adapter", "difference"):
            low, high = entry[f"{which}_interval"]
            assert low <= entry[which] <= high
        holds = entry["difference_interval"][0] <= 0 <= entry["difference_interval"][1]
        assert (entry["verdict"] == "within noise") == holds
    assert found["metrics"]["loss"]["verdict"] == "better"


def test_the_loss_of_each_row_is_kept(finished: tuple[Path, str]) -> None:
    rows = [json.loads(line) for line in (finished[0] / "losses.jsonl").read_text().splitlines()]
    loss = read(finished[0])[0]["metrics"]["loss"]
    assert len({row["row"] for row in rows}) == len(rows) == 16
    for which in ("base", "adapter"):
        assert sum(row[which] for row in rows) / sum(row["tokens"] for row in rows) == pytest.approx(loss[which])


def test_samples_hold_what_the_metrics_are_means_of(finished: tuple[Path, str]) -> None:
    found, samples = read(finished[0])
    assert all(set(sample) >= {"file", "line", "prompt", "answer", "base", "adapter"} for sample in samples)
    for name in METRICS[2:]:
        for which in ("base", "adapter"):
            scores = [sample[f"{which}_scores"][name] for sample in samples]
            if name in found["metrics"]:
                assert found["metrics"][name][which] == pytest.approx(statistics.mean(scores))
            else:
                assert scores == [None] * len(samples)
        assert "calls" not in samples[0]


def test_reward_functions_score_answers_too(finished: tuple[Path, str]) -> None:
    found, samples = read(finished[0])
    for which in ("base", "adapter"):
        scores = [sample[f"{which}_scores"]["reward/lengths"] for sample in samples]
        expected = [len(sample[which]) + len(sample["answer"]) / 1000 for sample in samples]
        assert scores == pytest.approx(expected)
        assert found["metrics"]["reward/lengths"][which] == pytest.approx(statistics.mean(expected))
        assert [sample[f"{which}_scores"]["reward/right"] for sample in samples] == [0.0] * 6
    printed = [json.loads(line) for line in (finished[0] / "rewards.jsonl").read_text().splitlines()]
    assert any("seen" in json.dumps(event) for event in printed)
    assert not (finished[0] / "completions.jsonl").exists()


def test_what_is_within_noise_is_called_that(finished: tuple[Path, str]) -> None:
    directory, printed = finished
    assert "within noise" in printed and "16 held-out rows, 6 of them asked" in printed
    assert "left out, since no row counts for them: `numeric_match`, `choice_accuracy`" in printed
    card = (directory / "adapter" / "README.md").read_text()
    (loss,) = (line for line in card.splitlines() if line.startswith("| loss |"))
    assert loss.endswith("| better | 16 |")
    (exact,) = (line for line in card.splitlines() if line.startswith("| exact match |"))
    assert exact.endswith("| 0 (0 to 0) | 0 (0 to 0) | 0 to 0 | within noise | 6 |")
    assert "It cannot be told from its base model, by these rows, in exact match" in card
    assert "| `train.jsonl` | training | " in card and "| `evaluation.jsonl` | scores | " in card


def test_a_base_from_this_disk_is_named_as_the_hub_has_it(finished: tuple[Path, str], tiny_model: Path) -> None:
    adapter = finished[0] / "adapter"
    (checkpoint,) = (finished[0] / "checkpoints").glob("step-4")
    for folder in (adapter, checkpoint):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/tiny"
    card = (adapter / "README.md").read_text()
    assert "base_model: owner/tiny\n" in card and "base = AutoModelForCausalLM.from_pretrained('owner/tiny'" in card
    said, recipe = card.split("## How it was made")
    assert str(tiny_model) not in said and str(tiny_model) in recipe  # as the person wrote it
    others = [path for path in adapter.iterdir() if path.name != "README.md"]
    assert len(others) > 3 and not [path for path in others if str(tiny_model).encode() in path.read_bytes()]


def test_calls_are_read_and_measured(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    settled = planfile.from_json((tmp_path / "run" / "plan.json").read_text())
    measured = replace(settled.recipe.evaluation, metrics=("loss", *OF_CALLS), json_schema=None)
    again = replace(settled, directory=str(tmp_path / "run"), recipe=replace(settled.recipe, evaluation=measured))
    path = tmp_path / "run" / "prepared" / "questions.json"
    asked = json.loads(path.read_text())
    wanted = {"name": "weather", "arguments": '{"city": "Paris"}'}
    for number, question in enumerate(asked["questions"]):
        question |= {"calls": [wanted] if number % 2 else [], "tools": [WEATHER]}
    path.write_text(json.dumps(asked | {"syntax": "hermes"}))
    syntaxes = set()

    real = calling.read

    def reader(text: str, syntax: str, tools: Sequence[str]) -> Any:
        """What a model would write that had learned it: a call in every answer, from the ninth on a broken one."""
        syntaxes.add(syntax)
        answers.append(text)
        body = '{"name": "weather", "arguments": {"city": "paris"}}' if len(answers) <= 8 else "{"
        return real(f"<tool_call>{body}</tool_call>", syntax, tools)

    answers: list[str] = []
    monkeypatch.setattr(calling, "read", reader)
    evaluate.run(again)
    found, samples = read(tmp_path / "run")
    assert syntaxes == {"hermes"} and len(answers) == 12
    assert found["metrics"]["call_match"]["base"] == pytest.approx(0.5)
    assert found["metrics"]["call_match"]["adapter"] == pytest.approx(1 / 6)
    assert found["metrics"]["call_parsed"]["adapter"] == pytest.approx(1 / 3)
    assert found["metrics"]["call_name"]["rows"] == 3 and found["metrics"]["call_name"]["verdict"] is None
    assert found["metrics"]["no_call_recall"]["base"] == 0.0
    assert found["not_measured"] == ["no_call_precision"]
    assert samples[1]["calls"] == [wanted] and samples[0]["calls"] == []
    assert samples[1]["base_calls"] == {
        "read": [{"name": "weather", "arguments": '{"city": "paris"}'}],
        "fault": None,
    }
    assert samples[5]["adapter_calls"]["read"] == [] and samples[5]["adapter_calls"]["fault"]
    assert samples[5]["adapter_scores"]["call_parsed"] == 0.0 and samples[4]["adapter_scores"]["call_parsed"] is None
