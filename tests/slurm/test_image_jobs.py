"""Jobs that run in an image, by an engine that is really there.

`make test-slurm ENGINE=podman IMAGE=localhost/tunesmith-test:latest`, or `ENGINE=apptainer` and a `.sif` file; an
image for CPUs, such as `make test-image` builds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from jobs import Cluster, Job
from runs import events, write_recipe

ENGINE, IMAGE = os.environ.get("ENGINE", ""), os.environ.get("IMAGE", "")
STEPS = 60
CHANGES: dict[str, Any] = {
    "adapter": {"dropout": 0.05},
    "training": {"max_steps": STEPS, "micro_batch_size": 1, "checkpoints": {"every": 10, "keep": 2}},
}
pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not (ENGINE and IMAGE and shutil.which(ENGINE)), reason="no `ENGINE` is named that has `IMAGE`"),
]


def submit(cluster: Cluster, model: Path, folder: Path, *options: str) -> Job:
    """A job in the image, whose outputs are below its recipe; the rest it reaches by mounts."""
    recipe = write_recipe(folder, model, CHANGES)
    data = Path(__file__).parents[2] / "recipes" / "demo"
    environment = {
        "TUNESMITH_ENGINE": ENGINE, "TUNESMITH_IMAGE": IMAGE, "TUNESMITH_CACHE": str(folder / "cache"),
        "TUNESMITH_MOUNTS": f"{model}:{data}",
    }  # fmt: skip
    inside = Cluster(cluster.environment | environment)
    return inside.submit(recipe, "--gpus-per-node=0", "--time=30", *options)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = submit(cluster, tiny_model, tmp_path_factory.mktemp("undisturbed"))
    assert job.end() == "COMPLETED", job.log()
    return job


def adapter(job: Job) -> bytes:
    return (job.run() / "adapter" / "adapter_model.safetensors").read_bytes()


def state(job: Job) -> str:
    return str(json.loads((job.run() / "run.json").read_text())["status"])


def containers() -> str:
    """What the engine still runs of these jobs."""
    if ENGINE == "apptainer":  # its processes are the job's, and SLURM ends them with it
        return ""
    words = [ENGINE, "ps", "--all", "--quiet", "--filter", "name=^tunesmith-"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_job_in_an_image_trains(undisturbed: Job) -> None:
    assert adapter(undisturbed) and undisturbed.starts() == 1
    assert [event["step"] for event in events(undisturbed.run())] == list(range(1, STEPS + 1))
    assert "in a container" in undisturbed.output() and not containers()


def test_a_job_in_an_image_that_is_queued_again_goes_on(
    cluster: Cluster, undisturbed: Job, tiny_model: Path, tmp_path: Path
) -> None:
    job = submit(cluster, tiny_model, tmp_path)
    job.wait(job.saved)
    cluster.ask("scontrol", "requeue", job.number)
    job.wait(lambda: job.starts() == 2)
    assert job.end() == "COMPLETED", job.log()
    assert [event["step"] for event in events(job.run())] == list(range(1, STEPS + 1)), job.log()
    assert adapter(job) == adapter(undisturbed) and not containers()


def test_a_job_in_an_image_that_is_cancelled_saves_and_leaves_no_container(
    cluster: Cluster, tiny_model: Path, tmp_path: Path
) -> None:
    job = submit(cluster, tiny_model, tmp_path)
    job.wait(job.saved)
    cluster.ask("scancel", job.number)
    assert job.end() == "CANCELLED", job.log()
    deadline = time.monotonic() + 60  # podman's client may be killed before the container has ended
    while (containers() or state(job) == "running") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert state(job) == "interrupted" and not containers(), job.log()


def test_an_image_that_is_not_there_fails_the_job_and_says_so(
    cluster: Cluster, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "IMAGE", "localhost/no-such-image:1" if ENGINE != "apptainer" else "/none.sif")
    job = submit(cluster, tiny_model, tmp_path)
    assert job.end() == "FAILED"
    assert job.fact("ExitCode") == ("125:0" if ENGINE != "apptainer" else "2:0"), job.log()
    assert "no-such-image" in job.log() or "`/none.sif` is not there" in job.log()
