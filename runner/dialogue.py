"""Questions in, answers out, from a process that holds the model: the light side, which starts that process.

Requests go to its standard input and answers come back over the events' pipe, one JSON object a line each.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from runner import planfile, workers
from runner.errors import Place, Problem, RecipeError
from runner.subject import Subject
from runner.workers import Stage

BASE, ADAPTER = "base", "adapter"
Turns = list[dict[str, str]]


@dataclass(frozen=True)
class Manner:
    """Who answers, and how: `names` are `base` and `adapter`, or one of them. A temperature of 0 is greedy."""

    names: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


def manner(adapter_only: bool, max_new_tokens: int, temperature: float, top_p: float, seed: int) -> Manner:
    """How the command line wants answers. Raises RecipeError for a number that is out of range."""
    for name, value, wrong in (
        ("--max-new-tokens", max_new_tokens, max_new_tokens < 1),
        ("--temperature", temperature, not 0 <= temperature <= 100),
        ("--top-p", top_p, not 0 < top_p <= 1),
    ):
        if wrong:
            raise RecipeError(Problem(f"`{name} {value:g}` is out of range", Place(name)))
    return Manner((ADAPTER,) if adapter_only else (BASE, ADAPTER), max_new_tokens, temperature, top_p, seed)


@dataclass(frozen=True)
class Answer:
    """`cut` where it was longer than it may be; `seconds` are those of the model alone."""

    text: str
    tokens: int
    cut: bool
    seconds: float


class Answerer:
    """The process that answers, for as long as `answering` holds it."""

    def __init__(self, requests: TextIO, events: TextIO, running: workers.Running) -> None:
        self._requests, self._events, self._running = requests, events, running

    def ask(self, asked: dict[str, str | Turns]) -> dict[str, Answer]:
        """One answer for each name in `asked`, to a text or to turns. Raises the process's own fault."""
        try:
            self._requests.write(json.dumps(asked) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._running.fault() from None
        said = self.hear("answered")
        return {name: Answer(**said["answers"][name]) for name in asked}

    def hear(self, kind: str) -> dict[str, Any]:
        """The next event of a kind. Raises the process's fault where it ends before."""
        for line in self._events:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == kind:
                return event
        raise self._running.fault()


@contextmanager
def answering(subject: Subject, manner: Manner) -> Iterator[Answerer]:
    """A model that is loaded and answers. Raises UserError for one that cannot be loaded."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        directory = Path(folder)
        (directory / "logs").mkdir()
        plan = replace(subject.plan, directory=str(directory))
        (directory / "plan.json").write_text(planfile.to_json(plan), encoding="utf-8")
        settings = {"adapter": subject.adapter, **asdict(manner)}
        (directory / "replying.json").write_text(json.dumps(settings), encoding="utf-8")
        reading, writing = os.pipe()
        running = workers.begin(Stage("reply", 1, plan.device, directory), writing)
        os.close(writing)
        assert running.process.stdin is not None
        requests = os.fdopen(os.dup(running.process.stdin.fileno()), "w", encoding="utf-8")
        running.process.stdin.close()
        with os.fdopen(reading, encoding="utf-8") as events:
            try:
                answerer = Answerer(requests, events, running)
                answerer.hear("ready")
                yield answerer
            finally:
                _hang_up(requests, running)


def _hang_up(requests: TextIO, running: workers.Running) -> None:
    """End the process: it ends by itself once nothing more can be asked."""
    with suppress(BrokenPipeError):
        requests.close()
    running.end()


def turns(prompt: str, system: str | None, history: Sequence[tuple[str, str]] = ()) -> Turns:
    """A conversation that ends on a prompt; `history` are earlier prompts with their answers."""
    said: Turns = [{"role": "system", "content": system}] if system else []
    for question, answer in history:
        said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*said, {"role": "user", "content": prompt}]
