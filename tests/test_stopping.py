"""Runs that stop by a metric of answers: the best checkpoint is the result, and a kill changes nothing of that."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import events, run_of, tunesmith, write_recipe

from runner import architecture, machine, plan, planfile
from runner.workers import Signals, Stage, run

pytestmark = pytest.mark.slow

PATIENCE = 3


@pytest.fixture(scope="module")
def stopped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns to say `yes` and stops by exact matches, in float32 so that processes agree with one."""
    folder = tmp_path_factory.mktemp("stopped")
    rows = [json.dumps({"prompt": f"Is {number} a number?", "completion": "yes"}) for number in range(42)]
    (folder / "train.jsonl").write_text("\n".join(rows[:32]))
    (folder / "held_out.jsonl").write_text("\n".join(rows[32:]))
    recipe = write_recipe(
        folder,
        tiny_model,
        {
            "model": {"dtype": "float32"},
            "dataset": {"train": "train.jsonl", "evaluation": "held_out.jsonl", "limit": 32},
            "training": {
                "max_steps": 40,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "scheduler": "constant",
                "warmup_ratio": 0.0,
                "evaluate_every": 2,
                "early_stopping": {"metric": "exact_match", "patience": PATIENCE},
                "checkpoints": {"every": 40, "keep": 20},
            },
            "evaluation": {"metrics": ["loss", "exact_match"], "samples": 5, "max_new_tokens": 1},
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    assert "exact_match 1\n" in command.out
    return run_of(recipe)


def measured(directory: Path) -> list[tuple[int, float]]:
    return [(event["step"], event["measured"]["exact_match"]) for event in events(directory, "evaluation")]


def chosen(directory: Path) -> int:
    return int(json.loads((directory / "chosen.json").read_text())["step"])


def trained_again(stopped: Path, folder: Path, after: int | None, **deepspeed: Any) -> Path:
    """The training stage of a copy of the run that was killed before it chose; without checkpoints later than one."""
    settled = planfile.from_json((stopped / "plan.json").read_text())
    recipe = replace(settled.recipe, deepspeed=replace(settled.recipe.deepspeed, **deepspeed))
    recipe = replace(recipe, output=replace(recipe.output, directory=str(folder)))
    again = plan.make(recipe, machine.here(), architecture.read(recipe.model.name), settled.rows)
    directory = Path(again.directory)
    shutil.copytree(stopped, directory)
    (directory / "chosen.json").unlink()
    for path in (directory / "checkpoints").iterdir():
        if after is not None and int(path.name.removeprefix("step-")) > after:
            shutil.rmtree(path)
    (directory / "plan.json").write_text(planfile.to_json(again))
    run(Stage("train", again.processes, again.device, directory), Signals(), lambda event: None)
    return directory


def test_the_first_of_the_best_answers_is_the_result(stopped: Path) -> None:
    values = measured(stopped)
    first = next(step for step, value in values if value == 1.0)
    assert values[0] == (2, 0.0) or first == 2
    assert values[-1][0] == first + 2 * PATIENCE < 40  # so many evaluations without a better one
    assert chosen(stopped) == first == json.loads((stopped / "evaluation.json").read_text())["step"]
    losses = {event["step"]: event["evaluation_loss"] for event in events(stopped, "evaluation")}
    assert losses[values[-1][0]] < losses[first]  # by the loss, another checkpoint would be it


def test_a_kill_before_the_choice_does_not_train_on(stopped: Path, tmp_path: Path) -> None:
    again = trained_again(stopped, tmp_path, after=None)
    assert measured(again) == measured(stopped) and chosen(again) == chosen(stopped)
    assert events(again)[-1]["step"] == events(stopped)[-1]["step"]


def test_a_kill_does_not_make_a_run_wait_longer(stopped: Path, tmp_path: Path) -> None:
    last = measured(stopped)[-1][0]
    again = trained_again(stopped, tmp_path, after=last - 4)
    assert measured(again) == measured(stopped) and chosen(again) == chosen(stopped)
    name = f"checkpoints/step-{last}/adapter_model.safetensors"
    assert (again / name).read_bytes() == (stopped / name).read_bytes()


def test_two_processes_agree_when_to_stop(stopped: Path, tmp_path: Path) -> None:
    again = trained_again(stopped, tmp_path, after=0, processes=2)
    assert measured(again) == measured(stopped) and chosen(again) == chosen(stopped)


def test_another_metric_does_not_go_on_from_its_checkpoints(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped.parent, tmp_path / "outputs")
    (tmp_path / "outputs" / "recipe" / "chosen.json").unlink()
    text = (stopped.parent.parent / "recipe.yaml").read_text().replace(str(stopped.parent), str(tmp_path / "outputs"))
    (tmp_path / "recipe.yaml").write_text(text)
    for name in ("train.jsonl", "held_out.jsonl"):
        shutil.copyfile(stopped.parent.parent / name, tmp_path / name)
    other = tunesmith("train", tmp_path / "recipe.yaml", "--set", "training.early_stopping.metric=loss")
    assert other.code == 1 and "`training.early_stopping" in other.err, other.err
