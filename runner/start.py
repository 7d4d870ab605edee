"""The command: listens for signals before anything is imported, then runs the command line.

Process 1 of a container takes no notice of a signal that it has no handler for: it would be killed when patience ends.
From the start of a run on, `signals.Signals` has the signals.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 75  # as `errors` has it, which may not be there yet


class Stopped(BaseException):
    """A verb that is no training was told to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Run one verb; gives the exit code: of one that was stopped 128 and the signal, of a training 75."""
    trains = sys.argv[1:2] == ["train"]
    # Ctrl-C is Python's own affair, and the other verbs count on that.
    for number in (signal.SIGTERM, signal.SIGUSR1, *([signal.SIGINT] if trains else [])):
        signal.signal(number, _leave if trains else _stop)
    try:
        from runner import cli

        return cli.main()
    except Stopped as stopped:
        return 128 + stopped.number
    except KeyboardInterrupt:  # while it was imported
        return 130


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End the process here: nothing has begun, and an exception might be lost in what is being imported."""
    name = signal.Signals(number).name
    os.write(2, f"error: stopped by {name}; run the same command again to go on\n".encode())
    os._exit(INTERRUPTED)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)
