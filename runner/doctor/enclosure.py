"""The container and the batch job that this process is in, and what keeps rewards in bounds there."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from runner import slurm
from runner.doctor.finding import Finding, Surroundings
from runner.doctor.needs import Needs
from runner.rewards import confinement

GROUP = "container and job"
ENGINES = {
    "docker": "docker",
    "podman": "podman",
    "oci": "an OCI engine",
    "lxc": "LXC",
    "systemd-nspawn": "systemd-nspawn",
}
IN_GROUPS = re.compile(r"kubepods|docker|libpod|containerd|lxc")


def container(surroundings: Surroundings) -> Finding:
    """Which engine's container this is, if it is one."""
    engine = _engine(surroundings)
    return Finding(GROUP, "container", "ok" if engine else "missing", engine or "none that can be told")


def _engine(surroundings: Surroundings) -> str | None:
    environment, root = surroundings.environment, surroundings.root
    if environment.get("APPTAINER_CONTAINER") or environment.get("SINGULARITY_CONTAINER"):
        return "Apptainer"
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    if named := environment.get("container"):  # as systemd's interface for containers has it
        return ENGINES.get(named, named)
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = IN_GROUPS.search(groups)
    return {"kubepods": "Kubernetes", "libpod": "podman", "lxc": "LXC"}.get(found[0], found[0]) if found else None


def job(environment: Mapping[str, str], asks: bool = True) -> Finding | None:
    """The SLURM job and when it ends; None where there is none. `asks`: SLURM is asked where the job does not tell."""
    number = environment.get("SLURM_JOB_ID")
    if not number:
        return None
    end = slurm.end(environment, asks)
    told = "its end is not told" if end is None else f"ends {time.strftime('%Y-%m-%d %H:%M', time.localtime(end))}"
    return Finding(GROUP, "SLURM", "ok", f"job {number}, {told}")


def rewards(needs: Needs) -> list[Finding]:
    """The kernel's layers that reward functions are kept in bounds by."""
    layers = confinement.layers()
    hint = "run reward files that you trust, or give the container a newer kernel or another seccomp profile"
    return [
        Finding("rewards", name, "ok" if used else "warning" if needs.rewards else "missing", sentence,
                hint if needs.rewards and not used else None)
        for name, (used, sentence) in layers.items()
        if name in ("landlock", "signals", "seccomp")
    ]  # fmt: skip
