"""A run's directory, held by one process: by a lock that ends with it, on every file system that has locks."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from runner import image, workers
from runner.errors import Problem, RunError

TRIES = 5
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def alone(directory: Path, shared: bool = False, elsewhere: str | None = None, patience: float = 0.0) -> Iterator[None]:
    """Hold a run's directory: two processes must not write to it. Those that hold it `shared` may do so together.
    It is waited for `patience` seconds.

    `elsewhere` is what to do where it cannot be written to. Raises RunError where it cannot be had, and where its disk
    turns out to be full while it is held.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise RunError(
            Problem(
                f"cannot write to `{directory}`: {error.strerror}",
                hint=elsewhere
                or image.unwritable(str(directory))
                or "set `output.directory` to a folder that this user may write to",
            )
        ) from error
    with lock:
        deadline = time.monotonic() + patience
        try:
            while not _locked(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() < deadline):
                time.sleep(1)
        except OSError as error:
            hint = f"wait for it, or {elsewhere or 'give this run a `name`'}"
            raise RunError(Problem(f"another process is running in `{directory}`", hint=hint)) from error
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FAULTS:
                raise
            raise RunError(
                Problem(f"cannot write to `{directory}`: {error.strerror}", hint=workers.DISK_FULL_HINT)
            ) from error


def is_held(directory: Path) -> bool:
    """Whether a process holds the directory for itself now. Nothing is written."""
    try:
        with (directory / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _locked(lock: TextIO, kind: int, again: bool) -> bool:
    """Whether a file could be locked. Raises OSError where it could not, and nobody tries again."""
    for left in reversed(range(TRIES)):  # whoever asks whether it is held has it for an instant
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            if not left and not again:
                raise
        time.sleep(0.01)
    return False
