"""Completions in, scores out: every reward function runs in processes of its own, and none of them is waited for
longer than its recipe allows.

The pool belongs to one trainer process. It starts processes when there is work for them, keeps them from step to step,
and never lets a process that hangs, dies or lies cost more than the score of the call that did it.
"""

from __future__ import annotations

import itertools
import os
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from runner import stopping
from runner.errors import Problem, UserError
from runner.rewards import calls, confinement, signature
from runner.rewards import worker as processes
from runner.rewards.contract import MEBIBYTE, PRINTED_LIMIT, Batch, RewardScores, Scores, Settings
from runner.rewards.lane import Lane, lane, told
from runner.rewards.messages import Broken
from runner.rewards.worker import Call, Worker
from runner.stopping import GivenUp, never

TOLD_WITHIN = 1.0  # seconds between two processes that are signalled together
LONGEST_WAIT = 0.5  # seconds between two looks at the clock
LIED = "wrote on the connection that its scores come through"


class Pool:
    """Runs the reward functions of a run.

    `workers` is how many calls run at once. `scratch` is a folder for what functions write; each process gets an empty
    one in it. `tell` is called with events: `printed`, `logged`, `fault`, `reloaded`, `refused`.

    Raises UserError, with all faults of all rewards, if one of them could not be run.
    """

    def __init__(
        self, rewards: Sequence[Settings], workers: int, scratch: Path, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self._lanes: list[Lane] = []
        problems: list[Problem] = []
        for settings in rewards:
            try:
                made = lane(settings, os.environ)
            except UserError as error:
                problems += error.problems
                continue
            problems += signature.check_options(made.kept.source.function, settings.options)
            self._lanes.append(made)
        if problems:
            raise UserError(problems)
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch.resolve()
        self._workers = max(workers, 1)
        self._tell = tell
        self._numbers = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._leaving: list[Worker] = []
        self._batch = Batch(0, 0.0, (), (), ())
        self._signalled = False  # whether a process was ended by a signal as runs are stopped by, in this step

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process, and return when none is left."""
        for each in self._lanes:
            self._let_go(each, list(each.workers))
        for worker in self._leaving:
            worker.wait()
        self._leaving.clear()
        self._selector.close()

    def score(self, batch: Batch, leave: Callable[[], bool] = never) -> Scores:
        """The scores of all functions for all completions of a step.

        `leave` is asked twice a second and more: where it says so, the calls are ended, and GivenUp is raised.
        Raises RunError where a function fails whose `on_error` is `fail`, or which failed too often in a row.
        """
        started = time.monotonic()
        self._batch, self._signalled = batch, False
        self._listen(0.0)  # what ended since the last step is not to be given a call
        self._reload()
        for each in self._lanes:
            source, settings = each.kept.source, each.settings
            each.begin(calls.calls(source.function, settings, batch, self._numbers), len(batch.completions))
        try:
            while self._is_open():
                self._hand_out()
                self._listen()
                self._look_at_the_clock()
                if leave():
                    raise GivenUp
            self._heed(leave)
        except BaseException as error:  # the next step is not to get this one's answers
            for each in self._lanes:
                each.queue.clear()
                self._let_go(each, [worker for worker in each.workers if worker.calls])
            if isinstance(error, UserError):
                self._heed(leave)
            raise
        self._leaving = [worker for worker in self._leaving if worker.process.poll() is None]
        found = tuple(
            RewardScores(each.settings.name, each.settings.weight, tuple(score for score in each.scores if score))
            for each in self._lanes
        )
        return Scores(found, time.monotonic() - started)

    def _is_open(self) -> bool:
        return any(each.queue or any(worker.calls for worker in each.workers) for each in self._lanes)

    def _reload(self) -> None:
        columns = {name for row in self._batch.rows for name in row}
        for each in self._lanes:
            if not each.settings.reload:
                continue
            changed, problems, found = each.kept.look(columns)
            if changed:
                self._let_go(each, list(each.workers))
                each.faults_in_a_row = 0
                self._tell(told("reloaded", each, self._batch, None, sha256=found))
            elif problems:
                sentences = [f"{problem.message} ({problem.place})" for problem in problems]
                self._tell(told("refused", each, self._batch, None, sha256=found, problems=sentences))

    # Handing out: the rewards with the fewest processes at work come first.

    def _hand_out(self) -> None:
        while True:
            waiting = sorted((each for each in self._lanes if each.queue), key=lambda each: each.running)
            if not any(self._advance(each) for each in waiting):
                return

    def _advance(self, each: Lane) -> bool:
        """Give one call to a process, or start a process for it; False if neither can be done now."""
        if each.broken:
            self._fail(each, each.queue.popleft(), *each.broken, each.kept.source)
            return True
        may_start = sum(other.running for other in self._lanes) < self._workers
        call = each.queue[0]
        for worker in each.workers:
            if worker.has_room(call) and (may_start or worker.calls):
                self._give(worker, each.queue.popleft())
                return True
        capacity = processes.MOST_AT_ONCE if each.kept.source.function.is_async else 1
        if may_start and each.loading * capacity < len(each.queue) and self._make_room(each):
            hidden = confinement.hidden_paths(os.environ)
            worker = processes.start(each.settings, each.kept.source, self._scratch, hidden)
            each.workers.append(worker)
            for watched, what in ((worker.link, "link"), (worker.output, "output"), (worker.control, "control")):
                self._selector.register(watched, selectors.EVENT_READ, (each, worker, what))
            self._watch_writing(each, worker)
            return True
        return False

    def _give(self, worker: Worker, call: Call) -> None:
        owner = next(each for each in self._lanes if worker in each.workers)
        if not worker.calls:
            self._tell_printed(owner, worker, None)  # by a thread that is left from an earlier call
        worker.give(call)
        self._watch_writing(owner, worker)

    def _make_room(self, each: Lane) -> bool:
        """Whether one more process may live; an idle one of a reward that has several makes way if need be."""
        if sum(len(other.workers) for other in self._lanes) < max(self._workers, len(self._lanes)):
            return True
        for other in self._lanes:
            if other is not each and len(other.workers) > 1 and not (other.queue and each.workers):
                idle = next((worker for worker in other.workers if not worker.running), None)
                if idle is not None:
                    self._let_go(other, [idle])
                    return True
        return False

    # Listening: answers, what is printed, and ends.

    def _listen(self, longest: float = LONGEST_WAIT) -> None:
        deadlines = [worker.deadline for _, worker in self._everyone() if worker.running]
        wait = min([longest, *(deadline - time.monotonic() for deadline in deadlines)])
        ready = self._selector.select(max(wait, 0.0))
        # an end is looked at last: the answer that came before it counts
        for key, events in sorted(ready, key=lambda pair: pair[0].data[2] == "control"):
            each, worker, what = key.data
            if worker not in each.workers:
                continue
            if what == "control":
                self._ended(each, worker)
            elif what == "output":
                self._printed(each, worker)
            else:
                if events & selectors.EVENT_WRITE:
                    worker.go_on()
                    self._watch_writing(each, worker)
                self._answered(each, worker)

    def _answered(self, each: Lane, worker: Worker) -> None:
        try:
            for answer in worker.answers():
                self._take(each, worker, answer)
        except Broken:
            self._lost(each, worker, LIED)

    def _take(self, each: Lane, worker: Worker, answer: dict[str, Any]) -> None:
        """One answer: of loading the file, or of a call. Raises Broken for one to nothing that was asked."""
        if not worker.ready:
            if "failed" in answer:
                self._unloadable(each, worker, str(answer["failed"]), _line(answer))
            elif answer.get("ready") is True:
                worker.ready = True
                worker.listen()
                self._tell_printed(each, worker, None)
            else:
                raise Broken("neither loaded nor failed")
            return
        number = answer.get("call")
        call = worker.calls.get(number) if isinstance(number, int) else None
        if call is None:
            raise Broken("an answer to a call that nobody made")
        values, faults = ([], {}) if {"fault", "late"} & answer.keys() else calls.scores(answer, call)
        del worker.calls[call.number]
        row = call.rows[0] if "each" in call.message else None
        own = str(answer.get("printed", ""))
        if own:
            self._tell(told("printed", each, self._batch, row, text=each.clean(own), cut=False))
        if not worker.listen():
            self._lost(each, worker, _flood(), call)
            return
        self._tell_printed(each, worker, None if worker.source.function.is_async else row)
        if answer.get("told"):
            self._tell(told("logged", each, self._batch, None, **_logged(answer["told"])))
        seconds = time.monotonic() - call.started
        if isinstance(answer.get("seconds"), float):
            seconds = min(max(answer["seconds"], 0.0), seconds)
        if "late" in answer:
            self._fail(each, call, _late(each.settings.timeout), 0, worker.source, seconds)
        elif "fault" in answer:
            self._fail(each, call, str(answer["fault"]), _line(answer), worker.source, seconds)
        else:
            for position, value in enumerate(values):
                if position in faults:
                    self._fault(each, call.rows[position], faults[position], 0, seconds, worker)
                else:
                    each.score(call.rows[position], value, seconds)
            each.count(bool(faults), next(iter(faults.values()), ""), 0, worker.source)

    def _printed(self, each: Lane, worker: Worker) -> None:
        if not worker.listen():
            self._lost(each, worker, _flood())
        elif not worker.running:
            self._tell_printed(each, worker, None)

    def _ended(self, each: Lane, worker: Worker) -> None:
        ending = worker.ending()
        self._signalled = self._signalled or ending.get("signal") in stopping.SIGNALS
        self._answered(each, worker)
        if worker in each.workers:
            self._lost(each, worker, processes.end_sentence(ending, each.settings))

    def _heed(self, leave: Callable[[], bool]) -> None:
        """Raise GivenUp where it was the run that was told to stop, by a signal to every process of it.

        SLURM sends such, and a function's process may have ended by it before this one was told.
        """
        until = time.monotonic() + TOLD_WITHIN
        while self._signalled and time.monotonic() < until:
            if leave():
                raise GivenUp
            time.sleep(TOLD_WITHIN / 20)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for each, worker in list(self._everyone()):
            if worker.running and now >= worker.deadline:
                self._answered(each, worker)  # it may have come in the meantime
            if worker not in each.workers or not worker.running or now < worker.deadline:
                continue
            if not worker.ready:
                self._unloadable(each, worker, f"took longer than {each.settings.load_timeout:g} s to be loaded", 0)
                continue
            grace = worker.deadline - min(call.started for call in worker.calls.values())
            late = [call for call in worker.calls.values() if now >= call.started + grace]
            others = [call for call in worker.calls.values() if call not in late]
            self._leave(each, worker, None if len(late) > 1 else late[0].rows)
            each.queue.extendleft(reversed(others))
            for call in late:
                self._fail(each, call, _late(each.settings.timeout), 0, worker.source, each.settings.timeout)

    # Faults and ends.

    def _lost(self, each: Lane, worker: Worker, sentence: str, answered: Call | None = None) -> None:
        """A process is of no more use: its call is lost, or all of its calls are tried again, each by itself."""
        if not worker.ready:
            self._unloadable(each, worker, f"{sentence} while it was loaded", 0)
            return
        open_calls = [*([answered] if answered else []), *worker.calls.values()]
        self._leave(each, worker, open_calls[0].rows if len(open_calls) == 1 else None)
        if len(open_calls) == 1:
            seconds = time.monotonic() - open_calls[0].started
            self._fail(each, open_calls[0], sentence, 0, worker.source, seconds)
        elif open_calls:
            for call in open_calls:
                call.alone = True
            each.queue.extend(open_calls)
        else:
            self._tell(told("fault", each, self._batch, None, fault=f"{sentence} between two calls"))

    def _unloadable(self, each: Lane, worker: Worker, sentence: str, line: int) -> None:
        self._leave(each, worker, None)
        each.broken = (f"could not be loaded: it {sentence}", line)

    def _leave(self, each: Lane, worker: Worker, rows: tuple[int, ...] | None) -> None:
        worker.listen()
        self._tell_printed(each, worker, rows[0] if rows and worker.source.function.convention == "each" else None)
        self._let_go(each, [worker])

    def _fail(self, each: Lane, call: Call, sentence: str, line: int, source: Any, seconds: float = 0.0) -> None:
        """A whole call is lost."""
        sentence = each.clean(sentence) + (f", at line {line}" if line else "")
        row = call.rows[0] if "each" in call.message else None
        self._tell(told("fault", each, self._batch, row, fault=sentence, line=line, seconds=seconds))
        for position in call.rows:
            each.fault(position, sentence, line, seconds, source, self._batch)
        each.count(True, sentence, line, source)

    def _fault(self, each: Lane, row: int, sentence: str, line: int, seconds: float, worker: Worker) -> None:
        """One score of a call is lost."""
        sentence = each.clean(sentence)
        self._tell(told("fault", each, self._batch, row, fault=sentence, line=line, seconds=seconds))
        each.fault(row, sentence, line, seconds, worker.source, self._batch)

    def _tell_printed(self, each: Lane, worker: Worker, row: int | None) -> None:
        text, cut = worker.take_printed()
        if text:
            self._tell(told("printed", each, self._batch, row, text=each.clean(text), cut=cut))

    def _let_go(self, each: Lane, workers: list[Worker]) -> None:
        for worker in workers:
            each.workers.remove(worker)
            for watched in (worker.link, worker.output, worker.control):
                with suppress(KeyError, ValueError):
                    self._selector.unregister(watched)
            worker.hang_up()
            self._leaving.append(worker)

    def _watch_writing(self, each: Lane, worker: Worker) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
        if self._selector.get_key(worker.link).events != events:
            self._selector.modify(worker.link, events, (each, worker, "link"))

    def _everyone(self) -> Iterator[tuple[Lane, Worker]]:
        return ((each, worker) for each in self._lanes for worker in each.workers)


def _late(seconds: float) -> str:
    return f"took longer than {seconds:g} s"


def _flood() -> str:
    return f"printed more than {PRINTED_LIMIT // MEBIBYTE} MiB"


def _line(answer: dict[str, Any]) -> int:
    return answer["line"] if isinstance(answer.get("line"), int) else 0


def _logged(told_by_function: Any) -> dict[str, Any]:
    """What went through TRL's two callbacks, as far as it has the form that they give it."""
    given = told_by_function if isinstance(told_by_function, dict) else {}
    return {name: given[name] for name in ("columns", "metrics") if isinstance(given.get(name), dict)}
