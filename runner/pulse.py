"""A worker's signs of life: a byte over a pipe of its own whenever it has got on, and the supervisor that counts them.

A process that waits for another one for ever, in a collective say, is alive by every other measure.
"""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

DESCRIPTOR = "TUNESMITH_PULSE"  # environment variable with the number of the pipe's file descriptor
SHOW_STACKS = signal.SIGUSR2  # makes a worker write the stack of each of its threads into its log
STARTING = 1800.0  # seconds that processes get for their first sign: they import and load
SUSPENDED = 5.0  # seconds without a look after which the supervisor was suspended itself, and its workers with it


def beat() -> None:
    """Say that this process has got on; nothing where nobody counts. Costs a microsecond."""
    number = os.environ.get(DESCRIPTOR)
    if number:
        with suppress(BlockingIOError, BrokenPipeError):  # full: it has been said
            os.write(int(number), b".")


class Pulses:
    """The signs of life of some processes, of which `give` makes the ends that they write to.

    `limit` is in seconds; with None they are not counted.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.pipes: list[int] = []
        self.latest = self.looked = time.monotonic()
        self.begun = False  # whether any process has given a sign

    def give(self) -> int:
        """The end of a new process's pipe that it writes to; to be closed here once it has been started."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self.pipes.append(reading)
        self.latest = time.monotonic()
        return writing

    def stopped(self) -> bool:
        """Whether no process has got on within the limit."""
        now = time.monotonic()
        suspended, self.looked = now - self.looked > SUSPENDED, now
        for pipe in self.pipes:
            beaten = _has_beaten(pipe)
            self.begun |= beaten
            if beaten or suspended:
                self.latest = now
        if self.limit is None:
            return False
        return now - self.latest >= (self.limit if self.begun else max(self.limit, STARTING))

    def close(self) -> None:
        for pipe in self.pipes:
            os.close(pipe)


def at_work(log: Path, since: int) -> str | None:
    """Where the main thread of a process was, by the stacks that it wrote behind the byte `since` of its log; None
    where it wrote none."""
    with log.open("rb") as file:
        file.seek(since)
        written = file.read().decode(errors="replace")
    found = re.search(r'^Current thread .*\n  File "(.+)", line (\d+) in (.+)$', written, re.MULTILINE)
    if found is None:
        return None
    file_name, line, function = found.groups()
    return f"`{function}` at `{'/'.join(Path(file_name).parts[-2:])}:{line}`"


def duration(minutes: float) -> str:
    """Minutes as a sentence has them."""
    return f"{minutes * 60:.0f} seconds" if minutes < 2 else f"{minutes:g} minutes"


def _has_beaten(pipe: int) -> bool:
    beaten = False
    with suppress(BlockingIOError):
        while os.read(pipe, 65536):
            beaten = True
    return beaten
