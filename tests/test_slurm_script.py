"""The job's script, run by bash without SLURM: the command line of each engine, and what is said of wrong usages.

`srun` starts its command here, once for each node; the engines and the rest note what they are told.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "slurm" / "train.sbatch"

# Notes its name, its words and its environment, and does what stands in a file of its name.
NOTES = f"""#!{sys.executable}
import json, os, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
name = os.path.basename(__file__)
with open(os.path.join(here, "calls"), "a") as file:
    file.write(json.dumps([name, sys.argv[1:], dict(os.environ)]) + "\\n")
does = os.path.join(here, "does-" + name)
if os.path.exists(does) and (name not in ("docker", "podman") or sys.argv[1] == "run"):
    os.execvp("bash", ["bash", does, *sys.argv[1:]])
"""
# As srun: the command once a node, with the node's number, and the output where it is asked for.
SRUN = r"""#!/usr/bin/env bash
printf '%s\0' "$@" >"$(dirname "$0")/srun"
while [[ $1 == --* ]]; do [[ $1 != --output=* ]] || output=${1#--output=}; shift; done
trap 'kill -USR1 -- "${nodes[@]/#/-}"' USR1 # every process of the step, as SLURM does
for ((node = ${SLURM_JOB_NUM_NODES:-1} - 1; node >= 0; node--)); do
  SLURM_NODEID=$node SLURM_STEP_GPUS=${GPUS:-} setsid "$@" >>"${output/\%n/$node}" 2>&1 &
  nodes+=($!)
done
for each in "${nodes[@]}"; do
  until wait "$each"; code=$?; ((code <= 128)); do :; done
done
exit "$code"
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    calls: list[tuple[str, list[str], dict[str, str]]]
    srun: list[str]

    def of(self, program: str) -> list[tuple[list[str], dict[str, str]]]:
        return [(words, environment) for name, words, environment in self.calls if name == program]


Job = Callable[..., Ended]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A function that runs the script as a job of SLURM, in a folder with a recipe."""
    tools = tmp_path / "tools"
    for folder in (tools, tmp_path / "recipes", tmp_path / "home"):
        folder.mkdir()
    (tmp_path / "recipes" / "a.yaml").write_text("task: sft\n")
    (tmp_path / "image.sif").touch()
    for name in ("tunesmith", "docker", "podman", "apptainer", "scontrol", "squeue"):
        write(tools / name, NOTES)
    write(tools / "srun", SRUN)
    (tools / "does-squeue").write_text("echo 2030-01-31T12:00:00\n")
    (tools / "does-scontrol").write_text('[[ $1 != show ]] || printf "gpu1\\ngpu2\\n"\n')

    def run(*words: str, does: str = "", send: signal.Signals | None = None, **environment: str) -> Ended:
        (tools / "calls").write_text("")
        for engine in ("tunesmith", "docker", "podman", "apptainer"):
            (tools / f"does-{engine}").write_text(does)
        process = subprocess.Popen(
            [SCRIPT, *(words or ("recipes/a.yaml",))],
            env=surroundings(tmp_path) | environment,
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if send is not None:
            deadline = time.monotonic() + 60
            while not (tmp_path / "listens").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(send)
        out, _ = process.communicate(timeout=120)
        calls = [tuple(json.loads(line)) for line in (tools / "calls").read_text().splitlines()]
        told: Any = calls
        srun = (tools / "srun.told") if (tools / "srun.told").exists() else None
        return Ended(process.returncode, out, told, srun.read_text().split("\0") if srun else [])

    return run


def write(path: Path, text: str) -> None:
    path.write_text(text.replace('"$(dirname "$0")/srun"', '"$0.told"'))
    path.chmod(0o755)


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a job on one node."""
    return {
        "PATH": f"{folder / 'tools'}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "gpu[1-2]",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_CPUS_ON_NODE": "8",
        "HF_TOKEN": "hf_secret",
        "NCCL_SOCKET_IFNAME": "ib0",
        "PYTHONPATH": "/of/the/host",
    }


def run_words(folder: Path) -> list[str]:
    return ["train", str(folder / "recipes" / "a.yaml"), "--set", f"output.directory={folder / 'outputs'}"]


def test_without_an_image_the_command_on_the_path_is_run(job: Job, tmp_path: Path) -> None:
    ended = job("recipes/a.yaml", "--", "--set", "training.seed=3")
    assert ended.code == 0, ended.out
    ((words, environment),) = ended.of("tunesmith")
    assert words == [*run_words(tmp_path), "--set", "training.seed=3"]
    assert environment["SLURM_JOB_END_TIME"].isdecimal() and "TUNESMITH_NODES" not in environment
    assert ended.of("squeue")[0][0] == ["--noheader", "--jobs", "77", "--format", "%e"]


def test_slurm_is_not_asked_what_it_has_told(job: Job) -> None:
    ended = job(SLURM_JOB_END_TIME="1900000000")
    assert not ended.of("squeue") and ended.of("tunesmith")[0][1]["SLURM_JOB_END_TIME"] == "1900000000"


def given(words: list[str], option: str) -> list[str]:
    return [value for name, value in zip(words, words[1:], strict=False) if name == option]


@pytest.mark.parametrize(("engine", "device"), [("docker", ("--gpus", '"device=2,3"')), ("podman", None)])
def test_docker_and_podman(job: Job, tmp_path: Path, engine: str, device: tuple[str, str] | None) -> None:
    (tmp_path / "data").mkdir()
    ended = job(
        TUNESMITH_ENGINE=engine, TUNESMITH_IMAGE="example.org/tunesmith:1", TUNESMITH_MOUNTS=str(tmp_path / "data"),
        GPUS="2,3", CUDA_VISIBLE_DEVICES="0,1",
    )  # fmt: skip
    assert ended.code == 0, ended.out
    (stopped, _), (words, environment) = ended.of(engine)
    assert stopped == ["stop", "--time", "60", "tunesmith-77-0"]
    assert words[0] == "run" and words[words.index("example.org/tunesmith:1") :] == [
        "example.org/tunesmith:1", *run_words(tmp_path),
    ]  # fmt: skip
    assert given(words, "--name") == ["tunesmith-77-0"]
    assert given(words, "--entrypoint") == ["/usr/local/bin/tunesmith"]
    outputs, recipes, data = (str(tmp_path / name) for name in ("outputs", "recipes", "data"))
    assert given(words, "--mount") == [
        f"type=bind,source={outputs},target={outputs}",
        f"type=bind,source={tmp_path}/home/.cache/tunesmith,target=/cache",
        f"type=bind,source={recipes},target={recipes},readonly",
        f"type=bind,source={data},target={data},readonly",
    ]
    handed = given(words, "--env")
    assert {"HF_TOKEN", "NCCL_SOCKET_IFNAME", "SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_CPUS_ON_NODE"} <= set(handed)
    assert not {"PYTHONPATH", "CUDA_VISIBLE_DEVICES", "HOME", "PATH", "TUNESMITH_IMAGE"} & set(handed)
    assert "hf_secret" not in " ".join(words) and environment["HF_TOKEN"] == "hf_secret"
    assert "--init" not in words  # the run is process 1, and its signals are its own
    assert given(words, "--ulimit") == (["memlock=-1", "stack=67108864"] if engine == "docker" else [])
    if device is not None:
        assert given(words, device[0]) == [device[1]]
    else:
        assert given(words, "--device")[-2:] == ["nvidia.com/gpu=2", "nvidia.com/gpu=3"]
    assert "--network" not in words


def test_apptainer(job: Job, tmp_path: Path) -> None:
    ended = job(TUNESMITH_ENGINE="apptainer", TUNESMITH_IMAGE=str(tmp_path / "image.sif"), GPUS="0")
    assert ended.code == 0, ended.out
    ((words, environment),) = ended.of("apptainer")
    assert words == [
        "exec", "--cleanenv", "--home", f"{tmp_path}/home/.cache/tunesmith:/cache", "--nv",
        "--bind", f"{tmp_path}/recipes:{tmp_path}/recipes:ro", "--bind", str(tmp_path / "outputs"),
        str(tmp_path / "image.sif"), "/usr/local/bin/tunesmith", *run_words(tmp_path),
    ]  # fmt: skip
    assert environment["APPTAINERENV_HF_TOKEN"] == "hf_secret" and environment["APPTAINERENV_SLURM_JOB_ID"] == "77"
    assert "APPTAINERENV_PYTHONPATH" not in environment


def test_apptainer_without_devices(job: Job, tmp_path: Path) -> None:
    ended = job(TUNESMITH_ENGINE="apptainer", TUNESMITH_IMAGE=str(tmp_path / "image.sif"))
    assert "--nv" not in ended.of("apptainer")[0][0]


def test_podman_inherits_as_much_locked_memory_as_its_user_may_have(job: Job, tmp_path: Path) -> None:
    job(TUNESMITH_ENGINE="podman", TUNESMITH_IMAGE="tunesmith", does="ulimit -Sl; ulimit -Hl")
    soft, hard = (tmp_path / "outputs" / "slurm" / "77.0.node0.log").read_text().split()
    assert soft == hard


@pytest.mark.parametrize("engine", ["docker", "apptainer", "pyxis"])
def test_a_directory_is_mounted_once_and_outputs_last(job: Job, tmp_path: Path, engine: str) -> None:
    recipes, outputs = tmp_path / "recipes", tmp_path / "recipes" / "outputs"
    ended = job(
        TUNESMITH_ENGINE=engine, TUNESMITH_IMAGE=str(tmp_path / "image.sif"), TUNESMITH_OUTPUTS=str(outputs),
        TUNESMITH_MOUNTS=f"{recipes}:{outputs}:{recipes}",
    )  # fmt: skip
    words = ended.srun if engine == "pyxis" else ended.of(engine)[-1][0]
    if engine == "docker":  # which itself sorts them
        places = [word.partition("target=")[2].partition(",")[0] for word in given(words, "--mount")]
        assert sorted(places) == sorted(["/cache", str(recipes), str(outputs)])
    elif engine == "apptainer":
        assert given(words, "--bind") == [f"{recipes}:{recipes}:ro", str(outputs)]
    else:
        (mounts,) = (word for word in words if word.startswith("--container-mounts="))
        assert mounts.endswith(f":/cache,{recipes}:{recipes}:ro,{outputs}:{outputs}")


def test_pyxis_starts_the_image_by_srun(job: Job, tmp_path: Path) -> None:
    ended = job(TUNESMITH_ENGINE="pyxis", TUNESMITH_IMAGE="example.org#tunesmith:1")
    assert "--container-image=example.org#tunesmith:1" in ended.srun
    outputs, recipes = tmp_path / "outputs", tmp_path / "recipes"
    mounts = f"{tmp_path}/home/.cache/tunesmith:/cache,{recipes}:{recipes}:ro,{outputs}:{outputs}"
    assert f"--container-mounts={mounts}" in ended.srun
    assert {"--no-container-mount-home", "--no-container-entrypoint"} < set(ended.srun)
    assert "/usr/local/bin/tunesmith" in (outputs / "slurm" / "77.0.node0.log").read_text()  # which is not here


def test_several_nodes_meet_at_the_first(job: Job) -> None:
    ended = job(TUNESMITH_ENGINE="docker", TUNESMITH_IMAGE="tunesmith", SLURM_JOB_NUM_NODES="2")
    assert ended.code == 0, ended.out
    runs = [(words, environment) for words, environment in ended.of("docker") if words[0] == "run"]
    told = {environment["TUNESMITH_NODE_RANK"]: environment for _, environment in runs}
    assert set(told) == {"0", "1"}
    for words, environment in runs:
        assert environment["TUNESMITH_RENDEZVOUS"] == "gpu1:29477" and environment["TUNESMITH_NODES"] == "2"
        assert {"TUNESMITH_NODES", "TUNESMITH_NODE_RANK", "TUNESMITH_RENDEZVOUS", "NCCL_DEBUG"} <= set(
            given(words, "--env")
        )
        assert given(words, "--network") == ["host"]
        assert given(words, "--name") == [f"tunesmith-77-{environment['TUNESMITH_NODE_RANK']}"]
    tokens = {environment["TUNESMITH_RENDEZVOUS_TOKEN"] for _, environment in runs}
    assert len(tokens) == 1 and len(tokens.pop()) == 32


# A run that saves when it is told to; not by bash, which cannot trap what it was started to ignore.
SAVES = f"""exec {sys.executable} -c '
import pathlib, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
' """


def test_a_signal_has_the_run_save_and_the_job_queued_again(job: Job, tmp_path: Path) -> None:
    does = SAVES + str(tmp_path / "listens")
    ended = job(does=does, send=signal.SIGUSR1, TUNESMITH_RESTARTS="2", SLURM_RESTART_COUNT="2")
    assert ended.code == 75, ended.out
    assert "the run is told to save a checkpoint" in ended.out and "not queued again: it was 2 times" in ended.out
    assert (tmp_path / "outputs" / "slurm" / "77.2.node0.log").exists()
    (tmp_path / "tools" / "sleep").write_text("#!/bin/sh\n")  # which waits for SLURM to end the job
    (tmp_path / "tools" / "sleep").chmod(0o755)
    ended = job(does="exit 75\n", SLURM_RESTART_COUNT="3")
    assert ended.code == 75 and ["requeue", "77"] in [words for words, _ in ended.of("scontrol")], ended.out


def test_a_job_that_slurm_ends_is_not_queued_again(job: Job, tmp_path: Path) -> None:
    ended = job(does=f'touch "{tmp_path}/listens"; sleep 2; exit 75\n', send=signal.SIGTERM)
    assert ended.code == 75 and ended.of("scontrol") == [], ended.out
    assert "interrupted: the same command goes on" in ended.out


def test_a_failure_shows_the_end_of_its_output(job: Job) -> None:
    ended = job(does="echo error: it is wrong; exit 2\n")
    assert ended.code == 2 and ended.out.endswith("the end of its output:\nerror: it is wrong\n")


def test_a_lost_node_is_no_success(job: Job, tmp_path: Path) -> None:
    (tmp_path / "tools" / "srun").write_text("#!/bin/sh\nexit 0\n")
    ended = job()
    assert ended.code == 1 and "the run was ended from outside (srun: 0)" in ended.out


def test_an_array_takes_one_recipe_each(job: Job, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").touch()
    ended = job("recipes/a.yaml", "b.yaml", SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_JOB_ID="70")
    assert ended.of("tunesmith")[0][0][:2] == ["train", str(tmp_path / "b.yaml")]
    assert (tmp_path / "outputs" / "slurm" / "70_2.0.node0.log").exists()


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        ("a.yaml b.yaml", {}, "2 recipes are given to one job"),
        ("recipes/a.yaml", {"SLURM_ARRAY_TASK_ID": "2"}, "there is no recipe 2 for task 2 of the array"),
        ("recipes/a.yaml", {"SLURM_ARRAY_TASK_ID": "0"}, "there is no recipe 0 for task 0 of the array"),
        ("recipes/none.yaml", {}, "the recipe `recipes/none.yaml` is not there"),
        ("-- --set a=b", {}, "no recipe is given"),
        ("recipes/a.yaml", {"SLURM_JOB_ID": ""}, "this is no SLURM job"),
        ("recipes/a.yaml", {"TUNESMITH_ENGINE": "singularity"}, "`TUNESMITH_ENGINE` is `singularity`"),
        ("recipes/a.yaml", {"TUNESMITH_ENGINE": "docker"}, "`TUNESMITH_IMAGE` names no image"),
        ("recipes/a.yaml", {"TUNESMITH_ENGINE": "apptainer", "TUNESMITH_IMAGE": "no.sif"}, "`no.sif` is not there"),
        ("recipes/a.yaml", {"PATH": "/usr/bin:/bin"}, "there is no `tunesmith` on the PATH"),
        (
            "recipes/a.yaml", {"TUNESMITH_ENGINE": "apptainer", "TUNESMITH_IMAGE": "x", "PATH": "/usr/bin:/bin"},
            "there is no `apptainer` on this node",
        ),
        (
            "recipes/a.yaml", {"TUNESMITH_ENGINE": "docker", "TUNESMITH_IMAGE": "x", "TUNESMITH_MOUNTS": "data"},
            "`data` cannot be mounted",
        ),
        (
            "recipes/a.yaml", {"TUNESMITH_ENGINE": "docker", "TUNESMITH_IMAGE": "x", "TUNESMITH_MOUNTS": "/no/data"},
            "`/no/data` is no directory",
        ),
        ("recipes/a.yaml", {"TUNESMITH_OUTPUTS": "/proc/x"}, "cannot write to `/proc/x`"),
    ],
)  # fmt: skip
def test_wrong_usages(job: Job, words: str, environment: dict[str, str], message: str) -> None:
    ended = job(*shlex.split(words), **environment)
    assert ended.code == 2 and ended.out.startswith("error: ") and message in ended.out, ended.out
    assert not ended.of("tunesmith") and not ended.of("docker")


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    scripts = [SCRIPT, Path(__file__).parent / "slurm" / "cluster.sh"]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout
