"""A machine and a task in, a base model that the one can train for the other out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from runner import architecture
from runner.machine import GIB, Machine


@dataclass(frozen=True)
class Candidate:
    """A model of the Hub under Apache-2.0. `memory` is what it takes to train an adapter on it, in GiB, roughly."""

    chat: str
    base: str  # the same before it learned to chat, for plain text
    memory: float
    cores: int  # without a GPU: those that make it bearable
    shows_tools: bool  # whether its chat template does


# About 2 bytes a weight, half as much again for the adapter and what a step holds, and a GiB or two for torch.
CANDIDATES = (
    Candidate("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M", 2, 1, False),
    Candidate("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B", 4, 8, True),
    Candidate("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B", 7, 64, True),
    Candidate("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B", 22, 10_000, True),
)


def default(task: str, machine: Machine) -> tuple[str, str]:
    """The largest of the candidates that the machine can take, and why, for a sentence."""
    device = min((each.memory for each in machine.devices), default=0)
    room = (device or machine.memory) / GIB
    able = [each for each in CANDIDATES if each.memory <= room and (device or each.cores <= machine.cores)]
    if task == "function_calling":
        able = [each for each in able if each.shows_tools] or [each for each in CANDIDATES if each.shows_tools][:1]
    chosen = able[-1] if able else CANDIDATES[0]
    where = (
        f"a GPU of {room:.0f} GiB"
        if device
        else f"{machine.cores} {'core' if machine.cores == 1 else 'cores'} and no GPU"
    )
    return (chosen.base if task == "continued_pretraining" else chosen.chat), f"small enough for {where}"


def shows_tools(name: str) -> bool | None:
    """Whether a model's chat template speaks of tools; None for a model that is not here."""
    for candidate in CANDIDATES:
        if name == candidate.chat:
            return candidate.shows_tools
    path = Path(name)
    if path.suffix.lower() == ".gguf" and path.is_file():
        try:
            return "tools" in str(architecture.gguf_facts(path).get("tokenizer.chat_template", ""))
        except architecture.UnreadableModel:
            return None
    folder = path if path.is_dir() else architecture.cached(name, None)
    if folder is None:
        return None
    try:
        if (folder / "chat_template.jinja").is_file():
            return "tools" in (folder / "chat_template.jinja").read_text(encoding="utf-8")
        return "tools" in json.dumps(json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return None
