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
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import runner.logs
from runner import errors, machine, pulse, stopping, trackers
from runner.errors import Crashed, Halted, Interrupted, OutOfMemory, Place, Problem, RunError, Stalled, UserError
from runner.logs import Logs
from runner.pulse import Pulses
from runner.signals import Signals
from runner.stopping import never

WRITING = 1.0  # seconds that processes get to write their stacks
GRACE = 20.0  # seconds that the other processes get to end after one has failed
DISK_FULL = "No space left on device"
DISK_FULL_HINT = (
    "free some space, or set `output.directory` to a folder on another disk, and run the same command again"
)
LOG_LINES = 12  # of a failed worker's log, shown with its fault
# How long a thread of torch's spins at a barrier before it sleeps. Ten times as long is the default: where another
# program uses the cores, threads then spin away the time that they wait for (`benchmarks/shared_cores.py`).
SPINS = "30000"
# The libraries ask the outside for nothing that the recipe does not name, and print no progress bars into the logs.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "USE_JAX": "0",  # `datasets` imports both where they are installed, for seconds and for nothing
    "USE_TF": "0",
    "PYTHONUNBUFFERED": "1",
} | trackers.QUIET


@dataclass(frozen=True)
class World:
    """The processes of a stage over all nodes, and where they meet. `first` is the rank of this node's first one."""

    processes: int
    first: int
    address: str
    port: int


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its name, how many processes it takes here, and where they write."""

    name: str  # prepare | hold_out | rehearse | locate | train | evaluate | score | reply
    processes: int
    device: str  # cpu | cuda
    directory: Path
    world: World | None = None  # None: there is no other node
    patience: float | None = None  # minutes for which no process need get on; None: for ever

    @property
    def ranks(self) -> range:
        """The ranks of the processes that are started here."""
        first = self.world.first if self.world else 0
        return range(first, first + self.processes)

    @property
    def everywhere(self) -> int:
        """How many processes there are on all nodes."""
        return self.world.processes if self.world else self.processes


def run(
    stage: Stage,
    signals: Signals,
    on_event: Callable[[dict[str, Any]], None],
    elsewhere: Callable[[], bool] = never,
) -> None:
    """Run one stage to its end on this node; `elsewhere` says whether another node cannot go on, which ends this one.

    Raises the fault that a worker reported, Interrupted, OutOfMemory, or RunError with the end of the log of the
    worker that failed first.
    """
    logs = stage.directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    port = stage.world.port if stage.world else free_port()
    workers: list[subprocess.Popen[bytes]] = []
    pulses = Pulses(None if stage.patience is None else stage.patience * 60)
    printed = runner.logs.begin([_log_file(logs, stage, rank) for rank in stage.ranks])
    for rank, log in zip(stage.ranks, printed.writing, strict=True):
        fault = _fault_file(logs, stage, rank)
        fault.unlink(missing_ok=True)
        beating = pulses.give()
        workers.append(_start(stage, rank, port, writing if rank == 0 else None, fault, log, pulse_to=beating))
        os.close(beating)
    printed.begun()
    signals.workers = workers
    if signals.reason is not None:  # it came while they were being started
        signals.pass_on()
    os.close(writing)
    reached: list[int] = []  # the step that was told last

    def note(event: dict[str, Any]) -> None:
        if event["event"] in ("start", "step"):
            reached[:] = [event["step"]]
        on_event(event)

    listener = threading.Thread(target=_listen, args=(reading, note), daemon=True)
    listener.start()
    try:
        first_failed, halted, stalled = _wait(workers, stage, signals, elsewhere, pulses, on_event)
    finally:
        pulses.close()
    listener.join(timeout=GRACE)
    signals.workers = []
    printed.end(GRACE)
    when = f" after step {reached[0]}" if reached else ""
    if stalled is not None:
        raise stalled
    if signals.at_once and first_failed is not None:
        sentence = f"{signals.reason} twice, so that nothing more was saved; run the same command again to go on"
        raise Interrupted(Problem(sentence))
    if halted:
        raise Halted(Problem(f"`{stage.name}` was ended here, since another node could not go on"))
    if first_failed is not None:
        code = workers[first_failed].returncode
        rank = stage.ranks[first_failed]
        reported = _fault_file(logs, stage, rank).exists()
        # A worker that is told to stop before it can listen dies of the signal itself, and a late one is killed.
        if reported or signals.reason is None or code not in (errors.INTERRUPTED, *_ends(stage)):
            fault_found = _fault(stage, rank, code, logs, when)
            if isinstance(fault_found, Interrupted):
                reason = signals.reason or "told to stop"
                saved = any((stage.directory / "checkpoints").glob("step-*"))
                what = "after the run had saved a checkpoint" if saved else "before there was anything to save"
                sentence = f"{reason}, {what}; run the same command again to go on"
                raise Interrupted(Problem(sentence)) from fault_found
            raise fault_found
    if signals.reason is not None and (first_failed is not None or stage.name != "train"):
        raise errors.interrupted(signals.reason)


@dataclass(frozen=True)
class Running:
    """The one process of a stage that is asked over its standard input."""

    stage: Stage
    process: subprocess.Popen[bytes]
    printed: Logs

    def fault(self) -> UserError:
        """Why it has ended: what it said, or what its exit code and its log tell."""
        code = self.process.wait()
        self.printed.end(GRACE)
        return _fault(self.stage, 0, code, self.stage.directory / "logs")

    def end(self) -> None:
        """Wait for its end, and make one after a while."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.printed.end(GRACE)


def begin(stage: Stage, events: int) -> Running:
    """Start a stage's one process with a pipe to its standard input; it tells its events to the descriptor `events`."""
    logs = stage.directory / "logs"
    printed = runner.logs.begin([_log_file(logs, stage, 0)])
    fault = _fault_file(logs, stage, 0)
    process = _start(stage, 0, free_port(), events, fault, printed.writing[0], subprocess.PIPE)
    printed.begun()
    return Running(stage, process, printed)


def _start(
    stage: Stage,
    rank: int,
    port: int,
    events: int | None,
    fault: Path,
    log: int,
    requests: int = subprocess.DEVNULL,
    pulse_to: int | None = None,
) -> subprocess.Popen[bytes]:
    environment = (
        os.environ
        | QUIET
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(stage.ranks.index(rank)),
            "WORLD_SIZE": str(stage.everywhere),
            "LOCAL_WORLD_SIZE": str(stage.processes),
            "MASTER_ADDR": stage.world.address if stage.world else "127.0.0.1",
            "MASTER_PORT": str(port),
            "TUNESMITH_FAULT": str(fault),
        }
    )
    if stage.device == "cpu":
        # Each process takes its share of the cores: more threads than cores slow a matrix product down many times.
        threads = max(machine.cores() // stage.processes, 1)
        environment |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    inherited = {"TUNESMITH_EVENTS": events, pulse.DESCRIPTOR: pulse_to}
    passed = {name: descriptor for name, descriptor in inherited.items() if descriptor is not None}
    environment |= {name: str(descriptor) for name, descriptor in passed.items()}
    return subprocess.Popen(
        # -P: a file of the person's own that is called like a module must not be imported in its place
        [sys.executable, "-P", "-m", "runner.worker", stage.name, str(stage.directory / "plan.json")],
        env=environment,
        stdin=requests,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(passed.values()),
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


def _wait(
    workers: list[subprocess.Popen[bytes]],
    stage: Stage,
    signals: Signals,
    elsewhere: Callable[[], bool],
    pulses: Pulses,
    on_event: Callable[[dict[str, Any]], None],
) -> tuple[int | None, bool, Stalled | None]:
    """Wait for all workers: which of them failed first, or None; whether they were ended for another node's sake; and
    the fault where none got on any more.

    One failure ends the others.
    """
    first_failed: int | None = None
    stalled: Stalled | None = None
    told = False
    deadline: float | None = None
    ending = halted = False
    while any(worker.poll() is None for worker in workers):
        if first_failed is None:
            first_failed = next((number for number, worker in enumerate(workers) if worker.poll()), None)
        failed = first_failed is not None and workers[first_failed].returncode != errors.INTERRUPTED
        if not ending and (failed or elsewhere()):
            ending, halted = True, not failed
            for worker in workers:
                if worker.poll() is None:
                    worker.terminate()
        # The others of a training save their checkpoint together; what has none to save gets no longer to end.
        if deadline is None and (
            ending or first_failed is not None or (signals.reason is not None and stage.name != "train")
        ):
            deadline = time.monotonic() + GRACE
        if signals.at_once:
            deadline = 0.0
        elif stage.name == "train" and signals.reason is not None and not told:
            told = True
            on_event({"event": "stopping", "reason": signals.reason})
        if deadline is None and pulses.stopped():
            stalled, deadline = _stalled(workers, stage), 0.0
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
        if os.getpid() == 1:
            _reap_others({worker.pid for worker in workers})
        time.sleep(0.05)
    if first_failed is None:
        first_failed = next((number for number, worker in enumerate(workers) if worker.returncode), None)
    return first_failed, halted, stalled


def _ends(stage: Stage) -> list[int]:
    """The exit codes of processes that a signal to stop ended, or a worker's own alarm after one."""
    killed = [signal.SIGKILL] if stage.name != "train" else []
    return [-number for number in (*stopping.SIGNALS, signal.SIGALRM, *killed)]


def _reap_others(workers: Collection[int]) -> None:
    """Take note of the ends of processes that lost their parents: they become those of process 1, which a container
    that was started without an init has this process for."""
    with suppress(ChildProcessError):  # there is none left
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in workers:
            os.waitpid(ended.si_pid, 0)


def _stalled(workers: Sequence[subprocess.Popen[bytes]], stage: Stage) -> Stalled:
    """Have processes that do not get on write down where they are, and say it."""
    assert stage.patience is not None
    logs = [_log_file(stage.directory / "logs", stage, rank) for rank in stage.ranks]
    before = [log.stat().st_size for log in logs]
    for worker in workers:
        worker.send_signal(pulse.SHOW_STACKS)
    time.sleep(WRITING)
    problems = [
        Problem(
            f"process {rank} of {stage.everywhere} did not get on for {pulse.duration(stage.patience)}: "
            + (f"it was in {where}" if (where := pulse.at_work(log, size)) else "it did not even say where it was"),
            Place(str(log)),
        )
        for rank, log, size in zip(stage.ranks, logs, before, strict=True)
    ]
    hint = "the end of each log has all stacks; the same command goes on from the last checkpoint, "
    hint += "and where a run is only slow, raise `training.stall_timeout`"
    return Stalled([*problems[:-1], replace(problems[-1], hint=hint)])


def _fault(stage: Stage, rank: int, code: int, logs: Path, when: str = "") -> UserError:
    """What the worker said of its end, or what its exit code and its log tell; `when` is a part of a sentence."""
    fault = _fault_file(logs, stage, rank)
    if fault.exists():
        try:
            return errors.unpacked(json.loads(fault.read_text(encoding="utf-8")))
        except ValueError:  # the disk was full when it was written
            fault.unlink()
    log = _log_file(logs, stage, rank)
    where = f"process {rank} of {stage.everywhere}" if stage.everywhere > 1 else "the process"
    if code == -signal.SIGKILL:
        return OutOfMemory(
            Problem(
                f"{where} was killed{when} while it ran `{stage.name}`, most often because the host's memory ran out",
                hint="use a smaller `training.micro_batch_size` or `dataset.max_length`, or a machine with more memory",
            )
        )
    ended = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
    if any(DISK_FULL in line for line in lines):
        return RunError(
            Problem(f"the disk was full{when} while {where} ran `{stage.name}`", Place(str(log)), DISK_FULL_HINT)
        )
    shown = "\n".join(f"  | {line}" for line in lines)
    return Crashed(
        Problem(f"{where} {ended}{when} while it ran `{stage.name}`; the end of its log:\n{shown}", Place(str(log)))
    )


def _fault_file(logs: Path, stage: Stage, rank: int) -> Path:
    return logs / f"{stage.name}-{rank}.fault"


def _log_file(logs: Path, stage: Stage, rank: int) -> Path:
    return logs / f"{stage.name}-{rank}.log"


def free_port(host: str = "127.0.0.1") -> int:
    """A port for the workers to meet at, on the interface with this address, or on all with an empty one."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
