"""Jobs of a SLURM that tests have started: submitted by the script, asked how they stand, waited for."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node_runs import free_port
from runs import SECONDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "slurm" / "train.sbatch"
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")


@dataclass(frozen=True)
class Job:
    """A job, and the folder that it was submitted from."""

    number: str
    folder: Path
    cluster: Cluster

    def fact(self, name: str) -> str:
        """What SLURM says of the job, such as its `JobState`."""
        said = self.cluster.ask("scontrol", "--oneliner", "show", "job", self.number)
        found = re.search(rf"(?:^| ){name}=(\S*)", said)
        return found[1] if found else ""

    def wait(self, for_what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not for_what():
            assert time.monotonic() < deadline, self.log()
            assert self.fact("JobState") not in ENDED, self.log()
            time.sleep(0.2)

    def end(self) -> str:
        """How it ended."""
        deadline = time.monotonic() + SECONDS
        while (state := self.fact("JobState")) not in ENDED:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.5)
        return state

    def saved(self) -> bool:
        """Whether it has published a checkpoint."""
        return bool(list(self.run().glob("checkpoints/step-*")))

    def run(self) -> Path:
        return self.folder / "outputs" / "recipe"

    def starts(self) -> int:
        return int(self.fact("Restarts")) + 1

    def output(self, start: int = 0, node: int = 0) -> str:
        path = self.folder / "outputs" / "slurm" / f"{self.number}.{start}.node{node}.log"
        return path.read_text() if path.exists() else ""

    def log(self) -> str:
        """All that it printed, for a test that fails."""
        texts = [path.read_text() for path in sorted(self.folder.glob("**/*.log")) if "checkpoints" not in path.parts]
        return "\n----\n".join(texts)


@dataclass(frozen=True)
class Cluster:
    """A running SLURM."""

    environment: dict[str, str]

    def ask(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, node: str) -> None:
        """Kill a node's daemon, as a crash does; what it has started goes on."""
        os.kill(int((Path(self.environment["SLURM_CONF"]).parent / "run" / f"slurmd.{node}.pid").read_text()), 9)

    def start(self, node: str) -> None:
        """Start a node's daemon again."""
        self.ask("slurmd", "-f", self.environment["SLURM_CONF"], "-N", node)

    def submit(self, recipe: Path, *options: str, more: tuple[str, ...] = (), script: Path = SCRIPT) -> Job:
        """Submit a recipe by the script, each job with a port of its own."""
        environment = self.environment | {"TUNESMITH_RENDEZVOUS": f"127.0.0.1:{free_port()}"}
        number = subprocess.run(
            ["sbatch", "--parsable", "--mem=3000", "--cpus-per-task=1", *options, str(script), str(recipe), *more],
            env=environment, cwd=recipe.parent, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        return Job(number, recipe.parent, self)
