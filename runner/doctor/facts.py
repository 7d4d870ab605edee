"""What only torch can tell, asked in a short process of its own, so that this one stays light and outlives any fault.

In: the modules to try. Out: `Facts`, also where the process hangs, is killed or cannot import anything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.doctor.probe import EVENTS

SECONDS = 120.0  # for torch and the modules to be imported, from a cold disk as well
LONGEST_REASON = 300  # characters


@dataclass(frozen=True)
class Facts:
    """What the process told: name -> fact, with `error` in it where it failed; and how the process ended otherwise."""

    told: Mapping[str, Mapping[str, Any]]
    trouble: str | None = None  # it hung or died


def ask(modules: Sequence[str], seconds: float = SECONDS, environment: Mapping[str, str] = os.environ) -> Facts:
    """Start the process and wait for its facts, `seconds` at most. Raises nothing."""
    command = [sys.executable, "-P", "-m", "runner.doctor.probe", *modules]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        try:
            done = subprocess.run(
                command,
                env={**environment, EVENTS: str(told.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=(told.fileno(),),
                timeout=seconds,
                check=False,
            )
            trouble = _ended(done.returncode, done.stderr)
        except subprocess.TimeoutExpired:
            trouble = f"no answer within {seconds:g} seconds"
        except OSError as error:
            trouble = f"`{sys.executable}` cannot be run: {error.strerror}"
        told.seek(0)
        return Facts(_facts(told.read()), trouble)


def _facts(text: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for line in text.splitlines():
        try:
            fact = json.loads(line)
        except ValueError:  # the process was ended in the middle of a line
            continue
        if isinstance(fact, dict) and isinstance(fact.get("name"), str):
            found[fact["name"]] = fact
    return found


def _ended(code: int, said: str) -> str | None:
    if code == 0:
        return None
    if code < 0:
        return f"the process that asks torch died of {signal.Signals(-code).name}"
    last = (said.strip().splitlines() or [""])[-1]
    return f"the process that asks torch ended with code {code}: {last}"[:LONGEST_REASON]
