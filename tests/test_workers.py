"""Workers as they really are: processes that fail, are killed, or are told to stop, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from settled import plan_of

from runner import holding, planfile, workers
from runner.errors import Crashed, DataError, Halted, Interrupted, OutOfMemory, RunError
from runner.recipe import Source
from runner.signals import Signals, heard, stop
from runner.workers import Stage, World


@pytest.fixture
def signals() -> Iterator[Signals]:
    """The signals of a supervisor; this process gets its own ones back."""
    with heard() as found:
        yield found


def stage(directory: Path, processes: int = 1, rows: str | None = None, model: Path | None = None) -> Stage:
    """The preparation of a run over these rows; without rows it has no plan, and fails at once."""
    if rows is not None:
        (directory / "rows.jsonl").write_text(rows)
        settled = plan_of()
        data = replace(settled.recipe.dataset, train=(Source(str(directory / "rows.jsonl"), 1.0, None, (), "auto"),))
        base = replace(settled.recipe.model, name=str(model or directory / "no model"))
        changed = replace(settled.recipe, dataset=data, model=base)
        text = planfile.to_json(replace(settled, recipe=changed, directory=str(directory)))
        (directory / "plan.json").write_text(text)
    return Stage("prepare", processes, "cpu", directory)


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def started(signals: Signals, count: int) -> list[int]:
    """The process ids of so many workers, as soon as they are there."""
    deadline = time.monotonic() + 20
    while len(signals.workers) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    return [worker.pid for worker in signals.workers]


def listens(process: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def nothing(event: dict[str, Any]) -> None:
    raise AssertionError(f"nothing was to be told, and {event} was")


def test_a_fault_in_the_data_comes_back_as_it_was_found(tmp_path: Path, signals: Signals) -> None:
    with pytest.raises(DataError) as caught:
        workers.run(stage(tmp_path, rows='{"prompt": "é"}\n' * 30), signals, nothing)
    error = caught.value
    assert type(error) is DataError and error.exit_code == 2
    assert (len(error.problems), error.total) == (20, 30)
    first, second = error.problems[:2]
    assert first.place is not None and (first.place.file, first.place.line) == (str(tmp_path / "rows.jsonl"), 1)
    assert second.place is not None and second.place.line == 2
    assert "completion" in first.message
    assert signals.workers == []


def test_an_end_without_a_word_shows_the_log(tmp_path: Path, signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runner.py").write_text("raise SystemExit('a file of the person was imported')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "prepare-0.fault").write_text("of an earlier run")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RunError) as caught:
        workers.run(stage(tmp_path), signals, nothing)
    (problem,) = caught.value.problems
    assert problem.message.startswith("the process ended with code 1 while it ran `prepare`; the end of its log:\n  | ")
    assert "FileNotFoundError" in problem.message and "a file of the person" not in problem.message
    assert problem.place is not None and problem.place.file == str(tmp_path / "logs" / "prepare-0.log")
    assert type(caught.value) is Crashed and caught.value.exit_code == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_that_is_killed_ran_out_of_memory_and_ends_the_others(tmp_path: Path, signals: Signals) -> None:
    told: dict[str, str] = {}

    def kill() -> None:
        first, second = started(signals, 2)
        environment = Path(f"/proc/{second}/environ").read_bytes().decode()
        told.update(line.split("=", 1) for line in environment.split("\0") if "=" in line)
        os.kill(second, signal.SIGKILL)

    thread = meanwhile(kill)
    began = time.monotonic()
    with pytest.raises(OutOfMemory) as caught:
        workers.run(stage(tmp_path, 2, rows=""), signals, nothing)
    thread.join()
    assert time.monotonic() - began < workers.GRACE
    assert caught.value.exit_code == 4
    assert caught.value.problems[0].message.startswith("process 1 of 2 was killed while it ran `prepare`")
    assert (told["RANK"], told["LOCAL_RANK"], told["WORLD_SIZE"], told["CUDA_VISIBLE_DEVICES"]) == ("1", "1", "2", "")
    assert "TUNESMITH_EVENTS" not in told and told["TUNESMITH_FAULT"].endswith("prepare-1.fault")
    assert int(told["OMP_NUM_THREADS"]) >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_before_the_worker_listens_interrupts_the_run(
    tmp_path: Path, signals: Signals, number: signal.Signals
) -> None:
    def send() -> None:
        started(signals, 1)
        os.kill(os.getpid(), number)

    thread = meanwhile(send)
    with pytest.raises(Interrupted) as caught:
        workers.run(stage(tmp_path, rows=""), signals, nothing)
    thread.join()
    assert caught.value.exit_code == 75
    assert caught.value.problems[0].message == f"stopped by {number.name}; run the same command again to go on"


def test_a_signal_to_a_worker_that_listens_ends_its_stage_at_once(
    tmp_path: Path, signals: Signals, tokenizer: Any
) -> None:
    tokenizer.save_pretrained(tmp_path / "model")
    events: list[dict[str, Any]] = []

    def send() -> None:
        (process,) = started(signals, 1)
        while not listens(process):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    rows = json.dumps({"prompt": "a", "completion": "b"}) + "\n"
    thread = meanwhile(send)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        workers.run(stage(tmp_path, rows=rows, model=tmp_path / "model"), signals, events.append)
    thread.join()
    assert events == [] and not (tmp_path / "prepared").exists()


def test_a_signal_that_came_before_a_stage_stops_it(tmp_path: Path, signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        workers.run(stage(tmp_path, rows=""), signals, nothing)


def test_a_signal_ends_what_the_supervisor_does_itself(signals: Signals) -> None:
    with pytest.raises(Interrupted, match="stopped by SIGINT"), signals.ending(stop):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    os.kill(os.getpid(), signal.SIGTERM)  # which is passed on from here
    assert signals.reason == "stopped by SIGINT"


def test_a_stage_that_does_not_end_when_it_is_told_is_ended(
    tmp_path: Path, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE", 1.0)

    def hold() -> None:
        (process,) = started(signals, 1)
        os.kill(process, signal.SIGSTOP)
        signals.stop("stopped before the end")

    thread = meanwhile(hold)
    with pytest.raises(Interrupted, match="^stopped before the end; run the same command again to go on$"):
        workers.run(stage(tmp_path, rows=""), signals, nothing)
    thread.join()


def test_workers_are_ended_for_another_nodes_sake(tmp_path: Path, signals: Signals) -> None:
    there = stage(tmp_path, 2, rows="")
    world = World(processes=6, first=4, address="127.0.0.1", port=workers.free_port())
    told: dict[str, str] = {}

    def elsewhere() -> bool:
        environment = Path(f"/proc/{signals.workers[1].pid}/environ").read_bytes().decode()
        told.update(line.split("=", 1) for line in environment.split("\0") if "=" in line)
        return "RANK" in told

    with pytest.raises(Halted, match="`prepare` was ended here, since another node could not go on"):
        workers.run(replace(there, world=world), signals, nothing, elsewhere)
    assert (told["RANK"], told["LOCAL_RANK"], told["WORLD_SIZE"], told["LOCAL_WORLD_SIZE"]) == ("5", "1", "6", "2")
    assert (told["MASTER_ADDR"], told["MASTER_PORT"]) == ("127.0.0.1", str(world.port))
    assert (tmp_path / "logs" / "prepare-5.log").exists()


def test_a_worker_that_met_a_full_disk_says_so(tmp_path: Path) -> None:
    (tmp_path / "train-0.fault").touch()  # which could not be written either
    (tmp_path / "train-0.log").write_text("Traceback\nException: No space left on device (os error 28)\n")
    fault = workers._fault(Stage("train", 1, "cpu", tmp_path), 0, 1, tmp_path)
    assert isinstance(fault, RunError)
    (problem,) = fault.problems
    assert problem.message == "the disk was full while the process ran `train`"
    assert problem.hint == workers.DISK_FULL_HINT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_directory_is_waited_for_a_while(tmp_path: Path) -> None:
    with holding.alone(tmp_path / "run"):
        with pytest.raises(RunError, match="another process is running in"), holding.alone(tmp_path / "run"):
            pass
        first = holding.alone(tmp_path / "other")
        first.__enter__()
        thread = threading.Timer(0.5, first.__exit__, (None, None, None))
        thread.start()
        with holding.alone(tmp_path / "other", patience=60.0):
            thread.join()


def test_a_full_disk_is_no_traceback_of_the_supervisor(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="cannot write to .*: No space left on device"),
        holding.alone(tmp_path / "run"),
        open("/dev/full", "w", encoding="utf-8") as full,
    ):
        full.write("x")


def test_a_worker_that_does_not_end_by_itself_is_ended(tmp_path: Path) -> None:
    swallows = """
import os, signal, time
from runner import worker
worker.Stop()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    time.sleep(60)
"""
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-P", "-c", swallows], check=False)
    assert ended.returncode == -signal.SIGALRM and time.monotonic() - began < 30
