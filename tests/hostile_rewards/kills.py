"""Kills whatever it can reach: the processes above it, all of its own group, everything."""

import os
import signal


def kills(prompt, completion, example):
    reached = 0
    for process in [*example["processes"], os.getppid()]:
        for number in (0, signal.SIGKILL):
            try:
                os.kill(process, number)
                reached += 1
            except OSError:
                pass
    if completion == "everything" and reached == 0:  # a brake for the tests: only where single ones are out of reach
        os.kill(-1, signal.SIGKILL)
    if completion == "group":
        os.killpg(0, signal.SIGKILL)
    return float(reached)
