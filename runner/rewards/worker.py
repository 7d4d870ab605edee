"""One reward process as the pool sees it: started through its warden, spoken to without ever waiting for it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import runner
from runner.rewards import contract, messages
from runner.rewards.contract import Settings
from runner.rewards.signature import Source

ROOT = str(Path(runner.__file__).parents[1])
# The package is found wherever it lies, and its folder is on the path no longer when a user's code is loaded.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from runner.rewards import warden; "
    "del sys.path[0]; warden.main(sys.argv[2])"
)
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
MOST_AT_ONCE = 64  # calls of an async function in one process
CHUNK = 1 << 18
GRACE = 1.0  # seconds behind its own limit after which a process that waits for many calls is ended
PATIENCE = 8.0  # seconds that a warden gets to end its processes


@dataclass
class Call:
    """One call of a function: for one row, or for all of them."""

    number: int
    rows: tuple[int, ...]
    message: dict[str, Any]
    started: float = 0.0
    alone: bool = False  # it was one of several when a process died: now it is to be told which one did it


@dataclass
class Worker:
    """The state of one reward process. `ready` once its file is loaded; `calls` are those it works on."""

    settings: Settings
    source: Source
    process: subprocess.Popen[bytes]
    control: socket.socket
    link: socket.socket
    output: int
    nonce: str
    started: float
    ready: bool = False
    calls: dict[int, Call] = field(default_factory=dict)
    printed: bytearray = field(default_factory=bytearray)
    printed_bytes: int = 0
    unsent: bytearray = field(default_factory=bytearray)
    reader: messages.Reader = field(default_factory=lambda: messages.Reader(messages.LARGEST_ANSWER))

    @property
    def running(self) -> bool:
        return bool(self.calls) or not self.ready

    @property
    def deadline(self) -> float:
        """The moment on the monotonic clock at which it has to be done with something; infinity while it is idle."""
        if not self.ready:
            return self.started + self.settings.load_timeout
        grace = GRACE if self.source.function.is_async else 0.0
        return min((call.started for call in self.calls.values()), default=float("inf")) + (
            self.settings.timeout + grace
        )

    def has_room(self, call: Call) -> bool:
        if not self.calls:
            return self.ready
        shared = self.source.function.is_async and self.source.function.convention == "each"
        if not self.ready or not shared or call.alone or any(each.alone for each in self.calls.values()):
            return False
        return len(self.calls) < MOST_AT_ONCE

    def give(self, call: Call) -> None:
        call.started = time.monotonic()
        self.calls[call.number] = call
        self.send(call.message)

    def send(self, message: dict[str, Any]) -> None:
        """Send what the socket takes now, and keep the rest for `go_on`."""
        self.unsent += messages.pack(message)
        self.go_on()

    def go_on(self) -> None:
        while self.unsent:
            try:
                sent = self.link.send(memoryview(self.unsent)[:CHUNK])
            except BlockingIOError:
                return
            except OSError:  # it is gone: its warden will say how
                self.unsent.clear()
                return
            del self.unsent[:sent]

    def answers(self) -> list[dict[str, Any]]:
        """What has come in, without waiting. Raises Broken for what this process cannot have sent."""
        found: list[Any] = []
        while True:
            try:
                data = self.link.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError:
                break
            if not data:
                break
            found += self.reader.take(data)
        for answer in found:
            if not isinstance(answer, dict) or answer.get("nonce") != self.nonce:
                raise messages.Broken("an answer without the secret that only the process knows")
        return found

    def listen(self) -> bool:
        """Take in what was printed, without waiting; False once it is more than a call may print."""
        while self.printed_bytes <= contract.PRINTED_LIMIT:
            try:
                data = os.read(self.output, CHUNK)
            except (BlockingIOError, OSError):
                break
            if not data:
                break
            self.printed_bytes += len(data)
            self.printed += data[: max(contract.PRINTED_KEPT - len(self.printed), 0)]
        return self.printed_bytes <= contract.PRINTED_LIMIT

    def take_printed(self) -> tuple[str, bool]:
        """What was printed since the last time, and whether some of it is left out."""
        text, cut = self.printed.decode("utf-8", errors="replace"), self.printed_bytes > len(self.printed)
        self.printed.clear()
        self.printed_bytes = 0
        return text, cut

    def ending(self) -> dict[str, Any]:
        """How it ended, as its warden tells; empty if the warden is gone without a word."""
        reader = messages.Reader()
        with suppress(OSError, messages.Broken):
            while data := self.control.recv(CHUNK):
                for told in reader.take(data):
                    return dict(told)
        return {}

    def hang_up(self) -> None:
        """Have the warden end everything. Returns at once; `wait` waits until nothing is left."""
        self.control.close()
        self.link.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1

    def wait(self, seconds: float = PATIENCE) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(settings: Settings, source: Source, scratch: Path, hidden: list[Path]) -> Worker:
    """Start a reward process for a function as it stands in its kept source. Returns before it has loaded."""
    folder = Path(tempfile.mkdtemp(prefix="reward-", dir=scratch))
    control, control_inside = socket.socketpair()
    link, link_inside = socket.socketpair()
    output, output_inside = os.pipe()
    given = {
        "control": control_inside.fileno(),
        "link": link_inside.fileno(),
        "output": output_inside,
        "scratch": str(folder),
        "memory": settings.memory,
        "tasks": settings.tasks,
        "disk": settings.disk,
        "files": settings.files,
        "hidden": [str(path) for path in hidden],
        "packages": [str(path) for path in settings.packages],
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, ROOT, json.dumps(given)],
            env=environment(settings, folder, os.environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(control_inside.fileno(), link_inside.fileno(), output_inside),
            start_new_session=True,  # what a terminal sends goes to the supervisor alone
        )
    finally:
        control_inside.close()
        link_inside.close()
        os.close(output_inside)
    link.setblocking(False)
    os.set_blocking(output, False)
    nonce = secrets.token_hex(16)
    worker = Worker(settings, source, process, control, link, output, nonce, time.monotonic())
    function = source.function
    worker.send(
        {
            "nonce": nonce,
            "file": str(function.file),
            "function": function.name,
            "text": source.text,
            "packages": [str(path) for path in settings.packages],
            "options": dict(settings.options),
            "is_async": function.is_async,
            "timeout": settings.timeout,
        }
    )
    return worker


def environment(settings: Settings, folder: Path, outside: Mapping[str, str]) -> dict[str, str]:
    """The environment of a reward process, built from nothing: no token of the run is in it."""
    inside = {name: outside[name] for name in (*PASSED_ON, *settings.secrets) if name in outside}
    return {
        "LANG": "C.UTF-8",
        **inside,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "USER": "reward",
        "LOGNAME": "reward",
        "OMP_NUM_THREADS": "1",
        "TUNESMITH_REWARD_SANDBOX": "1",  # for a reward that runs what a model wrote, and asks whether it may
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }


def end_sentence(ending: Mapping[str, Any], settings: Settings) -> str:
    """How a process ended, as a sentence that goes on from its function's name."""
    if "memory" in ending:
        used, limit = (f"{size / contract.MEBIBYTE:.0f} MiB" for size in (ending["memory"], settings.memory))
        return f"used {used} of memory, and may use {limit}"
    if "tasks" in ending:
        return f"ran {ending['tasks']} processes and threads at once, and may run {settings.tasks}"
    if "disk" in ending:
        return f"wrote more than {settings.disk / contract.MEBIBYTE:.0f} MiB into its folder"
    if "files" in ending:
        return f"made more than {settings.files} files in its folder"
    if "signal" in ending:
        number = ending["signal"]
        with suppress(ValueError):
            number = signal.Signals(number).name
        return f"had its process killed by {number}"
    if "exit" in ending:
        return f"ended its process with code {ending['exit']}"
    return "lost its process, and nobody saw how"
