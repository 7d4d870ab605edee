"""What tells a run to stop while it goes on: signals, and whoever else has a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from runner import errors, stopping
from runner.errors import Interrupted

TOGETHER = 1.0  # seconds within which a signal that comes twice was sent to a whole group of processes, and meant once


class Signals:
    """What told the run to stop, passed on to the workers that run. `reason` is a sentence's beginning."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.at_once = False  # told twice: no checkpoint is waited for
        self.number = signal.SIGTERM
        self._seen: dict[signal.Signals, float] = {}  # when each came first
        self.workers: list[subprocess.Popen[bytes]] = []
        self._end: Callable[[Interrupted], None] | None = None
        for number in stopping.SIGNALS:
            signal.signal(number, lambda number, frame: self._received(signal.Signals(number)))

    def stop(self, reason: str, number: signal.Signals = signal.SIGUSR1) -> None:
        """Tell the workers to stop, and those that are still to be started; the first reason is what is said of it."""
        self.number = number
        self.reason = self.reason or reason
        self.pass_on()

    @contextmanager
    def ending(self, end: Callable[[Interrupted], None]) -> Iterator[None]:
        """While no worker runs: let a signal call `end` at once, also one that has come before."""
        if self.reason is not None:
            end(errors.interrupted(self.reason))
        self._end = end
        try:
            yield
        finally:
            self._end = None

    def pass_on(self) -> None:
        """Send the workers what was received."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(self.number)

    def _received(self, number: signal.Signals) -> None:
        # SLURM sends SIGTERM a second time itself, when a grace time is over.
        now, first = time.monotonic(), self._seen.setdefault(number, time.monotonic())
        repeated = now - first > TOGETHER and (number == signal.SIGINT or "SLURM_JOB_ID" not in os.environ)
        self.at_once = self.at_once or repeated
        # A Python that starts up turns SIGINT into a traceback, and SIGTERM into nothing but its end.
        self.stop(f"stopped by {number.name}", signal.SIGTERM if number == signal.SIGINT else number)
        if self._end is not None:
            self._end(errors.interrupted(str(self.reason)))


@contextmanager
def heard() -> Iterator[Signals]:
    """Signals go to the workers within it; afterwards they do to this process what they did before."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    try:
        yield Signals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unheard() -> Iterator[None]:
    """What is started within it hears no signal to stop, from its first moment on, and is not to be stopped by one.

    A session of its own is not enough: SLURM signals every process of a step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*stopping.SIGNALS, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop(error: Interrupted) -> NoReturn:
    """An end for `Signals.ending` that tidies up on its way out."""
    raise error
