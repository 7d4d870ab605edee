"""What a worker tells its supervisor: one JSON object a line, over a pipe that the worker inherits.

Only the first process speaks. What it says of steps and evaluations is kept in `metrics.jsonl` as well, so that a
run can be read without having been watched.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

DESCRIPTOR = "TUNESMITH_EVENTS"  # environment variable with the number of the pipe's file descriptor
KEPT = ("step", "evaluation", "skipped")


class Teller:
    """Writes events to the supervisor's pipe, and those that are kept to a file."""

    def __init__(self, metrics: Path, resumed_step: int) -> None:
        number = os.environ.get(DESCRIPTOR)
        self.pipe: TextIO | None = os.fdopen(int(number), "w", buffering=1, encoding="utf-8") if number else None
        truncate(metrics, resumed_step)
        self.file = metrics.open("a", buffering=1, encoding="utf-8")

    def __call__(self, event: dict[str, Any]) -> None:
        line = json.dumps(event)  # in ASCII: a line that is cut off anywhere is still text
        if event["event"] in KEPT:
            self.file.write(line + "\n")
        if self.pipe is not None:
            try:
                self.pipe.write(line + "\n")
            except BrokenPipeError:  # nobody listens any more: the run goes on
                with suppress(BrokenPipeError):
                    self.pipe.close()
                self.pipe = None


def tell(event: dict[str, Any]) -> None:
    """One event to the supervisor, from a worker that keeps no metrics."""
    number = os.environ.get(DESCRIPTOR)
    if number:
        with suppress(BrokenPipeError), os.fdopen(int(number), "wb", closefd=False) as pipe:
            pipe.write((json.dumps(event) + "\n").encode())


def truncate(metrics: Path, step: int) -> None:
    """Drop what was logged after a step: a run that goes on from there logs it again."""
    if not metrics.exists():
        return
    # `splitlines` would break lines at characters that a completion may hold
    lines = metrics.read_text(encoding="utf-8", errors="replace").split("\n")
    kept = [line for line in lines if (event := _parsed(line)) and event.get("step", 0) <= step]
    beside = metrics.with_suffix(".unfinished")
    beside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    beside.replace(metrics)


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of the file; None for one that a kill cut off."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("step", 0), int) else None
