"""Rows and a proposal in, the rows read as a run would read them out; the first proposal that rows can be read by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner import recipe
from runner.data import formats, origins
from runner.data.calling import formats as calling
from runner.data.examples import Chat, Example
from runner.data.rows import Row
from runner.errors import DataError, Problem, listed
from runner.init import looking
from runner.init.columns import Column
from runner.init.proposals import Proposal
from runner.reading.check import AUTOMATIC_FORMATS

LEAST = 0.5  # of the rows: where fewer can be read, they are something else
NEARLY_ALL = 0.95  # of rows that have nothing in common: the few others are strays
PROBED = 200  # rows that tell whether a proposal is worth reading all of them by


@dataclass(frozen=True)
class Fit:
    """A proposal, and the rows by it."""

    proposal: Proposal
    examples: list[Example]
    problems: list[Problem]  # the first one of each row that cannot be read

    @property
    def share(self) -> float:
        return len(self.examples) / max(len(self.examples) + len(self.problems), 1)


def fit(rows: Sequence[Row], proposal: Proposal) -> Fit:
    """The rows as the recipe of a proposal would have them."""
    read_as = proposal.format
    if read_as == "auto":
        read_as = AUTOMATIC_FORMATS.get(proposal.task, read_as)
    named = recipe.Source("", 1.0, None, tuple(proposal.columns.items()), read_as, tuple(proposal.templates.items()))
    examples: list[Example] = []
    problems: list[Problem] = []
    for row in rows:
        ours = origins.named(row, named)
        if not isinstance(ours, Row):
            problems.append(ours.problem)
            continue
        read = calling.read(ours, read_as) if calling.is_calling(read_as) else formats.read(ours, read_as)
        if isinstance(read, list):
            problems += read[:1]
        else:
            examples.append(read)
    return Fit(proposal, examples, problems)


def fitting(rows: Sequence[Row], proposals: Sequence[Proposal], columns: Sequence[Column]) -> list[Fit]:
    """The proposals that most rows can be read by, the likeliest first. Raises DataError where there is none."""
    found: list[Fit] = []
    refused: list[Fit] = []
    for proposal in proposals:
        probe = fit(rows[:PROBED], proposal)
        if proposal.task == "function_calling" and not _has_calls(probe):
            continue
        whole = fit(rows, proposal) if probe.share >= LEAST / 2 and len(rows) > PROBED else probe
        (found if whole.share >= LEAST else refused).append(whole)
    problem = looking.mixed(rows)
    if found and (problem is None or found[0].share >= NEARLY_ALL):
        return found
    if problem is not None:
        raise DataError(problem)
    if refused:
        best = max(refused, key=lambda each: each.share)
        raise DataError(best.problems[: looking.MOST_FAULTS], len(best.problems))
    raise DataError(unknown(rows, columns))


def unknown(rows: Sequence[Row], columns: Sequence[Column]) -> Problem:
    """The fault of rows of which no column tells what it is."""
    texts = [column.name for column in columns if column.kind == "text"]
    names = [column.name for column in columns]
    hint = "say it: `--column prompt=NAME --column completion=NAME`, or `--column text=NAME`"
    message = f"which column asks and which one answers cannot be told of {listed(texts[:10])}"
    if not texts:
        problem = formats.choose(rows[0])
        message = f"no column holds text; there are {listed(names[:10])}"
        hint = (isinstance(problem, Problem) and problem.hint) or "name the file that has the texts"
        if len(rows) == 1 and len(columns) > 1 and all(column.kind == "list" for column in columns):
            hint = "these look like whole columns: write rows, a list of objects `[{…}, {…}]`"
    return Problem(message, rows[0].place, hint)


def _has_calls(probe: Fit) -> bool:
    return any(isinstance(each, Chat) and (each.tools or calling.count(each) != "none") for each in probe.examples)
