"""Start the workers of one stage, watch them, pass signals on, and say which one failed and why.

One process a device, each with its own log. The supervisor starts them itself rather than through torch's launcher:
that would be another process that imports torch, swallows signals and hides the exit code of the rank that failed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from runner import errors, machine, trackers
from runner.errors import Interrupted, OutOfMemory, Place, Problem, RunError, UserError

GRACE = 20.0  # seconds that the other processes get to end after one has failed
DISK_FULL = "No space left on device"
DISK_FULL_HINT = (
    "free some space, or set `output.directory` to a folder on another disk, and run the same command again"
)
LOG_LINES = 12  # of a failed worker's log, shown with its fault
# How long a thread of torch's spins at a barrier before it sleeps. Ten times as long is the default: where another
# program uses the cores, threads then spin away the time that they wait for (`benchmarks/shared_cores.py`).
SPINS = "30000"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# The exit codes of processes that these signals ended, or a worker's own alarm after one of them.
ENDS = [-number for number in (*FORWARDED, signal.SIGALRM)]
# The libraries ask the outside for nothing that the recipe does not name, and print no progress bars into the logs.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
} | trackers.QUIET


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its name, how many processes it takes, and where they write."""

    name: str  # prepare | hold_out | rehearse | train | evaluate | score | reply
    processes: int
    device: str  # cpu | cuda
    directory: Path


class Signals:
    """The signals that the supervisor was sent, passed on to the workers that run."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._end: Callable[[Interrupted], None] | None = None
        for number in FORWARDED:
            signal.signal(number, self._forward)

    @contextmanager
    def ending(self, end: Callable[[Interrupted], None]) -> Iterator[None]:
        """While no worker runs: let a signal call `end` at once, also one that has come before."""
        if self.received is not None:
            end(errors.interrupted(self.received))
        self._end = end
        try:
            yield
        finally:
            self._end = None

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self._end is not None:
            self._end(errors.interrupted(self.received))
        for worker in self.workers:
            if worker.poll() is None:
                # A Python that starts up turns SIGINT into a traceback, and SIGTERM into nothing but its end.
                worker.send_signal(signal.SIGTERM if number == signal.SIGINT else number)


def run(stage: Stage, signals: Signals, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Run one stage to its end.

    Raises the fault that a worker reported, Interrupted, OutOfMemory, or RunError with the end of the log of the
    worker that failed first.
    """
    logs = stage.directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    port = _free_port()
    workers: list[subprocess.Popen[bytes]] = []
    for rank in range(stage.processes):
        fault = _fault_file(logs, stage, rank)
        fault.unlink(missing_ok=True)
        with _log_file(logs, stage, rank).open("ab") as log:
            workers.append(_start(stage, rank, port, writing if rank == 0 else None, fault, log))
    signals.workers = workers
    if signals.received is not None:  # it came while they were being started
        signals._forward(signals.received, None)
    os.close(writing)
    listener = threading.Thread(target=_listen, args=(reading, on_event), daemon=True)
    listener.start()
    first_failed = _wait(workers)
    listener.join(timeout=GRACE)
    signals.workers = []
    if first_failed is not None:
        code = workers[first_failed].returncode
        reported = _fault_file(logs, stage, first_failed).exists()
        # A worker that is told to stop before it can listen dies of the signal itself.
        if reported or signals.received is None or code not in (errors.INTERRUPTED, *ENDS):
            raise _fault(stage, first_failed, code, logs)
    if signals.received is not None and (first_failed is not None or stage.name != "train"):
        raise errors.interrupted(signals.received)


@dataclass(frozen=True)
class Running:
    """The one process of a stage that is asked over its standard input."""

    stage: Stage
    process: subprocess.Popen[bytes]

    def fault(self) -> UserError:
        """Why it has ended: what it said, or what its exit code and its log tell."""
        return _fault(self.stage, 0, self.process.wait(), self.stage.directory / "logs")

    def end(self) -> None:
        """Wait for its end, and make one after a while."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def begin(stage: Stage, events: int) -> Running:
    """Start a stage's one process with a pipe to its standard input; it tells its events to the descriptor `events`."""
    logs = stage.directory / "logs"
    with _log_file(logs, stage, 0).open("ab") as log:
        fault = _fault_file(logs, stage, 0)
        return Running(stage, _start(stage, 0, _free_port(), events, fault, log, subprocess.PIPE))


def _start(
    stage: Stage, rank: int, port: int, events: int | None, fault: Path, log: Any, requests: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    environment = (
        os.environ
        | QUIET
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(stage.processes),
            "LOCAL_WORLD_SIZE": str(stage.processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TUNESMITH_FAULT": str(fault),
        }
    )
    if stage.device == "cpu":
        # Each process takes its share of the cores: more threads than cores slow a matrix product down many times.
        threads = max(machine.cores() // stage.processes, 1)
        environment |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    passed: tuple[int, ...] = ()
    if events is not None:
        environment["TUNESMITH_EVENTS"] = str(events)
        passed = (events,)
    return subprocess.Popen(
        # -P: a file of the person's own that is called like a module must not be imported in its place
        [sys.executable, "-P", "-m", "runner.worker", stage.name, str(stage.directory / "plan.json")],
        env=environment,
        stdin=requests,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=passed,
        start_new_session=True,  # Ctrl-C reaches them through the supervisor alone, once
    )


def _listen(descriptor: int, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Hand on what the first worker tells, until it closes its end of the pipe."""
    pipe: TextIO
    with os.fdopen(descriptor, encoding="utf-8") as pipe:
        for line in pipe:
            try:
                event = json.loads(line)
            except ValueError:  # a worker that was killed in the middle of a line
                continue
            on_event(event)


def _wait(workers: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all workers; the rank that failed first, or None. One failure ends the others."""
    first_failed: int | None = None
    deadline: float | None = None
    while any(worker.poll() is None for worker in workers):
        if first_failed is None:
            first_failed = next((rank for rank, worker in enumerate(workers) if worker.poll()), None)
            if first_failed is not None:
                deadline = time.monotonic() + GRACE
                stopped = workers[first_failed].returncode == errors.INTERRUPTED
                for worker in workers if not stopped else ():
                    if worker.poll() is None:
                        worker.terminate()
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
        if os.getpid() == 1:
            _reap_others({worker.pid for worker in workers})
        time.sleep(0.05)
    if first_failed is None:
        first_failed = next((rank for rank, worker in enumerate(workers) if worker.returncode), None)
    return first_failed


def _reap_others(workers: Collection[int]) -> None:
    """Take note of the ends of processes that lost their parents: they become those of process 1, which a container
    that was started without an init has this process for."""
    with suppress(ChildProcessError):  # there is none left
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in workers:
            os.waitpid(ended.si_pid, 0)


def _fault(stage: Stage, rank: int, code: int, logs: Path) -> UserError:
    """What the worker said of its end, or what its exit code and its log tell."""
    fault = _fault_file(logs, stage, rank)
    if fault.exists():
        try:
            return _reported(json.loads(fault.read_text(encoding="utf-8")))
        except ValueError:  # the disk was full when it was written
            fault.unlink()
    log = _log_file(logs, stage, rank)
    where = f"process {rank} of {stage.processes}" if stage.processes > 1 else "the process"
    if code == -signal.SIGKILL:
        return OutOfMemory(
            Problem(
                f"{where} was killed while it ran `{stage.name}`, most often because the host's memory ran out",
                hint="use a smaller `training.micro_batch_size` or `dataset.max_length`, or a machine with more memory",
            )
        )
    ended = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
    if any(DISK_FULL in line for line in lines):
        return RunError(Problem(f"the disk was full while {where} ran `{stage.name}`", Place(str(log)), DISK_FULL_HINT))
    shown = "\n".join(f"  | {line}" for line in lines)
    return RunError(
        Problem(f"{where} {ended} while it ran `{stage.name}`; the end of its log:\n{shown}", Place(str(log)))
    )


def _reported(fault: dict[str, Any]) -> UserError:
    problems = [
        Problem(each["message"], Place(**each["place"]) if each["place"] else None, each["hint"])
        for each in fault["problems"]
    ]
    kind = getattr(errors, fault["kind"], RunError)
    error: UserError = kind(problems, fault["total"])
    return error


def _fault_file(logs: Path, stage: Stage, rank: int) -> Path:
    return logs / f"{stage.name}-{rank}.fault"


def _log_file(logs: Path, stage: Stage, rank: int) -> Path:
    return logs / f"{stage.name}-{rank}.log"


def _free_port() -> int:
    """A port for the workers to meet at, on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
