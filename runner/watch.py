"""A run's files in, the progress that its own command shows out, while it goes on or afterwards.

Nothing is asked of the run and nothing written, so that it goes on however the watching ends. A run that begins again
from a checkpoint drops what it had logged after that; what was shown already is not shown again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import holding, runfile
from runner.errors import Problem, RunError
from runner.report.reading import is_run, mapping, no_run, number
from runner.show import Watcher

BETWEEN_LOOKS = 1.0  # seconds
NUMBERS = {"step": ("epoch", "loss", "learned_tokens", "seconds", "elapsed"), "evaluation": ()}  # that are shown
STAGES = {
    "preparing": "preparing: reading the data, loading the tokenizer",
    "training": "training: loading the model",
    "evaluating": "evaluating: reading the adapter back, scoring it",
    "pushing": "pushing the adapter to the Hub",
}
ENDS = ("done", *runfile.ENDED_BY_A_FAULT)

Event = dict[str, Any]


def follow(directory: Path, watcher: Watcher, wait: Callable[[], None] = lambda: time.sleep(BETWEEN_LOOKS)) -> None:
    """Show a run until it ends, waiting for one that has not begun. Raises the fault that ended it, with its exit code.

    `wait` passes the time between two looks. Raises RecipeError for a directory that is clearly not that of a run.
    """
    if not is_run(directory) and no_run_ever(directory):
        raise no_run(directory)
    shown = _Shown(directory, watcher)
    try:
        while not shown.look():
            wait()
    except KeyboardInterrupt:
        watcher.close()
        if holding.is_held(directory):
            watcher.say("no longer watched; the run goes on")
        raise
    finally:
        watcher.close()
    state = runfile.read(directory)
    if state.get("status") != "done":
        raise runfile.fault(state) or RunError(
            Problem(f"the run failed, and `{directory / runfile.NAME}` does not say why")
        )


def no_run_ever(directory: Path) -> bool:
    """Whether a directory holds something else than a run that has not begun: runs, a part of one, or it is a file."""
    try:
        there = directory.exists()
        inside = any(map(is_run, directory.parents)) or (directory.is_dir() and any(map(is_run, directory.iterdir())))
        return inside or (there and not directory.is_dir())
    except (OSError, ValueError):
        return True


@dataclass
class Tail:
    """A file of JSON lines that grows; `again` says that its beginning was written anew since the last look."""

    path: Path
    again: bool = False
    _place: int = 0
    _file: tuple[int, int] | None = None
    _seen: set[int] = field(default_factory=set)  # hashes of lines

    def read(self) -> Iterator[tuple[Event, bool]]:
        """The events that are new, and those of a file that was written anew; whether each has been read before.

        A line that is not whole yet is left for later.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                which = (status.st_dev, status.st_ino)
                self.again = self._file is not None and (which != self._file or status.st_size < self._place)
                if which != self._file or self.again:
                    self._file, self._place = which, 0
                file.seek(self._place)
                lines = file.read().split(b"\n")
        except OSError:
            self.again = False
            return
        for line in lines[:-1]:
            self._place += len(line) + 1
            known = hash(line) in self._seen
            self._seen.add(hash(line))
            if (event := _event(line)) is not None:
                yield event, known


def _event(line: bytes) -> Event | None:
    """A logged step or evaluation with everything that is shown of it; None for any other line."""
    try:
        event = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") not in NUMBERS or type(event.get("step")) is not int:
        return None
    if any(number(event.get(name)) is None for name in NUMBERS[event["event"]]):
        return None
    if event["event"] == "evaluation" and number(event.get("evaluation_loss")) is None:
        event.pop("evaluation_loss", None)
    measured = {name: value for name, value in mapping(event.get("measured")).items() if number(value) is not None}
    warnings = [str(each) for each in event["warnings"]] if isinstance(event.get("warnings"), list) else []
    reward = {"reward": number(event["reward"])} if "reward" in event else {}
    return event | {"measured": measured, "warnings": warnings} | reward


class _Shown:
    """How much of a run has been shown."""

    def __init__(self, directory: Path, watcher: Watcher) -> None:
        self.directory, self.watcher = directory, watcher
        self.metrics = Tail(directory / "metrics.jsonl")
        self.word = ""  # what was said last of a run that does nothing
        self.stage: object = None
        self.started = self.prepared = self.reloaded = False

    def look(self) -> bool:
        """Show what is new; whether the run has ended."""
        held = holding.is_held(self.directory)  # before its state: what is let go of has said how it ended
        state = runfile.read(self.directory)
        status = state.get("status")
        if status in ENDS and not held:
            self._progress(state)
            self._read_back(state)
            return True
        if not held:
            self._say_once(
                f"there is no run in `{self.directory}` yet: waiting for it to begin"
                if status is None
                else f"no process is at work in `{self.directory}`, whose run was {status}: waiting for it to go on"
            )
        elif status in STAGES:
            self.word = ""
        if status in STAGES:
            self._progress(state)
        if status in STAGES and status != self.stage:
            self.stage = status
            if held and not (status == "training" and self.started):
                self.watcher.say(STAGES[str(status)])
        return False

    def _say_once(self, word: str) -> None:
        if word != self.word:
            self.word = word
            self.watcher.close()
            self.started = False
            self.watcher.say(f"{word}; Ctrl-C ends this")

    def _progress(self, state: Mapping[str, Any]) -> None:
        """What was prepared, and the steps and evaluations since the last look."""
        if not self.prepared and state.get("status") != "preparing":
            self.prepared = self._tell(_object(self.directory / "prepared" / "prepared.json") | {"event": "prepared"})
        read = list(self.metrics.read())
        known = [event["step"] for event, before in read if before]
        fresh = [event for event, before in read if not before]
        if self.metrics.again:
            self.started = False
        if not fresh:
            return
        if not self.started:
            total = mapping(_object(self.directory / "plan.json").get("steps")).get("total")
            total = total if isinstance(total, int) else fresh[-1]["step"]
            self.started = self._tell({"event": "start", "step": max(known, default=0), "total": total})
        steps = [event for event in fresh if event["event"] == "step"]
        for event in fresh:
            if len(steps) > 1:  # of many at once the last one says how far the run is
                self.watcher.shown_at = 0.0 if event is steps[-1] else time.monotonic()
            self._tell(event)

    def _read_back(self, state: Mapping[str, Any]) -> None:
        result = mapping(state.get("result"))
        if not self.reloaded and all(number(result.get(name)) is not None for name in ("loss", "training_loss")):
            self.reloaded = self._tell({"step": "?"} | result | {"event": "reloaded"})

    def _tell(self, event: Event) -> bool:
        try:
            self.watcher(event)
        except (LookupError, TypeError, ValueError):  # a file of another version, or changed by hand
            return False
        return True


def _object(path: Path) -> Event:
    try:
        return mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}
