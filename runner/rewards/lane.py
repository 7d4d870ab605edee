"""What the pool knows of one reward: its source, its processes, the calls that wait, and how its calls went."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import secrets
from runner.errors import Place, Problem, RunError
from runner.rewards.contract import Batch, Score, Settings
from runner.rewards.kept import Kept
from runner.rewards.signature import Source
from runner.rewards.worker import Call, Worker

SHORTEST_SECRET = 6  # characters; hiding what is shorter would tear words apart


@dataclass
class Lane:
    """One reward of the pool. `broken` says why its file could not be loaded in this step."""

    settings: Settings
    kept: Kept
    hidden_values: tuple[str, ...]
    queue: deque[Call] = field(default_factory=deque)
    workers: list[Worker] = field(default_factory=list)
    scores: list[Score | None] = field(default_factory=list)
    faults_in_a_row: int = 0
    broken: tuple[str, int] | None = None

    @property
    def running(self) -> int:
        return sum(worker.running for worker in self.workers)

    @property
    def loading(self) -> int:
        return sum(not worker.ready for worker in self.workers)

    def begin(self, calls: list[Call], count: int) -> None:
        self.queue = deque(calls)
        self.scores = [None] * count
        self.broken = None

    def score(self, row: int, value: float | None, seconds: float) -> None:
        self.scores[row] = Score(value, None, seconds)

    def fault(self, row: int, sentence: str, line: int, seconds: float, source: Source, batch: Batch) -> None:
        """Note a fault as `on_error` says. Raises RunError where that is `fail`."""
        place = place_of(source, line)
        if self.settings.on_error == "fail":
            raise RunError(
                Problem(
                    f"reward `{self.settings.name}` gave no score for completion {row} of step {batch.step}: "
                    f"{sentence}",
                    place,
                    "put it right, or set `on_error: zero` or `on_error: skip` for this reward",
                )
            )
        self.scores[row] = Score(0.0 if self.settings.on_error == "zero" else None, sentence, seconds)

    def count(self, faulty: bool, sentence: str, line: int, source: Source) -> None:
        """Count faults in a row, by calls. Raises RunError at the limit."""
        self.faults_in_a_row = self.faults_in_a_row + 1 if faulty else 0
        limit = self.settings.max_faults_in_a_row
        if limit is not None and self.faults_in_a_row >= limit:
            raise RunError(
                Problem(
                    f"reward `{self.settings.name}` failed {self.faults_in_a_row} times in a row; "
                    f"the last time, {sentence}",
                    place_of(source, line),
                    "try it on a few rows by itself, then run the same command again",
                )
            )

    def clean(self, text: str) -> str:
        """The text without the secrets that the function was given, and without anything shaped like one."""
        for value in self.hidden_values:
            text = text.replace(value, "*" * len(value))
        return secrets.hide(text)


def lane(settings: Settings, environment: Mapping[str, str]) -> Lane:
    """The lane of a reward. Raises UserError for what is wrong with its file."""
    values = {environment.get(name, "") for name in settings.secrets}
    hidden = tuple(sorted((value for value in values if len(value) >= SHORTEST_SECRET), key=len, reverse=True))
    return Lane(settings, Kept(settings), hidden)


def place_of(source: Source, line: int) -> Place:
    """A line of the source that ran; the function's own place where the line is not known."""
    if not line:
        return source.function.place
    lines = source.text.splitlines()
    return Place(str(source.function.file), line, text=lines[line - 1] if line <= len(lines) else None)


def told(kind: str, lane: Lane, batch: Batch, row: int | None, **more: Any) -> dict[str, Any]:
    """An event. `row` is the position in the batch; None where no single completion is meant."""
    return {
        "kind": kind,
        "reward": lane.settings.name,
        "step": batch.step,
        "epoch": batch.epoch,
        "row": row,
        **more,
    }
