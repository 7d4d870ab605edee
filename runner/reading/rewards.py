"""The rewards of a recipe, to learn from or to measure by: the file and the function of each.

They are told from their text alone; nothing is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner import recipe
from runner.data.rows import shown
from runner.errors import Place, Problem, RecipeError, UserError, listed
from runner.nearest import nearest
from runner.reading import paths
from runner.reading.sentences import dotted
from runner.reading.source import Path as KeyPath
from runner.reading.source import Places, closest
from runner.rewards import signature
from runner.rewards.signature import Function
from runner.scores.metrics import OF_A_REWARD, of_reward
from runner.scores.shipped import FOLDER as BUNDLED


def bundled() -> list[str]:
    """The names that `use` can have."""
    return sorted(path.stem for path in BUNDLED.glob("*.py") if not path.stem.startswith("_"))


def problems(values: dict[str, Any], places: Places, directory: str, wrong: set[KeyPath]) -> Iterator[Problem]:
    """Every fault in what the rewards name. Puts absolute paths and functions' names into `values`.

    A function that is loaded is not run: its parameters are read from the syntax tree.
    """
    measured = (values.get("evaluation") or {}).get("rewards")
    for path, rewards in ((("rewards",), values.get("rewards")), (("evaluation", "rewards"), measured)):
        # Either task has one of the lists; what is wrong with having the other is told by a rule.
        if (values.get("task") == "grpo") == (path == ("rewards",)) and path not in wrong:
            yield from _list_problems(rewards or [], Written(places, path), directory)
            yield from _stopping_problems(values, places, path, rewards or [])


@dataclass(frozen=True)
class Written:
    """Where a recipe has a list of rewards."""

    places: Places
    path: KeyPath

    def place(self, index: int, *keys: str) -> Place:
        written = closest(self.places, (*self.path, index, *keys))
        return written.value if written else Place("")


def _list_problems(rewards: list[dict[str, Any]], written: Written, directory: str) -> Iterator[Problem]:
    taken: dict[str, int] = {}
    for index, reward in enumerate(rewards):
        function: Function | None = None
        try:
            function = _settle(reward, written, directory, index)
        except UserError as error:
            yield from (_shown(problem, reward, written, index) for problem in error.problems)
        if function is None:
            continue
        unknown = (name for name in reward["options"] if name not in function.options)  # their faults come first
        for fault in signature.check_options(function, reward["options"]):
            yield Problem(fault.message, written.place(index, "options", next(unknown, "")), fault.hint)
        reward["function"] = function.name
        reward["name"] = reward["name"] or (reward["use"] or function.name)
        name = reward["name"]
        if name in taken:
            listed_as = dotted(written.path)
            message = f"`{listed_as}[{index}]` is called `{name}`, and so is `{listed_as}[{taken[name]}]`"
            yield Problem(message, written.place(index, "name"), "give one of them a `name` of its own")
        taken.setdefault(name, index)
        yield from _requirements(reward, written, directory, index)


def _stopping_problems(
    values: dict[str, Any], places: Places, path: KeyPath, rewards: list[dict[str, Any]]
) -> Iterator[Problem]:
    """A run that is to stop by a reward which the recipe does not name."""
    stopping, names = values["training"]["early_stopping"], [reward["name"] for reward in rewards]
    metric = (stopping or {}).get("metric", "")
    if not metric.startswith(OF_A_REWARD) or None in names or metric in map(of_reward, names):
        return
    measured = [of_reward(name) for name in names]
    similar = nearest(metric, measured)
    hint = f"name the reward in `{dotted(path)}`"
    if measured:
        hint = f"a similar name exists: `{similar}`" if similar else f"there is {listed(measured)}"
    written = closest(places, ("training", "early_stopping", "metric"))
    message = f"the run is to stop by `{metric}`, and no reward of `{dotted(path)}` is called so"
    yield Problem(message, written.value if written else Place(""), hint)


def settle(rewards: list[Mapping[str, Any]]) -> tuple[recipe.Reward, ...]:
    """The rewards of values in which `problems` found nothing wrong."""
    return tuple(
        recipe.Reward(
            name=reward["name"],
            file=reward["file"],
            function=reward["function"],
            weight=float(reward["weight"]),
            timeout=float(reward["timeout"]),
            on_error=reward["on_error"],
            memory=float(reward["memory"]),
            options=json.dumps(reward["options"], sort_keys=True),
            strings=reward["strings"],
            secrets=tuple(reward["secrets"]),
            requirements=tuple(reward["requirements"]) if isinstance(reward["requirements"], list) else (),
            requirements_file=reward["requirements"] if isinstance(reward["requirements"], str) else None,
            reload=reward["reload"] and reward["use"] is None,
        )
        for reward in rewards
    )


def _settle(reward: dict[str, Any], written: Written, directory: str, index: int) -> Function | None:
    """The function of a reward; None where the recipe names no file, which its own rule says."""
    if (reward["use"] is None) == (reward["file"] is None):
        return None
    if reward["use"] is not None:
        names = bundled()
        if reward["use"] not in names:
            similar = nearest(reward["use"], names)
            hint = f"a similar name exists: `{similar}`" if similar else f"the names are {listed(names)}"
            raise RecipeError(Problem(f"no reward called `{reward['use']}` ships", written.place(index, "use"), hint))
        reward["file"] = str(BUNDLED / f"{reward['use']}.py")
        return signature.read(Path(reward["file"]))
    reward["file"] = paths.python(reward["file"], directory, written.place(index, "file"))
    return signature.read(Path(reward["file"]), reward["function"])


def _shown(problem: Problem, reward: Mapping[str, Any], written: Written, index: int) -> Problem:
    """A problem of a reward file, with its path as it is shown; one of no line stands where the recipe names it."""
    place = problem.place
    if place is None or place.file != reward["file"]:
        return problem
    if not place.line:
        return replace(problem, place=written.place(index, "file" if reward["function"] is None else "function"))
    return replace(problem, place=replace(place, file=shown(place.file)))


def _requirements(reward: dict[str, Any], written: Written, directory: str, index: int) -> Iterator[Problem]:
    if isinstance(reward["requirements"], str):
        place = written.place(index, "requirements")
        path = paths.absolute(reward["requirements"], directory)
        if not os.path.isfile(path):
            hint = "packages themselves are written as a list: `[pandas, numpy]`"
            yield Problem(f"there is no requirements file `{reward['requirements']}`", place, hint)
        reward["requirements"] = path
