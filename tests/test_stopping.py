"""Runs that stop by a metric of answers: the best checkpoint is the result, and a kill changes nothing of that."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import write_grpo
from runs import events, run_of, tunesmith, write_recipe

from runner import architecture, machine, plan, planfile
from runner.reading import check
from runner.recipe import Recipe
from runner.signals import Signals
from runner.workers import Stage, run

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


def measured(directory: Path, metric: str = "exact_match") -> list[tuple[int, float]]:
    return [(event["step"], event["measured"][metric]) for event in events(directory, "evaluation")]


def chosen(directory: Path) -> int:
    return int(json.loads((directory / "chosen.json").read_text())["step"])


def trained_again(
    stopped: Path, folder: Path, after: int | None, changed: Recipe | None = None, **deepspeed: Any
) -> Path:
    """The training stage of a copy of the run that was killed before it chose; without checkpoints later than one."""
    settled = planfile.from_json((stopped / "plan.json").read_text())
    recipe = changed or settled.recipe
    recipe = replace(recipe, deepspeed=replace(recipe.deepspeed, **deepspeed))
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


def test_a_reward_stops_a_run_as_a_metric_does(stopped: Path, tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def says_it(prompt, completion, row):\n    return float(completion == row['answer'])\n")
    own = (f"evaluation.rewards=[{{file: {file}}}]", "training.early_stopping.metric=reward/says_it")
    changed = check.read(str(stopped.parent.parent / "recipe.yaml"), own)
    alone = trained_again(stopped, tmp_path / "one", 0, changed)
    both = trained_again(stopped, tmp_path / "two", 0, changed, processes=2)
    assert measured(alone, "reward/says_it") == measured(both, "reward/says_it") == measured(stopped)
    assert chosen(alone) == chosen(both) == chosen(stopped)


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


def test_held_out_prompts_of_grpo_stop_a_run(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("def flat(prompt, completion, row):\n    return 0.5\n")
    recipe = write_grpo(
        tmp_path,
        tiny_model,
        [{"file": "rewards.py"}, {"use": "length_between", "options": {"maximum": 3}, "weight": 0.0}],
        {
            "dataset": {"train": "train.jsonl", "evaluation": "evaluation.jsonl"},
            "grpo": {"num_generations": 4, "max_completion_length": 6, "num_iterations": 2},
            "training": {
                "max_steps": 12,
                "batch_size": 8,
                "evaluate_every": 1,
                "early_stopping": {"metric": "reward/flat", "patience": 2},
            },
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    found = events(run_of(recipe), "evaluation")
    # a checkpoint follows each, and stands between two generations
    assert [event["step"] for event in found] == [2, 4, 6] and chosen(run_of(recipe)) == 2
    assert all(event["measured"]["reward"] == event["measured"]["reward/flat"] == 0.5 for event in found)
    assert all(0 <= event["measured"]["reward/length_between"] <= 1 for event in found)
    assert "held-out reward 0.5  reward/flat 0.5" in command.out
    scores = json.loads((run_of(recipe) / "evaluation.json").read_text())
    assert scores["step"] == 2 and scores["metrics"]["reward/flat"]["adapter"] == 0.5
