"""The command: listens for signals before anything is imported, then runs the command line.

Process 1 of a container takes no notice of a signal that it has no handler for: it would be killed when patience ends.
From the start of a run on, `workers.Signals` has the signals.
"""

import signal
import sys
from types import FrameType


class Stopped(BaseException):
    """A signal came while there was nothing to save."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def main() -> int:
    """Run one verb; gives the exit code: of one that was stopped 128 and the signal, of a training 75."""
    trains = sys.argv[1:2] == ["train"]
    # Ctrl-C is Python's own affair, and the other verbs count on that.
    for number in (signal.SIGTERM, signal.SIGUSR1, *([signal.SIGINT] if trains else [])):
        signal.signal(number, _stop)
    try:
        from runner import cli

        return cli.main()
    except Stopped as stopped:
        if not trains:
            return 128 + stopped.signal
        from runner import errors

        error = errors.interrupted(stopped.signal)
        print(errors.report(error), file=sys.stderr)
        return error.exit_code


def _stop(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # the end has begun
    raise Stopped(number)
