"""Runs over several nodes: so many supervisors on this machine, each with the cores of one node, over loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runs import SECONDS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(recipe: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
    """`tunesmith train` as one node runs it; what it prints comes in one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "train", str(recipe), *map(str, words)],
        env=os.environ | {"NO_COLOR": "1", "SLURM_CPUS_ON_NODE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def two_nodes(recipe: Path, *words: object, **environment: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Both nodes of a run; whatever is left of them ends with the test."""
    rendezvous = f"127.0.0.1:{free_port()}"
    nodes = [
        start(recipe, "--nodes", 2, "--node-rank", rank, "--rendezvous", rendezvous, *words, **environment)
        for rank in range(2)
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            if node.poll() is None:
                node.kill()
                node.communicate()


def ended(node: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a node, and all that it printed."""
    output, _ = node.communicate(timeout=SECONDS)
    return node.returncode, output
