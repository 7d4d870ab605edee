"""The process between the pool and a user's code: it starts that code, watches it, and ends all that comes of it.

Started by the pool with one argument, JSON: the descriptors it inherits and the limits. It tells how the user's process
ended in one message on `control`, after nothing of it is left. When the pool closes `control`, or dies, it ends too.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import time
from contextlib import suppress
from typing import Any

from runner import stopping
from runner.rewards import child, confinement, messages

TICK = 0.1  # seconds between two looks at what the descendants use
SCRATCH_EVERY = 10  # ticks between two looks at the scratch folder, which cost more
LONGEST_END = 5.0  # seconds that processes get to vanish once they are killed


def main(argument: str) -> None:
    """Run one user process to its end."""
    given = json.loads(argument)
    pool = os.getppid()
    # SLURM sends its signals to every process of a job; the step that is being scored is to be finished.
    for number in stopping.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    confinement.protect()
    confinement.adopt_orphans()
    inside = confinement.keep_signals_inside()
    started = os.fork()
    if started == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the user's code ends what it has started
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(given["control"])
        child.main(given)
        os._exit(0)
    os.close(given["link"])
    os.close(given["output"])
    control = socket.socket(fileno=given["control"])
    ending = _watch(started, control, pool, given)
    _end_all(inside)
    if ending is not None:
        with suppress(OSError):
            control.sendall(messages.pack(ending))
    with suppress(OSError, RecursionError):
        shutil.rmtree(given["scratch"], ignore_errors=True)


def _watch(started: int, control: socket.socket, pool: int, given: dict[str, Any]) -> dict[str, Any] | None:
    """Wait until the user's process ends or goes too far, and say how; None when the pool wants an end."""
    watched: list[Any] = [control]
    with suppress(OSError, AttributeError):  # a kernel before 5.3: then its end is noticed at the next tick
        watched.append(os.pidfd_open(started))
    ticks = 0
    while True:
        readable, _, _ = select.select(watched, [], [], TICK)
        if control in readable or os.getppid() != pool:
            return None
        ended = _reap(started)
        if ended is not None:
            return ended
        ticks += 1
        processes = _descendants()
        memory, tasks = _used(processes)
        if tasks > given["tasks"]:
            return {"tasks": tasks}
        if memory > given["memory"] and len(processes) > 1:
            memory = _shared_out(processes)
        if memory > given["memory"]:
            return {"memory": memory}
        if ticks % SCRATCH_EVERY == 0:
            written, files = _written(given["scratch"], given["files"])
            if written > given["disk"]:
                return {"disk": written}
            if files > given["files"]:
                return {"files": files}


def _reap(started: int) -> dict[str, Any] | None:
    """Take leave of all that ended; how the user's process did, if it is among them."""
    found = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process == 0:
            return found
        if process == started:
            code = os.waitstatus_to_exitcode(status)
            found = {"signal": -code} if code < 0 else {"exit": code}


def _end_all(inside: bool) -> None:
    """Kill every descendant, those that left their session or their parents too, and wait until none is left."""
    deadline = time.monotonic() + LONGEST_END
    while time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            if inside:
                # one call that no fork can slip past; it is proved to reach nothing but descendants
                os.kill(-1, signal.SIGKILL)
        for process in _descendants():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _descendants() -> list[int]:
    found: list[int] = []
    waiting = _children(os.getpid())
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += _children(process)
    return found


def _children(process: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{process}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def _used(processes: list[int]) -> tuple[int, int]:
    """Bytes of memory that no file stands behind, and processes and threads. What several share counts for each."""
    memory = tasks = 0
    for process in processes:
        found = _fields(f"/proc/{process}/status")
        memory += sum(found.get(name, 0) for name in ("RssAnon", "RssShmem", "VmSwap")) * 1024
        tasks += found.get("Threads", 0)
    return memory + _held_open(processes), tasks


def _shared_out(processes: list[int]) -> int:
    """The same bytes with each of them counted once, which takes the kernel longer to tell."""
    memory = 0
    for process in processes:
        found = _fields(f"/proc/{process}/smaps_rollup") or _fields(f"/proc/{process}/status")
        names = ("Pss_Anon", "Pss_Shmem", "SwapPss") if "Pss_Anon" in found else ("RssAnon", "RssShmem", "VmSwap")
        memory += sum(found.get(name, 0) for name in names) * 1024
    return memory + _held_open(processes)


def _fields(path: str) -> dict[str, int]:
    """The numbers in a file of `name: number` lines; none of them if it cannot be read."""
    found = {}
    with suppress(OSError), open(path) as file:
        for line in file:
            name, _, value = line.partition(":")
            number = value.split(maxsplit=1)[:1]
            if number and number[0].isdigit():
                found[name] = int(number[0])
    return found


def _held_open(processes: list[int]) -> int:
    """Bytes of files that have no name any more, or never had one, and so are in no folder: memory files are."""
    found: dict[tuple[int, int], int] = {}
    for process in processes:
        with suppress(OSError), os.scandir(f"/proc/{process}/fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat()
                    if status.st_nlink == 0:
                        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _written(folder: str, most: int) -> tuple[int, int]:
    """Bytes on disk below a folder, and files and folders; what comes after `most` of them is not looked at."""
    total = count = 0
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                if count > most:
                    return total, count
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total, count
