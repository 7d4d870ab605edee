"""What sampling leaves behind: `completions.jsonl` with every completion, `rewards.jsonl` with what its scoring said.

Every process of a run appends whole lines to both, without what looks like a secret. A run that goes on drops the lines
after the step it goes on from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import events, secrets

COMPLETIONS, REWARDS = "completions.jsonl", "rewards.jsonl"


class Log:
    """The two files of a run. Without `sampled`, the second file alone."""

    def __init__(self, directory: Path, sampled: bool = True) -> None:
        self._completions = _opened(directory / COMPLETIONS) if sampled else None
        self._rewards = _opened(directory / REWARDS)

    def completion(self, line: Mapping[str, Any]) -> None:
        """One sampled completion with its scores."""
        assert self._completions is not None, "a run that samples logs what it samples"
        _append(self._completions, line)

    def told(self, event: Mapping[str, Any]) -> None:
        """Something that the pool of rewards says: what was printed, a fault, a file that was taken up again."""
        _append(self._rewards, event)

    def close(self) -> None:
        if self._completions is not None:
            os.close(self._completions)
        os.close(self._rewards)


def truncate(directory: Path, step: int) -> None:
    """Drop what steps after `step` left. A step is logged by the number of the step that it leads to."""
    for name in (COMPLETIONS, REWARDS):
        events.truncate(directory / name, step)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _append(descriptor: int, line: Mapping[str, Any]) -> None:
    text = secrets.redact(json.dumps(line, ensure_ascii=False, default=str), os.environ)
    os.write(descriptor, f"{text}\n".encode("utf-8", "backslashreplace"))
