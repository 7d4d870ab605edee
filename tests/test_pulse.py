"""Signs of life: who gave none for how long, and what a run does that does not get on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from runs import SECONDS, run_of, workers_of, write_recipe
from test_resume import start

from runner import pulse
from runner.pulse import Pulses


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pulse.time, "monotonic", lambda: self.now)

    def moves(self, pulses: Pulses, seconds: float, step: float = 1.0) -> bool:
        """Let time go by, with a look at the pulses each second; what the last look found."""
        found = False
        for _ in range(int(seconds / step)):
            self.now += step
            found = pulses.stopped()
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def beat_to(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pulse.DESCRIPTOR, str(descriptor))
    pulse.beat()


def test_one_that_gets_on_is_enough(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pulses = Pulses(10.0)
    one, other = pulses.give(), pulses.give()
    beat_to(one, monkeypatch)
    beat_to(other, monkeypatch)
    assert not clock.moves(pulses, 5)
    beat_to(one, monkeypatch)
    assert not clock.moves(pulses, 9)  # nine since the one, fourteen since the other
    assert clock.moves(pulses, 3)
    pulses.close()


def test_processes_get_longer_to_begin(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pulses = Pulses(10.0)
    one = pulses.give()
    assert not clock.moves(pulses, pulse.STARTING - 10)
    beat_to(one, monkeypatch)
    assert not clock.moves(pulses, 9) and clock.moves(pulses, 3)
    pulses.close()


def test_a_supervisor_that_was_suspended_blames_nobody(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pulses = Pulses(10.0)
    beat_to(pulses.give(), monkeypatch)
    assert not clock.moves(pulses, 5)
    assert not clock.moves(pulses, 3600, step=3600)
    assert clock.moves(pulses, 12)
    pulses.close()


def test_nobody_is_waited_for_where_the_recipe_says_so(clock: Clock) -> None:
    pulses = Pulses(None)
    pulses.give()
    assert not clock.moves(pulses, 100 * pulse.STARTING, step=4.0)
    pulses.close()


def test_a_pipe_that_nobody_empties_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pulses = Pulses(10.0)
    writing = pulses.give()
    for _ in range(100_000):
        beat_to(writing, monkeypatch)
    pulses.close()
    beat_to(writing, monkeypatch)  # whose other end is gone
    os.close(writing)


def test_where_nobody_counts_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pulse.DESCRIPTOR, raising=False)
    pulse.beat()


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_with_its_stacks(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        {
            "training": {"max_steps": 100_000, "checkpoints": {"every": 2}, "stall_timeout": 0.2},
            "deepspeed": {"processes": 2},
        },
    )
    process = start(recipe)
    (held, _) = sorted(workers_of(process.pid), reverse=True)
    os.kill(held, signal.SIGSTOP)  # the other one waits for it in a collective
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, output
    assert "error: process 0 of 2 did not get on for 12 seconds: it was in `" in output
    assert "error: process 1 of 2 did not get on for 12 seconds: it did not even say where it was" in output
    assert "raise `training.stall_timeout`" in output and "Traceback" not in output
    log = (run_of(recipe) / "logs" / "train-0.log").read_text()
    assert "Thread 0x" in log and "runner/train.py" in log
    assert not Path(f"/proc/{held}").exists()
    assert list((run_of(recipe) / "checkpoints").glob("step-*"))
