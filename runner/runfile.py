"""`run.json`: how a run stands, for whoever looks while it goes on or after it ended. Written as a whole, or not.

What ended a run is kept as it was told: `fault` has its kind and each problem with its place and hint. Earlier versions
kept `problems`, the sentences alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import errors, secrets
from runner.errors import Interrupted, OutOfMemory, Problem, PushError, RecipeError, RunError, UserError

NAME = "run.json"
ENDED_BY_A_FAULT = ("failed", "interrupted", "not_pushed")
STATUSES = ("preparing", "training", "evaluating", "pushing", "done", "not_pushed", "interrupted", "failed")


def read(directory: Path) -> dict[str, Any]:
    """The run's state; empty where there is none yet."""
    try:
        state = json.loads((directory / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def fault(state: Mapping[str, Any]) -> UserError | None:
    """What ended the run whose state this is, as it was told then; None where nothing did, or it is not known."""
    if state.get("status") not in ENDED_BY_A_FAULT:
        return None
    try:
        return errors.unpacked(state["fault"])
    except (LookupError, TypeError, ValueError):
        told = state.get("problems")
    problems = [Problem(str(each)) for each in told] if isinstance(told, list) else []
    kinds = {kind.exit_code: kind for kind in (RunError, RecipeError, PushError, OutOfMemory, Interrupted)}
    code = state.get("exit_code")
    kind = kinds.get(code, RunError) if isinstance(code, int) else RunError
    return kind(problems) if problems else None


def end(directory: Path, status: str, error: UserError) -> None:
    """Put what ended the run into its state."""
    update(directory, status=status, exit_code=error.exit_code, fault=errors.packed(error))


def update(directory: Path, **changes: Any) -> dict[str, Any]:
    """Put changes into the run's state, with the time and without what looks like a secret.

    A new status ends what was said of a fault before.
    """
    if "status" in changes:
        assert changes["status"] in STATUSES, changes["status"]
        changes = {"fault": None} | changes
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
