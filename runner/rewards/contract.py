"""What the pool of reward processes takes and gives: settings, batches, scores. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

OnError = Literal["zero", "skip", "fail"]

MEBIBYTE = 1024 * 1024
LOAD_SECONDS = 60.0  # that a file may take to import what it needs; no call is charged for them
MOST_TASKS = 256  # processes and threads of one reward process, all its descendants counted
LARGEST_SCRATCH = 1024 * MEBIBYTE  # bytes on disk
MOST_FILES = 20_000  # and folders, on disk
PRINTED_KEPT = 64 * 1024  # bytes of one call
PRINTED_LIMIT = 1 * MEBIBYTE  # bytes of one call; more is a fault


@dataclass(frozen=True)
class Settings:
    """One entry of a recipe's `rewards`, settled.

    `name` is shown in metrics and events, and no two rewards of a pool share it. `timeout` is in seconds a call and
    `memory` in bytes for all processes of one call. `secrets` are names of environment variables that are passed on,
    `packages` folders that are searched for imports before those of the interpreter. `tasks` are processes and threads,
    `disk` and `files` the bytes and the files in the folder of one process.
    """

    name: str
    file: Path
    function: str | None = None
    weight: float = 1.0
    timeout: float = 10.0
    on_error: OnError = "zero"
    memory: int = 2048 * MEBIBYTE
    options: Mapping[str, Any] = field(default_factory=dict)
    strings: bool = False
    secrets: tuple[str, ...] = ()
    reload: bool = True
    packages: tuple[Path, ...] = ()
    load_timeout: float = LOAD_SECONDS
    max_faults_in_a_row: int | None = None
    tasks: int = MOST_TASKS
    disk: int = LARGEST_SCRATCH
    files: int = MOST_FILES


@dataclass(frozen=True)
class Batch:
    """One step's completions, in order; every sequence has one item a completion.

    `rows` are the data columns, of types that JSON has. `prompts` and `completions` are text. The other two are what
    TRL would hand to a function: the text again, or lists of messages; `completion_ids` are token ids.
    """

    step: int
    epoch: float
    rows: Sequence[Mapping[str, Any]]
    prompts: Sequence[str]
    completions: Sequence[str]
    trl_prompts: Sequence[Any] | None = None
    trl_completions: Sequence[Any] | None = None
    completion_ids: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Score:
    """What one function gave one completion. `value` is None where it has no score.

    `fault` says what went wrong; then the value is 0.0 or None, as `on_error` says. `seconds` are those of the call.
    """

    value: float | None
    fault: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RewardScores:
    """The scores of one function, in the order of the batch."""

    name: str
    weight: float
    scores: tuple[Score, ...]

    @property
    def values(self) -> list[float | None]:
        return [score.value for score in self.scores]

    @property
    def faults(self) -> list[str | None]:
        return [score.fault for score in self.scores]


@dataclass(frozen=True)
class Scores:
    """All scores of a step in the order of the pool's rewards, and the seconds on the clock that they took."""

    rewards: tuple[RewardScores, ...]
    seconds: float

    def total(self, number: int) -> float | None:
        """What a completion is paid: the weighted sum of the scores that it has; None where it has none."""
        paid = [each.weight * value for each in self.rewards if (value := each.values[number]) is not None]
        return sum(paid) if paid else None

    def __getitem__(self, name: str) -> RewardScores:
        return next(reward for reward in self.rewards if reward.name == name)
