"""What workers print, on its way into their log files: line by line, without secrets.

A process of its own stands between, and not a thread of the supervisor: what a worker printed before it was killed is
still in the pipe and is read from there, and a worker whose supervisor was killed goes on printing.

    python -m runner.logs DESCRIPTOR=FILE ...
"""

from __future__ import annotations

import fcntl
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner import secrets, signals

PIPE = 1 << 20  # bytes that a worker may be ahead of its log
CHUNK = 1 << 16
LONGEST_LINE = 1 << 20  # bytes; a longer one is written in pieces
IDLE = 1.0  # seconds after which a line that has not ended is written


@dataclass(frozen=True)
class Logs:
    """The process that writes the logs, and where each worker of a stage is to print."""

    process: subprocess.Popen[bytes]
    writing: list[int]  # descriptors

    def begun(self) -> None:
        """Close this process's ends, once every worker has been started with its own."""
        for descriptor in self.writing:
            os.close(descriptor)

    def end(self, seconds: float) -> None:
        """Wait until all that the workers printed is in the files; what outlives them may print on."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if self.process.stdout.closed:
            return
        with suppress(OSError):
            self.process.stdin.close()
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            ready.select(seconds)
        self.process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(IDLE)


def begin(files: Sequence[Path]) -> Logs:
    """Start writing logs, one file a worker, at their ends."""
    pipes = [os.pipe() for _ in files]
    for reading, _ in pipes:
        with suppress(OSError):  # more than a user may have in all pipes together
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE)
    with signals.unheard():  # it has to outlive what the workers print at their end, and ends with its pipes
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.logs"]
            + [f"{reading}={file}" for (reading, _), file in zip(pipes, files, strict=True)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[reading for reading, _ in pipes],
            start_new_session=True,
        )
    for reading, _ in pipes:
        os.close(reading)
    return Logs(process, [writing for _, writing in pipes])


class _Log:
    """One pipe and its file."""

    def __init__(self, reading: int, file: str) -> None:
        self.reading, self.rest = reading, b""
        self.mask = secrets.masker(os.environ)
        self.file: int | None = None
        os.set_blocking(reading, False)
        with suppress(OSError):  # then it is read all the same: nobody may be kept waiting
            self.file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def read(self) -> bool:
        """Take up what is there and write whole lines. False at its end."""
        try:
            chunk = os.read(self.reading, CHUNK)
        except BlockingIOError:
            return True
        self.rest += chunk
        lines, newline, rest = self.rest.rpartition(b"\n")
        if len(rest) > LONGEST_LINE or not chunk:
            lines, newline, rest = self.rest, b"", b""
        self.rest = rest
        self._write(lines + newline)
        return bool(chunk)

    def flush(self) -> None:
        """Write what has not ended yet."""
        self._write(self.rest)
        self.rest = b""

    def _write(self, text: bytes) -> None:
        left = self.mask(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        with suppress(OSError):  # a full disk ends the run where it has to write, and not here
            while left and self.file is not None:
                left = left[os.write(self.file, left) :]


def main(words: Sequence[str]) -> None:
    """Write until every pipe has ended. When standard input does, tell that what was printed until then is written."""
    from runner.rewards import confinement

    confinement.protect_from_rewards()
    logs = [_Log(int(descriptor), file) for descriptor, _, file in (word.partition("=") for word in words)]
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ, None)
        for log in logs:
            ready.register(log.reading, selectors.EVENT_READ, log)
        open_ones, draining = len(logs), False
        while open_ones or not draining:
            events = ready.select(0.0 if draining else IDLE)
            read = [key.data for key, _ in events if key.data is not None]
            for log in read:
                if not log.read():
                    ready.unregister(log.reading)
                    open_ones -= 1
            if not read:
                for log in logs:
                    log.flush()
            if not draining and len(read) < len(events):
                ready.unregister(0)
                draining = True
            elif draining and not read:
                os.close(1)
                break
        while open_ones:
            for key, _ in ready.select():
                if not key.data.read():
                    ready.unregister(key.data.reading)
                    open_ones -= 1


if __name__ == "__main__":
    main(sys.argv[1:])
