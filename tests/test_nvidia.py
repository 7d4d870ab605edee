"""NVIDIA devices by what `nvidia-smi` prints: whole ones, parts of them (MIG), and a driver that is in trouble."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import machine, nvidia

# As the program prints them on a host with two A100, of which the second is in three parts, and an L4.
QUERY = """\
0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, NVIDIA A100-SXM4-40GB, 40960, 8.0, Disabled
1, GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11, NVIDIA A100-SXM4-40GB, 40960, 8.0, Enabled
2, GPU-77777777-1234-5678-9abc-def012345678, NVIDIA L4, 23034, 8.9, [N/A]
"""
LIST = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
  MIG 1c.2g.10gb  Device  2: (UUID: MIG-1e0b7d5f-1c5b-58a6-8d2a-3f5f5a9f7e44)
GPU 2: NVIDIA L4 (UUID: GPU-77777777-1234-5678-9abc-def012345678)
"""
# Drivers before 470 name a part by its device and its place there.
OLD_LIST = """\
GPU 0: A100-SXM4-40GB (UUID: GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11/7/0)
"""
PART, SMALL, SLICE = "A100-SXM4-40GB MIG 3g.20gb", "A100-SXM4-40GB MIG 1g.5gb+me", "A100-SXM4-40GB MIG 1c.2g.10gb"


def chosen(visible: str | None, query: str = QUERY, listing: str = LIST) -> list[str]:
    cards = nvidia.listed(query)
    found = nvidia.chosen(cards, nvidia.parts(listing, cards), visible)
    return [card.name.removeprefix("NVIDIA ") for card in found]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, [PART]), ("0", ["A100-SXM4-40GB"]), ("0,2", ["A100-SXM4-40GB", "L4"]), ("1", [PART]),
        ("GPU-0b8c", [PART]),
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", [PART]), ("MIG-cba", [SMALL]), ("MIG-1e0b,MIG-cba,0", [SLICE]),
        ("MIG-c", []), ("MIG-", []), ("MIG-0000", []), ("MIG", []), ("2,1", ["L4"]), ("2,MIG-cba", ["L4"]), ("9", []),
    ],
)  # fmt: skip
def test_what_cuda_gives_to_a_process(visible: str | None, names: list[str]) -> None:
    assert chosen(visible) == names


def test_the_memory_of_a_part() -> None:
    cards = nvidia.listed(QUERY)
    part, small, third = nvidia.parts(LIST, cards)
    assert [round(each.memory / 2**30, 2) for each in (part, small, third)] == [19.0, 4.75, 9.5]
    assert part.capability == 8.0 and part.partitioned


def test_a_container_that_holds_one_part_of_a_device_that_it_may_not_look_at() -> None:
    query = "0, GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11, A100-SXM4-40GB, [Insufficient Permissions], 8.0, Enabled\n"
    for visible in (None, "0", "MIG-GPU-0b8c3f52-7f3f-9a51-8f6e-1d6b2e6f0a11/7/0"):
        assert chosen(visible, query, OLD_LIST) == ["A100-SXM4-40GB MIG 1g.5gb"]
    assert chosen(None, query, "") == chosen("0", query, "") == []


def test_the_parts_reach_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\nif [ \"$1\" = -L ]; then cat <<'END'\n{LIST}END\nelse cat <<'END'\n{QUERY}END\nfi\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb")
    (device,) = machine.here().devices
    assert device == machine.Device("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", int(4.75 * 2**30), 8.0)


@given(st.text(), st.text(), st.none() | st.text())
def test_any_answer_is_taken(query: str, listing: str, visible: str | None) -> None:
    cards = nvidia.listed(query + "\n" + QUERY)
    assert len(nvidia.chosen(cards, nvidia.parts(LIST + listing, cards), visible)) <= len(cards)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'NVIDIA-SMI has failed'; exit 9", "`nvidia-smi` ended with code 9: NVIDIA-SMI has failed"),
        (None, "`nvidia-smi` is not there"),
    ],
)
def test_a_driver_in_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str) -> None:
    if script is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert nvidia.answered("-L") == (False, said)
    assert nvidia.ask("-L") == ""
