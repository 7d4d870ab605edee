"""What the tests of reward functions share: pools over small files, and a look for processes that are left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.rewards.contract import Batch, Settings
from runner.rewards.pool import Pool

HOSTILE = Path(__file__).parent / "hostile_rewards"
MEBIBYTE = 1024 * 1024


class Run:
    """A pool, what it told, and its next step's number."""

    def __init__(self, pool: Pool, events: list[dict[str, Any]]) -> None:
        self.pool, self.events, self.step = pool, events, 0

    def score(self, *completions: str, **columns: Any) -> Any:
        """The scores of these completions; a column's value is the same in every row."""
        self.step += 1
        rows = [dict(columns) for _ in completions]
        return self.pool.score(Batch(self.step, 0.5, rows, ["prompt"] * len(completions), completions))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def printed(self) -> str:
        return "".join(event["text"] for event in self.told("printed"))


@contextmanager
def pool(scratch: Path, *rewards: Settings, workers: int = 2) -> Iterator[Run]:
    """A pool over these rewards. Fails if one of its processes, or anything they wrote, is left at its end."""
    events: list[dict[str, Any]] = []
    with Pool(rewards, workers, scratch, events.append) as made:
        yield Run(made, events)
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def hostile(name: str, **settings: Any) -> Settings:
    return Settings(name, HOSTILE / f"{name}.py", name, **{"timeout": 0.5, "memory": 256 * MEBIBYTE} | settings)


def processes_of(scratch: Path) -> list[int]:
    """The processes of the pools with this scratch folder: its path is in the command line that all of them share."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(scratch).encode() in line:
                found.append(int(entry.name))
    return found
