"""NVIDIA devices as `nvidia-smi` lists them, and which of them CUDA gives to a process. Nothing heavy is imported.

In: the program's two lists and `CUDA_VISIBLE_DEVICES`. Out: a `Card` for each device that CUDA would count, in order.
Of devices that are partitioned (MIG), a process gets one part, and no whole device beside it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace

MIB, GIB = 1024**2, 1024**3
QUERY = ("--query-gpu=index,uuid,name,memory.total,compute_cap,mig.mode.current", "--format=csv,noheader,nounits")
SECONDS = 30  # for the driver to answer; the first call after a boot initialises each device
# The memory in a part's name is rounded up: of `1g.5gb` 4.75 GiB can be used, of `3g.40gb` a little more in proportion.
PART_OF_NAMED = 0.95
WHOLE = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
PART = re.compile(r"\s+MIG (\S*?(\d+)gb\S*)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")
NONE_VISIBLE = ("", "-1", "NoDevFiles")


@dataclass(frozen=True)
class Card:
    """A device or a part of one. `memory` is in bytes, `capability` the CUDA compute capability."""

    index: str  # of the whole device
    uuid: str
    name: str
    memory: int
    capability: float
    partitioned: bool = False  # the device is in MIG mode: only parts of it can be used


def visible(environment: Mapping[str, str]) -> tuple[Card, ...]:
    """What CUDA would give to a process with this environment; nothing where the driver does not answer."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None and named.strip() in NONE_VISIBLE:
        return ()
    cards = listed(ask(*QUERY))
    return chosen(cards, parts(ask("-L"), cards) if any(card.partitioned for card in cards) else (), named)


def ask(*arguments: str) -> str:
    """What `nvidia-smi` prints; nothing where it is missing, fails or hangs."""
    works, answer = answered(*arguments)
    return answer if works else ""


def answered(*arguments: str) -> tuple[bool, str]:
    """Whether `nvidia-smi` works, and what it prints; where it does not work, why."""
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        return False, "`nvidia-smi` is not there"
    except subprocess.TimeoutExpired:
        return False, f"`nvidia-smi` did not answer within {SECONDS} seconds"
    except (OSError, ValueError) as error:
        return False, f"`nvidia-smi` cannot be run: {error}"
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        return False, f"`nvidia-smi` ended with code {done.returncode}: {said}"
    return True, done.stdout


def listed(answer: str) -> tuple[Card, ...]:
    """The whole devices of an answer to `QUERY`; of partitioned ones, the memory may be hidden from this user."""
    found = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (5, 6) or not re.fullmatch(r"\d+\.\d+", fields[4]):
            continue
        partitioned = fields[5:] == ["Enabled"]
        memory = int(fields[3]) * MIB if fields[3].isdecimal() else 0
        if memory or partitioned:
            found.append(Card(fields[0], fields[1], fields[2], memory, float(fields[4]), partitioned))
    return tuple(found)


def parts(answer: str, cards: tuple[Card, ...]) -> tuple[Card, ...]:
    """The parts of the cards, from an answer to `nvidia-smi -L`."""
    by_uuid, whole, found = {card.uuid: card for card in cards}, None, []
    for line in answer.splitlines():
        if device := WHOLE.match(line):
            whole = by_uuid.get(device[2])
        elif (part := PART.match(line)) and whole is not None:
            memory = int(int(part[2]) * GIB * PART_OF_NAMED)
            found.append(replace(whole, uuid=part[3], name=f"{whole.name} MIG {part[1]}", memory=memory))
    return tuple(found)


def chosen(cards: tuple[Card, ...], parts: tuple[Card, ...], named: str | None) -> tuple[Card, ...]:
    """What CUDA makes of `CUDA_VISIBLE_DEVICES`: indices, or beginnings of the UUIDs of devices and of parts.

    It goes no further than the first name that it does not know.
    """
    if named is None:
        return parts[:1] or tuple(card for card in cards if not card.partitioned)
    found: list[Card] = []
    for name in (name.strip() for name in named.split(",")):
        among = parts if name.startswith("MIG-") else cards
        fitting = [card for card in among if card.index == name or _begins(card.uuid, name)]
        if len(fitting) != 1:
            break
        card = fitting[0]
        if card.partitioned and not name.startswith("MIG-"):
            inside = [part for part in parts if part.index == card.index]
            if not inside:
                break
            card = inside[0]
        if card.partitioned:
            return (card,) if not found else tuple(found)
        found.append(card)
    return tuple(found)


def _begins(uuid: str, name: str) -> bool:
    return name[:4] in ("GPU-", "MIG-") and uuid.startswith(name)
