"""Machines: this one as the system describes it, and others by their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import machine
from runner.machine import GIB, Device, UnknownMachine

FOUR = """\
0, GPU-8932f937-d72c, NVIDIA H100 80GB HBM3, 81559, 9.0
1, GPU-8a32f937-0000, NVIDIA H100 80GB HBM3, 81559, 9.0
2, GPU-11111111-1111, Tesla T4, 15360, 7.5
3, GPU-22222222-2222, NVIDIA A100-SXM4-40GB, 40960, 8.0
"""
H100 = Device("NVIDIA H100 80GB HBM3", 81559 * 1024**2, 9.0)
T4 = Device("Tesla T4", 15360 * 1024**2, 7.5)
A100 = Device("NVIDIA A100-SXM4-40GB", 40960 * 1024**2, 8.0)


def tell(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program named `nvidia-smi` first in the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, (H100, H100, T4, A100)), ("0,2", (H100, T4)), (" 3 , 0 ", (A100, H100)), ("", ()), ("-1", ()),
        ("0,-1,1", (H100,)), ("0,9,1", (H100,)), ("GPU-11111111-1111", (T4,)), ("GPU-1", (T4,)),
        ("GPU-8932,3", (H100, A100)),
        ("GPU-8", ()), ("NoDevFiles", ()), ("x", ()),
    ],
)  # fmt: skip
def test_the_devices_that_a_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, devices: tuple[Device, ...]
) -> None:
    tell(tmp_path, monkeypatch, f"cat <<'END'\n{FOUR}END")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.here().devices == devices


@pytest.mark.parametrize(
    "script",
    [":", "exit 9", "echo 'It has failed'", "echo '0, GPU-1, Grid, [N/A], 8.0'", "echo '0, GPU-1, Old, 99, [N/A]'"],
)
def test_a_driver_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tell(tmp_path, monkeypatch, script)
    assert machine.here().devices == ()


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    found = machine.here()
    assert found.here and found.devices == ()
    assert found.cores == machine.cores() <= len(os.sched_getaffinity(0))
    assert 2**28 < found.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("limit", "memory"), [("100", 100 * 1024**2), ("0", None), ("", None), ("²", None), ("-5", None)]
)
def test_the_memory_that_slurm_gives(monkeypatch: pytest.MonkeyPatch, limit: str, memory: int | None) -> None:
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    whole = machine.here().memory
    monkeypatch.setenv("SLURM_MEM_PER_NODE", limit)
    assert machine.here().memory == (memory or whole)


@pytest.mark.parametrize(
    ("told", "cores", "memory"),
    [
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_CPU": "64"}, 1, 64 * 1024**2),
        ({"SLURM_CPUS_ON_NODE": "2", "SLURM_MEM_PER_CPU": "64", "SLURM_MEM_PER_NODE": "100"}, 2, 100 * 1024**2),
        ({"SLURM_CPUS_ON_NODE": "0"}, 999, None), ({"SLURM_CPUS_ON_NODE": "2(x3)"}, 999, None),
        ({"SLURM_CPUS_ON_NODE": "100000", "SLURM_MEM_PER_CPU": "0"}, 999, None),
    ],
)  # fmt: skip
def test_what_slurm_gives(tmp_path: Path, told: dict[str, str], cores: int, memory: int | None) -> None:
    assert machine.cores(told, tmp_path) == min(cores, len(os.sched_getaffinity(0)))
    assert machine.memory(told, tmp_path) == (memory or machine.memory({}, tmp_path))


def test_affinity_counts(tmp_path: Path) -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from runner import machine; "
    done = subprocess.run(
        [sys.executable, "-c", program + "print(machine.cores(), machine.here().cores)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1 1\n", "")


def test_machines_by_name() -> None:
    one, eight, big = (machine.named(text) for text in ("H100", "h100:8", "h100:8:2048"))
    assert one.devices == (Device("h100", 80 * GIB, 9.0),) and not one.here
    assert eight.devices == one.devices * 8 and eight.flash_attention and eight.bitsandbytes
    assert big.memory == 2048 * GIB
    assert not machine.named("t4").flash_attention
    cpu = machine.named("cpu:16:64")
    assert (cpu.devices, cpu.cores, cpu.memory, cpu.bitsandbytes) == ((), 16, 64 * GIB, False)
    assert machine.named("cpu").cores == 1


@pytest.mark.parametrize("kind", machine.KNOWN_DEVICES)
def test_every_known_device_can_be_named(kind: str) -> None:
    memory, capability = machine.KNOWN_DEVICES[kind]
    assert machine.named(f"{kind}:2").devices == (Device(kind, memory * GIB, capability),) * 2


@pytest.mark.parametrize(
    "text", ["nonsense", "h100:", "h100:0", "h100:-1", "h100:1:2:3", "h100:x", ":", "", "8", "cpu:1:", "h100:999999"]
)
def test_what_names_no_machine(text: str) -> None:
    with pytest.raises(UnknownMachine):
        machine.named(text)


@given(st.text(max_size=12) | st.from_regex(r"(cpu|h100|t4):[\w²٣]{0,3}:?\w{0,3}", fullmatch=True))
def test_any_text_is_a_machine_or_unknown(text: str) -> None:
    try:
        found = machine.named(text)
    except UnknownMachine:
        return
    assert found.cores > 0 and found.memory > 0
