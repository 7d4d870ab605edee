"""Why a call cannot be read: for the reader, and for whoever asked it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A turn with a broken call. `reason` is a lower-case statement."""

    reason: str


class Broken(Exception):
    """Raised by a reader of one syntax, with the reason."""
