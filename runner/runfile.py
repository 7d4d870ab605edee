"""`run.json`: how a run stands, for whoever looks while it goes on or after it ended. Written as a whole, or not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from runner import secrets

NAME = "run.json"
STATUSES = ("preparing", "training", "evaluating", "pushing", "done", "not_pushed", "interrupted", "failed")


def read(directory: Path) -> dict[str, Any]:
    """The run's state; empty where there is none yet."""
    try:
        state = json.loads((directory / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def update(directory: Path, **changes: Any) -> dict[str, Any]:
    """Put changes into the run's state, with the time and without what looks like a secret."""
    if "status" in changes:
        assert changes["status"] in STATUSES, changes["status"]
    shown: dict[str, Any] = secrets.cleaned(changes, os.environ)
    updated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = read(directory) | shown | {"updated": updated}
    write(directory / NAME, json.dumps(state, indent=1, ensure_ascii=False) + "\n")
    return state


def write(path: Path, text: str) -> None:
    """A small file in one piece: whoever reads it sees the old text or the new one, after a power cut as well."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    # half a character, which a file name can hold, is written as its escape, which is JSON too
    try:
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
