"""The rewards of a recipe -> the pool that runs them, and the words for what goes wrong in it. Light: no torch."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner import machine, pulse
from runner.recipe import Guard, Recipe, Reward
from runner.rewards import packages
from runner.rewards.contract import Batch, Scores, Settings
from runner.rewards.pool import Pool
from runner.stopping import never

GIB = 1024**3
BETWEEN_BEATS = 5.0  # seconds
WATCHED = 10  # reports of a run that a warning goes by
Tell = Callable[[dict[str, Any]], None]


def pool(recipe: Recipe, directory: Path, processes: int, rank: int, tell: Tell) -> Pool:
    """The pool of one trainer process, of `processes` on this node.

    Raises UserError with every fault of every reward that cannot be run.
    """
    assert recipe.grpo is not None
    workers = recipe.grpo.reward_workers or max(machine.cores() // processes, 1)
    most = recipe.grpo.max_faults_in_a_row
    settings = [_settings(reward, most, directory) for reward in recipe.rewards]
    return Pool(settings, workers, directory / "scratch" / f"rank-{rank}", tell)


def measuring_pool(recipe: Recipe, directory: Path, rank: int, tell: Tell) -> Pool:
    """The pool of the rewards that a recipe measures answers by, of one process. Raises UserError as `pool` does."""
    settings = [_settings(reward, None, directory) for reward in recipe.evaluation.rewards]
    return Pool(settings, machine.cores(), directory / "scratch" / f"evaluation-{rank}", tell)


class Judge:
    """A pool that scores in the background. It is asked from one thread for as long as it lives, and closed with it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._begun: Future[Scores] | None = None
        self._thread = ThreadPoolExecutor(1, "rewards")

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._pool.close()

    def begin(self, batch: Batch, leave: Callable[[], bool] = never) -> None:
        """Begin to score a batch; `scores` has to be called before the next one. `leave`: whether to give up."""
        self._begun = self._thread.submit(self._pool.score, batch, leave)

    def scores(self) -> Scores:
        """The scores of the batch that was begun, once they are there. Raises as `Pool.score` does."""
        assert self._begun is not None
        while not futures.wait([self._begun], BETWEEN_BEATS).done:
            pulse.beat()  # each call has a time limit of its own, so the pool gets on
        return self._begun.result()


def install(recipe: Recipe, directory: Path) -> None:
    """Install what the rewards require into the run's directory, unless it is there. Raises UserError."""
    for reward in (*recipe.rewards, *recipe.evaluation.rewards):
        _packages(reward, directory)


def hashes(recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of each file of the recipe's rewards as it is now, by its path; one that is gone has none."""
    files = {Path(reward.file) for reward in (*recipe.rewards, *recipe.evaluation.rewards)}
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files) if file.is_file()}


def batch(
    rows: Sequence[Mapping[str, Any]], completions: Sequence[str], ids: Sequence[Sequence[int]], step: int, epoch: float
) -> Batch:
    """Prepared prompts with a completion each, as the pool takes them.

    A function that scores one completion a call gets the prompt as its row says it, a list of turns as the text that
    the model was given; one that scores all of them gets what TRL would give.
    """
    asked = [json.loads(row["asked"]) for row in rows]
    plain = [isinstance(prompt, str) for prompt in asked]
    return Batch(
        step=step,
        epoch=epoch,
        rows=[json.loads(row["columns"]) for row in rows],
        prompts=[prompt if is_text else row["prompt"] for prompt, is_text, row in zip(asked, plain, rows, strict=True)],
        completions=completions,
        trl_prompts=asked,
        trl_completions=[
            text if is_text else [{"role": "assistant", "content": text}]
            for text, is_text in zip(completions, plain, strict=True)
        ],
        completion_ids=ids,
    )


def warnings(guard: Guard, shares: Mapping[str, float]) -> list[str]:
    """What is wrong with a run of these shares, each a sentence. `shares` are `without_signal`, `cut`, `faults`."""
    sentences = {
        "without_signal": "of the groups have one score for all their completions, so nothing is learned from them: "
        "use a reward with partial credit, easier prompts, or a higher `grpo.temperature`",
        "cut": "of the completions are cut at `grpo.max_completion_length`, and rewards see them unfinished: raise it",
        "faults": "of the calls of reward functions fail: `rewards.jsonl` says where and why",
    }
    limits = {"without_signal": guard.without_signal, "cut": guard.cut, "faults": guard.faults}
    return [
        f"{shares[name]:.0%} {sentence}"
        for name, sentence in sentences.items()
        if name in shares and shares[name] > limits[name]
    ]


class Watch:
    """Looks at the shares of a run as it goes on, and says each thing that is wrong once, until it has been right."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.seen: deque[Mapping[str, float]] = deque(maxlen=WATCHED)
        self.said: set[str] = set()

    def look(self, shares: Mapping[str, float]) -> list[str]:
        """What has to be said now, by the mean over the latest reports."""
        self.seen.append(shares)
        if len(self.seen) < WATCHED:
            return []
        found: list[str] = []
        for name in shares:
            mean = sum(each[name] for each in self.seen) / len(self.seen)
            wrong = warnings(self.guard, {name: mean})
            if not wrong:
                self.said.discard(name)
            elif name not in self.said:
                self.said.add(name)
                found += wrong
        return found


def _settings(reward: Reward, max_faults_in_a_row: int | None, directory: Path) -> Settings:
    installed = _packages(reward, directory)
    beside = Path(reward.file).parent  # a reward may import the files it lies with
    return Settings(
        name=reward.name,
        file=Path(reward.file),
        function=reward.function,
        weight=reward.weight,
        timeout=reward.timeout,
        on_error=reward.on_error,  # type: ignore[arg-type]  # the schema allows no other
        memory=int(reward.memory * GIB),
        options=json.loads(reward.options),
        strings=reward.strings,
        secrets=reward.secrets,
        reload=reward.reload,
        packages=(*((installed,) if installed else ()), beside),
        max_faults_in_a_row=max_faults_in_a_row,
    )


def _packages(reward: Reward, directory: Path) -> Path | None:
    wanted = Path(reward.requirements_file) if reward.requirements_file else reward.requirements
    return packages.install(wanted, directory / "packages") if wanted else None
