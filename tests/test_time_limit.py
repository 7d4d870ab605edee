"""Lengths of time as people and SLURM write them, and the margin that a run keeps before its end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runner import errors, time_limit
from runner.time_limit import RESERVE, SLACK, Limit, Pace

HOUR = 3600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 90 * 60), ("2h", 2 * HOUR), ("3h30m", 3.5 * HOUR), ("1d12h", 36 * HOUR), ("45s", 45), ("1H30M", 5400),
        ("30:00", 1800), ("90:00", 5400), ("3:30:00", 3.5 * HOUR), ("03:30:15", 3.5 * HOUR + 15),
        ("1-12", 36 * HOUR), ("1-12:30", 36.5 * HOUR), ("2-00:00:00", 48 * HOUR), (" 2h ", 2 * HOUR),
    ],
)  # fmt: skip
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert time_limit.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("90", "`90` has no unit"), ("", "`` is no length of time"), ("h", "`h` is no length of time"),
        ("1.5h", "`1.5h` is no length of time"), ("30m1h", "`30m1h` is no length of time"),
        ("-5m", "`-5m` is no length of time"), ("3:75:00", "`3:75:00` has more than 59 minutes or seconds"),
        ("10:99", "`10:99` has more than 59 minutes or seconds"), ("0m", "`0m` leaves no time"),
        ("0:00:00", "`0:00:00` leaves no time"), ("1-", "`1-` is no length of time"),
        ("٣h", "`٣h` is no length of time"), ("3 hours", "`3 hours` is no length of time"),
    ],
)  # fmt: skip
def test_what_is_no_length_of_time(text: str, message: str) -> None:
    with pytest.raises(errors.RecipeError) as caught:
        time_limit.parse(text)
    (problem,) = caught.value.problems
    assert problem.message == message and problem.hint
    assert problem.place is not None and str(problem.place) == "--time-limit"


def test_the_earlier_end_counts() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + HOUR)}
    of_job = time_limit.find("2h", job)
    assert of_job is not None and of_job.name.startswith("the SLURM job 7, which ends at 20")
    asked = time_limit.find("30m", job)
    assert asked is not None and asked.name == "the time limit of `30m`" and 1790 < asked.left <= 1800
    assert time_limit.find(None, {}) is None


def test_the_end_is_asked_of_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert time_limit.find(None, {"SLURM_JOB_ID": "7"}) is None
    for answer, told in (("2030-01-31T12:00:05", True), ("N/A", False), ("", False)):
        (tmp_path / "squeue").write_text(f"#!/bin/sh\necho {answer}\n")
        (tmp_path / "squeue").chmod(0o755)
        limit = time_limit.find(None, {"SLURM_JOB_ID": "7"})
        assert (limit is not None and limit.name.endswith("which ends at 2030-01-31 12:00:05,")) == told


def test_the_margin_is_what_was_measured() -> None:
    pace = Pace(boundary=2, parameters=10**9)
    assert pace.margin == RESERVE
    pace.training = True
    guessed = 10**9 * time_limit.BYTES_A_PARAMETER / time_limit.BYTES_A_SECOND
    assert pace.margin == RESERVE + SLACK * guessed
    pace.note({"event": "pace", "step": 3.0, "pause": 0.5, "saved": False})
    assert pace.margin == RESERVE + SLACK * (2 * 3.0 + 0.5 + guessed)
    pace.note({"event": "pace", "step": 2.0, "pause": 9.0, "saved": True})
    pace.note({"event": "step", "step": 77})
    assert pace.margin == RESERVE + SLACK * (2 * 3.0 + 9.0)
    again = Pace(boundary=2, training=True)
    again.remember(pace.state)
    assert again.margin == pace.margin
    for nonsense in (None, [], {"step": "x", "pause": None}):
        again.remember(nonsense)
    assert again == pace or again.state == pace.state


def test_a_run_is_told_when_the_margin_is_left() -> None:
    told: list[str] = []
    pace = Pace(step=1.0)
    limit = Limit(time.time() + RESERVE + 0.5, "the time limit of `31s`")
    began = time.monotonic()
    time_limit.watch(limit, pace, told.append, threading.Event())
    assert time.monotonic() - began >= 0.4
    (reason,) = told
    assert reason.startswith("stopped ") and reason.endswith(" seconds before the time limit of `31s` is over")


def test_a_run_that_is_over_is_told_nothing() -> None:
    told: list[str] = []
    over = threading.Event()
    over.set()
    time_limit.watch(Limit(time.time() + 1, "x"), Pace(), told.append, over)
    assert not told


def test_a_run_that_could_do_nothing_but_stop_does_not_begin() -> None:
    pace = Pace(training=True, step=100.0, saved=True)
    time_limit.check(None, pace)
    time_limit.check(Limit(time.time() + 1000, "x"), pace)
    with pytest.raises(errors.RunError) as caught:
        time_limit.check(Limit(time.time() + 60, "the time limit of `1m`"), pace)
    (problem,) = caught.value.problems
    assert (
        problem.message.startswith("the time limit of `1m` leaves ") and "stops 180 seconds before" in problem.message
    )
