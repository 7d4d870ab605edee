"""What SLURM tells a process of its job: when it ends, and which of its nodes this one is.

https://slurm.schedmd.com/sbatch.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = 5.0  # for SLURM to answer


@dataclass(frozen=True)
class Step:
    """The nodes of one `srun`. `tasks` counts the processes that it started, `first_host` is the name of node 0."""

    job: int
    nodes: int
    node: int
    tasks: int
    first_host: str


def end(environment: Mapping[str, str], asks: bool = True) -> float | None:
    """When the job ends, in seconds since the epoch; None outside of a job, or where SLURM does not tell.

    `asks`: `squeue` is asked where the environment lacks `SLURM_JOB_END_TIME`, which older releases do not set.
    """
    number = environment.get("SLURM_JOB_ID")
    if not number:
        return None
    told = environment.get("SLURM_JOB_END_TIME", "")
    if re.fullmatch(r"\d{1,12}", told):
        return float(told)
    return _asked(number) if asks else None


def _asked(number: str) -> float | None:
    """The end that `squeue` tells, such as `2030-01-31T12:00:00`, by this machine's clock."""
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", number, "--format", "%e"],
            capture_output=True, text=True, timeout=SECONDS, check=True,
        ).stdout  # fmt: skip
        return time.mktime(time.strptime(answer.strip(), "%Y-%m-%dT%H:%M:%S"))
    except (OSError, ValueError, OverflowError, subprocess.SubprocessError):
        return None


def step(environment: Mapping[str, str]) -> Step | None:
    """The `srun` that this process is of; None outside of one, a job's own script included."""
    nodes, node, tasks = (
        _count(environment, name) for name in ("SLURM_STEP_NUM_NODES", "SLURM_NODEID", "SLURM_STEP_NUM_TASKS")
    )
    hosts = environment.get("SLURM_STEP_NODELIST", "")
    if not nodes or node is None or not tasks or not hosts:
        return None
    return Step(_count(environment, "SLURM_JOB_ID") or 0, nodes, node, tasks, first_host(hosts))


def first_host(hosts: str) -> str:
    """The first name of a list as SLURM writes it: `gpu[03-05,9],login1` -> `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first[0] if first else hosts)


def _count(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None
