"""The SLURM of these tests, started once for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import Cluster

CLUSTER = Path(__file__).with_name("cluster.sh")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM that runs as long as the tests."""
    at = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([CLUSTER, "start", at], capture_output=True, text=True, check=False, timeout=300)
    assert started.returncode == 0, started.stdout + started.stderr
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment |= {"SLURM_CONF": str(at / "slurm.conf"), "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    yield Cluster(environment)
    subprocess.run([CLUSTER, "stop", at], check=True, timeout=60)
