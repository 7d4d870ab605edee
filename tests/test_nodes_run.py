"""Two nodes train one adapter: to the same bytes as one node with as many processes, and through every kind of end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from node_runs import ended, two_nodes
from runs import SECONDS, events, run_of, tunesmith, workers_of, write_recipe

pytestmark = pytest.mark.slow

STEPS = 40
CHANGES: dict[str, Any] = {
    "adapter": {"dropout": 0.05},
    "training": {"max_steps": STEPS, "micro_batch_size": 1, "checkpoints": {"every": 4, "keep": 3}},
}


def adapter(recipe: Path) -> bytes:
    return (run_of(recipe) / "adapter" / "adapter_model.safetensors").read_bytes()


def wait_for_a_checkpoint(recipe: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not list((run_of(recipe) / "checkpoints").glob("step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a run of two processes on one node."""
    recipe = write_recipe(tmp_path_factory.mktemp("whole"), tiny_model, CHANGES)
    command = tunesmith("train", recipe, "--set", "deepspeed.processes=2")
    assert command.code == 0, command.out + command.err
    return recipe


def test_a_signal_to_the_second_node_stops_both_and_they_go_on_to_the_same_adapter(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    with two_nodes(recipe) as (first, second):
        wait_for_a_checkpoint(recipe)
        second.send_signal(signal.SIGUSR1)
        code, output = ended(first)
        assert code == 75 and "after the run had saved a checkpoint" in output, output
        code, output = ended(second)
        assert code == 75 and "node 0 ended the run: stopped by SIGUSR1" in output, output
    stopped_at = events(run_of(recipe))[-1]["step"]
    assert stopped_at < STEPS
    with two_nodes(recipe) as (first, second):
        code, output = ended(first)
        assert code == 0 and f"going on from step {stopped_at} of {STEPS}" in output, output
        code, output = ended(second)
        assert code == 0 and "node 1: training with 1 of 2 processes" in output and output.endswith("node 1: done\n")
    assert adapter(recipe) == adapter(whole)
    plan = json.loads((run_of(recipe) / "plan.json").read_text())
    assert (plan["nodes"], plan["processes"], plan["batch"]["accumulation"]) == (2, 2, 2)


def test_a_node_whose_process_is_killed_ends_the_other_which_says_so(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    with two_nodes(recipe) as (first, second):
        wait_for_a_checkpoint(recipe)
        (worker,) = workers_of(second.pid)
        os.kill(worker, signal.SIGKILL)
        code, output = ended(first)
        assert code == 4 and "error: node 1 (`" in output and "process 1 of 2 was killed" in output, output
        assert ended(second)[0] == 4


def test_a_node_that_is_lost_ends_the_other_which_names_it(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    with two_nodes(recipe) as (first, second):
        wait_for_a_checkpoint(recipe)
        workers = workers_of(second.pid)
        for process in (second.pid, *workers):
            os.kill(process, signal.SIGKILL)
        began = time.monotonic()
        code, output = ended(first)
        assert time.monotonic() - began < 60
        assert code == 1 and "`) was lost\n" in output and "error: node 1 (`" in output, output
    assert json.loads((run_of(recipe) / "run.json").read_text())["status"] == "failed"
    assert ": failed</title>" in (run_of(recipe) / "report.html").read_text()
