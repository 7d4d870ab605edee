"""Directories in, the runs in them out, in whatever state each is. All that is no run is said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import runfile
from runner.errors import Problem, RecipeError
from runner.report.reading import Files, is_run, mapping, no_run

MOST = 12  # whose lines can be told apart in one chart


@dataclass(frozen=True)
class Run:
    """What a run has left so far; `label` tells it from the others."""

    label: str
    files: Files
    state: Mapping[str, Any]  # `run.json`
    plan: Mapping[str, Any]
    scored: Mapping[str, Any]  # `evaluation.json`
    events: Sequence[Mapping[str, Any]]  # logged steps and evaluations

    @property
    def recipe(self) -> dict[str, Any]:
        """The settled recipe, with every default; empty where the run had none yet."""
        return mapping(self.state.get("recipe")) or mapping(self.plan.get("recipe"))


def read(directories: Sequence[Path], environment: Mapping[str, str]) -> list[Run]:
    """The runs, without the secrets of `environment`. Raises RecipeError."""
    problems = [problem for each in directories if not is_run(each) for problem in no_run(each).problems]
    if problems:
        raise RecipeError(problems)
    seen: dict[Path, Path] = {}
    for each in directories:
        place = each.resolve()
        if place in seen:
            same = (
                f"`{each}` is named twice" if seen[place] == each else f"`{seen[place]}` and `{each}` are the same run"
            )
            problems.append(Problem(same, hint="name each run once"))
        seen.setdefault(place, each)
    if problems:
        raise RecipeError(problems)
    if len(directories) < 2:
        hint = f"name another run: `tunesmith compare {directories[0]} outputs/another`"
        raise RecipeError(Problem("there is nothing to compare one run with", hint=hint))
    if len(directories) > MOST:
        raise RecipeError(Problem(f"{len(directories)} runs are more than can be told apart: at most {MOST}"))
    found = [_run(each, environment) for each in directories]
    names = [label for label, _ in found]
    return [
        Run(label if names.count(label) == 1 else str(run.files.directory), run.files, run.state, run.plan, run.scored,
            run.events)
        for label, run in found
    ]  # fmt: skip


def _run(directory: Path, environment: Mapping[str, str]) -> tuple[str, Run]:
    files = Files(directory, environment)
    state, plan, scored = (files.object(name) for name in (runfile.NAME, "plan.json", "evaluation.json"))
    name = str(state.get("name") or mapping(plan.get("recipe")).get("name") or directory)
    return name, Run(name, files, state, plan, scored, list(files.events()))
