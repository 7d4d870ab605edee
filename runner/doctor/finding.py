"""What an examination is given and what it gives: `Surroundings` in, `Finding`s out. Nothing is looked at here."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warning", "missing", "fault"]
MIB, GIB = 1024**2, 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `missing` is what is not there and not needed; a `fault` is what a run dies of."""

    group: str
    name: str
    status: Status
    found: str
    hint: str | None = None  # what can be done; only where something is wrong


@dataclass(frozen=True)
class Surroundings:
    """Where an examination takes place; a test makes its own."""

    environment: Mapping[str, str]
    user: int  # the effective user id
    user_name: str | None  # None: the id has no entry in the list of users
    root: Path = Path("/")  # below it are `dev`, `etc`, `proc`, `run` and `sys`
    user_home: str | None = None  # by the list of users

    def home(self) -> Path:
        """The home directory as libraries find it: where there is none, they make a folder named `~`."""
        return Path(self.environment.get("HOME") or self.user_home or "~")


def here() -> Surroundings:
    """Those of this process."""
    user = os.geteuid()
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return Surroundings(os.environ, user, None)
    return Surroundings(os.environ, user, entry.pw_name, user_home=entry.pw_dir)


def wrong(needed: bool) -> Status:
    """The status of what is not as it should be: only what is needed is a fault."""
    return "fault" if needed else "warning"


def size(count: int) -> str:
    """Bytes for a person."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
