"""Jobs that run as SLURM lets them: to their end, over their time, preempted, cancelled, on a node that dies.

What is trained is compared by its bytes with a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from jobs import SCRIPT, Cluster, Job
from runs import events, run_of, tunesmith, write_recipe

STEPS = 300
CHANGES: dict[str, Any] = {
    "adapter": {"dropout": 0.05},
    "training": {"max_steps": STEPS, "micro_batch_size": 1, "checkpoints": {"every": 25, "keep": 2}},
}
pytestmark = pytest.mark.timeout(3000)  # SLURM counts in minutes, and lets a job wait before it is started again
ONE_CORE = {"SLURM_CPUS_ON_NODE": "1"}  # as the jobs have it: the number of threads changes the last bits


@pytest.fixture(scope="module")
def recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("undisturbed"), tiny_model, CHANGES)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> bytes:
    """The adapter of a run without SLURM."""
    command = tunesmith("train", recipe, environment=ONE_CORE)
    assert command.code == 0, command.out + command.err
    return adapter(run_of(recipe))


@pytest.fixture
def here(tiny_model: Path, tmp_path: Path) -> Path:
    """The same recipe in a folder of its own."""
    return write_recipe(tmp_path, tiny_model, CHANGES)


def adapter(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def went_on(job: Job) -> bool:
    """Whether it was started twice, and trained every step once."""
    return job.starts() == 2 and [event["step"] for event in events(job.run())] == list(range(1, STEPS + 1))


def late(recipe: Path, seconds: int, warned: bool = True) -> Path:
    """The script, made so slow at its first start that no machine trains within its time; SLURM may send no signal."""
    script = recipe.with_name("late.sbatch")
    waits = f"((${{SLURM_RESTART_COUNT:-0}})) || sleep {seconds}\nrestart=$"
    text = SCRIPT.read_text().replace("\nrestart=$", f"\n{waits}", 1)
    script.write_text(text if warned else text.replace("#SBATCH --signal", "## --signal"))
    return script


def queued_again_with_more_time(job: Job) -> None:
    """Wait until its time was over once, and give it enough for the rest."""
    job.wait(lambda: job.starts() == 2)
    job.cluster.ask("scontrol", "update", f"jobid={job.number}", "TimeLimit=50")


def test_it_goes_on_after_its_time_is_over_to_the_same_adapter(
    cluster: Cluster, undisturbed: bytes, here: Path
) -> None:
    # SLURM counts time in minutes, and sends its signal up to a minute early.
    job = cluster.submit(here, "--time=2", "--signal=B:USR1@60", script=late(here, 25))
    queued_again_with_more_time(job)
    assert job.end() == "COMPLETED", job.log()
    assert "seconds are left): the run is told to save a checkpoint" in job.log()
    assert "stopped by SIGUSR1" in job.output(0), job.log()
    assert went_on(job) and adapter(job.run()) == undisturbed


def test_without_a_signal_it_stops_by_itself(cluster: Cluster, undisturbed: bytes, here: Path) -> None:
    job = cluster.submit(here, "--time=2", script=late(here, 70, warned=False))
    queued_again_with_more_time(job)
    assert job.end() == "COMPLETED", job.log()
    assert f"before the SLURM job {job.number}, which ends at" in job.output(0), job.log()
    assert "is told to save" not in job.log()
    assert went_on(job) and adapter(job.run()) == undisturbed


def test_a_preempted_job_saves_and_goes_on(cluster: Cluster, undisturbed: bytes, here: Path, tmp_path: Path) -> None:
    job = cluster.submit(here, "--time=30", "--nodelist=n1")
    job.wait(job.saved)
    urgent = tmp_path / "urgent.sh"
    urgent.write_text("#!/bin/sh\nsleep 2\n")
    number = cluster.ask(
        "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--nodelist=n1",
        f"--output={tmp_path}/urgent.log", str(urgent),
    ).strip()  # fmt: skip
    assert Job(number, tmp_path, cluster).end() == "COMPLETED"
    assert job.end() == "COMPLETED", job.log()
    assert job.starts() == 2 and "stopped by SIGTERM, after the run had saved" in job.output(0), job.log()
    assert went_on(job) and adapter(job.run()) == undisturbed


def test_a_cancelled_job_saves_and_stays_cancelled(cluster: Cluster, here: Path) -> None:
    job = cluster.submit(here, "--time=30")
    job.wait(job.saved)
    cluster.ask("scancel", job.number)
    assert job.end() == "CANCELLED", job.log()
    assert "stopped by SIGTERM, after the run had saved a checkpoint" in job.output(0), job.log()
    assert json.loads((job.run() / "run.json").read_text())["status"] == "interrupted"
    time.sleep(8)  # a job that is queued again would begin
    assert job.fact("JobState") == "CANCELLED" and job.fact("Restarts") == "0"


def test_two_nodes_stop_and_go_on_to_the_adapter_of_one_with_two_processes(
    cluster: Cluster, recipe: Path, here: Path, tmp_path: Path
) -> None:
    job = cluster.submit(here, "--nodes=2", "--time=30")
    job.wait(job.saved)
    cluster.ask("scancel", "--signal=USR1", "--batch", job.number)  # as SLURM sends it before the end
    assert job.end() == "COMPLETED", job.log()
    assert went_on(job), job.log()
    assert "node 1: training with 1 of 2 processes" in job.output(0, node=1), job.log()
    text = recipe.read_text().replace(str(recipe.parent), str(tmp_path / "one"))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "recipe.yaml").write_text(text)
    one = tunesmith("train", tmp_path / "one" / "recipe.yaml", "--set", "deepspeed.processes=2")
    assert one.code == 0, one.out + one.err
    assert adapter(job.run()) == adapter(tmp_path / "one" / "outputs" / "recipe")


def test_a_job_whose_node_dies_is_queued_again_and_goes_on(cluster: Cluster, undisturbed: bytes, here: Path) -> None:
    job = cluster.submit(here, "--time=30", "--nodelist=n2")
    job.wait(job.saved)
    cluster.ask("scontrol", "update", "nodename=n2", "state=down", "reason=test")  # it comes back by itself
    assert job.end() == "COMPLETED", job.log()
    assert job.starts() == 2 and adapter(job.run()) == undisturbed, job.log()


def test_a_job_whose_node_loses_its_daemon_is_queued_again_and_goes_on(
    cluster: Cluster, undisturbed: bytes, here: Path
) -> None:
    job = cluster.submit(here, "--time=30", "--nodelist=n2")
    job.wait(job.saved)
    cluster.kill("n2")
    job.wait(lambda: job.starts() == 2)  # SLURM gives the node up; what runs there nobody ends until it is back
    cluster.start("n2")
    assert job.end() == "COMPLETED", job.log()
    assert adapter(job.run()) == undisturbed, job.log()


def test_an_array_trains_each_recipe(cluster: Cluster, here: Path, tiny_model: Path, tmp_path: Path) -> None:
    short = {"training": {"max_steps": 2}, "evaluation": {"samples": 0, "metrics": ["loss"]}}
    for name in ("a", "b"):
        write_recipe(tmp_path, tiny_model, short).rename(tmp_path / f"{name}.yaml")
    job = cluster.submit(
        tmp_path / "a.yaml",
        "--array=1-2",
        "--time=30",
        more=(str(tmp_path / "b.yaml"), "--", "--set", "training.seed=5"),
    )
    first, second = (Job(f"{job.number}_{task}", tmp_path, cluster) for task in (1, 2))
    assert (first.end(), second.end()) == ("COMPLETED", "COMPLETED"), first.log()
    for name in ("a", "b"):
        state = json.loads((tmp_path / "outputs" / name / "run.json").read_text())
        assert (state["status"], state["recipe"]["training"]["seed"]) == ("done", 5)


def test_a_process_that_is_killed_fails_the_job_and_says_why(cluster: Cluster, here: Path) -> None:
    job = cluster.submit(here, "--nodes=2", "--time=30")
    job.wait(job.saved)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(job.run() / "plan.json").encode() in words and b"RANK=1" in environment:
            os.kill(int(process.name), signal.SIGKILL)
    assert job.end() == "FAILED", job.log()
    assert job.fact("ExitCode") == "4:0" and job.fact("Restarts") == "0", job.log()
    assert "process 1 of 2 was killed" in job.output(0)
