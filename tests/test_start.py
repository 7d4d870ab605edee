"""The command, told to stop before a run has begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTS = "import sys\nfrom runner import start\nsys.exit(start.main())"
INTERRUPTED = "error: stopped by {}; run the same command again to go on\n"


def listening(*words: str) -> subprocess.Popen[str]:
    """The command with these words, as soon as it has a handler for SIGTERM; it waits for its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STARTS, *words],
        env=os.environ | {"NO_COLOR": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None:
        caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_training_that_is_stopped_before_it_began_may_be_started_again(
    seconds: float, number: signal.Signals
) -> None:
    process = listening("train", "-")
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (75, "", INTERRUPTED.format(number.name))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_another_verb_ends_by_the_signal(number: signal.Signals, code: int) -> None:
    process = listening("validate", "-")
    time.sleep(1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "")


def test_a_second_signal_changes_nothing() -> None:
    process = listening("train", "-")
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (75, "", INTERRUPTED.format("SIGTERM"))
