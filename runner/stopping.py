"""How a run is told to stop, and how what is computed at that moment is left. It stands below all that may be told."""

from __future__ import annotations

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SIGUSR1 is what SLURM's `--signal` is asked to send


class GivenUp(Exception):
    """What was being computed is not waited for: the run was told to stop, and goes on later from what it has saved."""


def never() -> bool:
    """The answer where nobody can tell to stop."""
    return False
