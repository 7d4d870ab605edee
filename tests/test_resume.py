"""Runs that are stopped: by a signal, by `kill -9`, by a torn checkpoint. The same command ends in the same adapter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import DEMO, SECONDS, events, run_of, tunesmith, workers_of, write_recipe

from runner import runfile, signals, workers

pytestmark = pytest.mark.slow

CHANGES: dict[str, Any] = {
    "adapter": {"dropout": 0.05},
    "training": {"max_steps": 40, "micro_batch_size": 2, "checkpoints": {"every": 2, "keep": 3}},
}


def adapter(recipe: Path) -> bytes:
    return (run_of(recipe) / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a run that nobody stopped."""
    recipe = write_recipe(tmp_path_factory.mktemp("whole"), tiny_model, CHANGES)
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    return recipe


def launch(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "train", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait(process: subprocess.Popen[str], come: Callable[[], bool]) -> None:
    """Come back when something has come about, which it has to while the process runs."""
    deadline = time.monotonic() + SECONDS
    while not come():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(recipe: Path) -> subprocess.Popen[str]:
    """Start a run, and come back when it has published its first checkpoint."""
    process = launch(recipe)
    wait(process, lambda: bool(list((run_of(recipe) / "checkpoints").glob("step-*"))))
    return process


def test_a_signal_saves_and_the_same_command_goes_on(whole: Path, tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    process = start(recipe)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 75, output
    assert "saved a checkpoint" in output and "Traceback" not in output
    stopped_at = events(run_of(recipe))[-1]["step"]
    assert stopped_at < 40
    assert ": interrupted</title>" in (run_of(recipe) / "report.html").read_text()
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err
    assert f"going on from step {stopped_at} of 40" in again.out
    assert [event["step"] for event in events(run_of(recipe))] == list(range(1, 41))
    assert adapter(recipe) == adapter(whole)


def test_the_same_signal_again_ends_a_run_that_cannot_save(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES | {"deepspeed": {"processes": 2}})
    process = start(recipe)
    held = max(workers_of(process.pid))
    os.kill(held, signal.SIGSTOP)  # so that no step is agreed on
    process.send_signal(signal.SIGINT)
    time.sleep(2 * signals.TOGETHER)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75, output
    assert "stopped by SIGINT: a checkpoint is saved first; the same signal again ends the run at once" in output
    assert "error: stopped by SIGINT twice, so that nothing more was saved" in output and "Traceback" not in output
    assert not Path(f"/proc/{held}").exists()


def test_a_time_limit_stops_it_in_time_and_the_same_command_goes_on(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    begun = tunesmith("train", recipe, "--time-limit", "35s")
    assert begun.code == 75 and " seconds before the time limit of `35s` is over; run the same" in begun.err, begun.err
    assert json.loads((run_of(recipe) / "run.json").read_text())["status"] == "interrupted"
    # With steps as slow as these, it has to stop as soon as it trains.
    runfile.update(run_of(recipe), pace={"step": 40.0, "pause": 0.0, "saved": True})
    never = tunesmith("train", recipe, "--time-limit", "80s")
    assert never.code == 1 and "and a run stops 90 seconds before that is over" in never.err, never.err
    stopped = tunesmith("train", recipe, "--time-limit", "1m35s")
    assert stopped.code == 75 and "time: stops by itself before the time limit of `1m35s` is over" in stopped.out
    assert tunesmith("train", recipe).code == 0
    assert adapter(recipe) == adapter(whole)


def test_an_evaluation_is_stopped_at_once(tiny_model: Path, tmp_path: Path) -> None:
    asked = {"samples": 8, "max_new_tokens": 64, "metrics": ["loss", "exact_match"]}
    changes = {"dataset": {"evaluation": str(DEMO / "evaluation.jsonl")}, "training": {"max_steps": 1}}
    recipe = write_recipe(tmp_path, tiny_model, changes | {"evaluation": asked})
    process = start(recipe)
    wait(process, lambda: runfile.read(run_of(recipe)).get("status") == "evaluating")
    process.send_signal(signal.SIGUSR1)
    began = time.monotonic()
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 75 and "stopped by SIGUSR1; run the same command again to go on" in output, output
    assert time.monotonic() - began < workers.GRACE + 10
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err


def test_kill_9_costs_one_interval(whole: Path, tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    process = start(recipe)
    for worker in workers_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 4 and "killed" in output, output
    newest = sorted((run_of(recipe) / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))[-1]
    (newest / "adapter_model.safetensors").write_bytes(b"torn")  # what a power cut may leave of it
    (run_of(recipe) / "checkpoints" / "checkpoint-99").mkdir()
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err
    assert adapter(recipe) == adapter(whole)
    assert not (run_of(recipe) / "checkpoints" / "checkpoint-99").exists()


def test_other_settings_do_not_go_on_from_its_checkpoints(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    process = start(recipe)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    other = tunesmith("train", recipe, "--set", "deepspeed.zero_stage=2", "--set", "adapter.rank=8")
    assert other.code == 1
    assert "`adapter.alpha`, `adapter.rank`, `deepspeed.zero_stage`" in other.err


def test_an_evaluation_between_two_steps_is_left_and_made_up_for(tiny_model: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "many.jsonl"
    held_out.write_text((DEMO / "evaluation.jsonl").read_text(encoding="utf-8") * 10, encoding="utf-8")
    changes: dict[str, Any] = {
        "dataset": {"evaluation": str(held_out)},
        "training": {"max_steps": 4, "micro_batch_size": 2, "evaluate_every": 2, "checkpoints": {"every": 4}},
        "deepspeed": {"processes": 2},
    }
    recipe = write_recipe(tmp_path, tiny_model, changes)
    process = launch(recipe)
    wait(process, lambda: (run_of(recipe) / "metrics.jsonl").exists() and len(events(run_of(recipe))) == 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 75 and "saved a checkpoint" in output, output
    assert events(run_of(recipe), "evaluation") == []
    assert [path.name for path in (run_of(recipe) / "checkpoints").iterdir()] == ["step-2"]
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err
    assert [event["step"] for event in events(run_of(recipe), "evaluation")] == [2, 4]
    assert [event["step"] for event in events(run_of(recipe))] == [1, 2, 3, 4]


SLEEPS = """
import time
from pathlib import Path


def sleeps(prompt, completion, example):
    if Path(__file__).with_name("awake").exists():
        return float(len(completion))
    time.sleep(3000)
"""


def test_a_reward_that_takes_its_time_is_left(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    (tmp_path / "awake").touch()
    changes: dict[str, Any] = {
        "grpo": {"num_generations": 2, "max_completion_length": 4},
        "training": {"max_steps": 20, "batch_size": 2, "micro_batch_size": 2, "checkpoints": {"every": 2}},
    }
    recipe = write_recipe(tmp_path, tiny_model, changes)
    written = yaml.safe_load(recipe.read_text())
    written |= {"task": "grpo", "rewards": [{"file": "sleeps.py", "timeout": 3600}], "evaluation": {"samples": 0}}
    recipe.write_text(yaml.safe_dump(written))
    process = start(recipe)
    (tmp_path / "awake").unlink()
    time.sleep(5)  # until a step waits for the reward
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 75 and "saved a checkpoint" in output, output
    assert time.monotonic() - began < workers.GRACE + 10
    assert events(run_of(recipe))[-1]["step"] < 20
