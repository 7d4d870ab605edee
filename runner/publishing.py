"""The supervisor's side of pushing checkpoints: a process beside the training, and what became of its pushes.

Nothing here waits while training goes on, and nothing raises: a checkpoint that is not on the Hub is on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner import runfile
from runner.errors import Interrupted
from runner.hub.checkpoints import branch
from runner.recipe import Hub
from runner.secrets import redact
from runner.signals import Signals, unheard

AT_THE_END = 60.0  # seconds that the last checkpoint's push is waited for after a run
AT_A_STOP = 3.0  # and where a run was told to stop: who did may not wait long
TICK = 0.05
LOG = Path("logs") / "checkpoints.log"


@dataclass
class Pushes:
    """What the process beside the training has told so far."""

    process: subprocess.Popen[str] | None = None
    pushed: dict[str, Any] | None = None
    passed_over: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)  # step -> why

    def finish(self) -> None:
        """Say that no more checkpoints will come. Does not wait."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError, ValueError):
                self.process.stdin.write("finish\n")
                self.process.stdin.flush()

    def listen(self, say: Callable[[str], None]) -> None:
        """Note what the process tells, until it ends."""
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            try:
                told = json.loads(line)
            except ValueError:  # it was ended in the middle of a line
                continue
            if "pushed" in told:
                self.pushed = told
                self.failed.pop(told["pushed"], None)
                say(f"checkpoint of step {told['pushed']} pushed to {told['url']}")
            elif "passed_over" in told:
                self.passed_over.append(told["passed_over"])
            elif "failed" in told:
                self.failed[told["failed"]] = redact(str(told["fault"]), os.environ)

    def end(self, seconds: Callable[[], float]) -> bool:
        """Wait for the process to end, for as long as `seconds` says at any time. Whether it had to be ended."""
        assert self.process is not None
        started = time.monotonic()
        while self.process.poll() is None and time.monotonic() - started < seconds():
            time.sleep(TICK)
        late = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        return late


@contextmanager
def beside(hub: Hub | None, directory: Path, say: Callable[[str], None], signals: Signals) -> Iterator[Pushes]:
    """Push checkpoints while the block runs, where the recipe wants it, and for a while after; say what is missing.

    A signal to stop shortens the while.
    """
    pushes = Pushes()
    if hub is None or not hub.checkpoints:
        yield pushes
        return
    try:
        pushes.process = _start(directory)
    except OSError as error:
        say(f"warning: checkpoints are not pushed: {error.strerror}")
        yield pushes
        return
    listener = threading.Thread(target=pushes.listen, args=(say,), daemon=True)
    listener.start()
    limit = AT_THE_END
    try:
        assert pushes.process.stdin is not None
        with suppress(OSError):
            pushes.process.stdin.write(json.dumps(asdict(hub)) + "\n")
            pushes.process.stdin.flush()
        yield pushes
    except Interrupted:
        limit = AT_A_STOP
        raise
    finally:
        pushes.finish()
        late = pushes.end(lambda: AT_A_STOP if signals.reason is not None else limit)
        listener.join(TICK * 20)
        shutil.rmtree(directory / "checkpoints_to_push", ignore_errors=True)
        _told(pushes, late, hub, directory, say)


def _start(directory: Path) -> subprocess.Popen[str]:
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    with (directory / LOG).open("ab") as log, unheard():  # a signal to the run is not one to it
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.hub.checkpoints", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def _told(pushes: Pushes, late: bool, hub: Hub, directory: Path, say: Callable[[str], None]) -> None:
    """Say and write down what is on the Hub, and what is not."""
    name = f"`{branch(hub).revision}` of `{hub.repository}`"
    before = runfile.read(directory).get("checkpoints_on_hub") or {}
    there: dict[str, Any] = {"repository": hub.repository, "branch": branch(hub).revision}
    if pushes.pushed:
        there |= {"step": pushes.pushed["pushed"], "commit": pushes.pushed["commit"]}
    elif there.items() <= before.items():
        there |= {key: before.get(key) for key in ("step", "commit")}
    if pushes.passed_over:
        steps = ", ".join(map(str, sorted(pushes.passed_over)))
        say(f"checkpoints of the steps {steps} are not on {name}: newer ones were there before their turn came")
    for step, fault in pushes.failed.items():
        say(f"warning: the checkpoint of step {step} was not pushed to {name}: {fault}")
    if not late and pushes.process is not None and pushes.process.returncode:
        say(f"warning: pushing checkpoints to {name} broke off; `{directory / LOG}` says why")
    if late:
        say(f"warning: a checkpoint was still being pushed to {name}; the same command goes on with it")
    with suppress(OSError):
        runfile.update(
            directory,
            checkpoints_on_hub=there
            | {
                "passed_over": sorted(pushes.passed_over),
                "failed": {str(step): fault for step, fault in pushes.failed.items()},
                "cut_off": late,
            },
        )
