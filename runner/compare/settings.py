"""Runs in, what they were told and given that is not the same for all of them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from runner.compare.runs import Run
from runner.errors import listed
from runner.report import ends, recipe
from runner.report.reading import mapping

OF_A_RUN_ALONE = (("name",), ("file",), ("version",), ("output", "directory"))
HASH = re.compile("[0-9a-f]{40,64}")
NOTHING: tuple[Any, ...] = (None, [], {})


def differing(runs: Sequence[Run]) -> list[tuple[str, list[Any]]]:
    """Name and value for each run of every setting, choice of the plan, and version that differs, in their order."""
    leaves = [dict(recipe.leaves(run.recipe)) for run in runs]
    paths = [path for path in dict.fromkeys(path for each in leaves for path in each) if path]
    named = [
        (".".join(map(str, path)), [each.get(path) for each in leaves]) for path in paths if path not in OF_A_RUN_ALONE
    ]
    named += _named("plan", [{name: value for name, value, _ in recipe.choices(run.plan)} for run in runs])
    named += _named("version", [mapping(run.state.get("versions")) for run in runs])
    named += _named("recipe", [{"git commit": run.state.get("commit")} for run in runs])
    return [(name, values) for name, values in named if not _same(values)]


def shown(values: Sequence[Any]) -> list[str]:
    """The values of a setting as a person reads them: of paths and hashes as much as tells them apart."""
    texts = [recipe.shown(value) for value in values]
    short = [
        PurePath(text).name if text.startswith("/") else text[:12] if HASH.fullmatch(text) else text for text in texts
    ]
    return short if len(set(short)) == len(set(texts)) else texts


def remarks(runs: Sequence[Run]) -> list[str]:
    """Sentences on what makes runs hard to compare: tasks, base models and data that differ."""
    found = []
    tasks = _parted(runs, lambda run: run.recipe.get("task"))
    if len(tasks) > 1:
        found.append(f"the tasks differ ({_told(tasks)}): their losses and rewards are not of the same thing")
    models = _parted(runs, lambda run: _model(run))
    if len(models) > 1:
        found.append(
            f"the base models differ ({_told(models)}): losses are comparable only where both have the same tokenizer"
        )
    data = [frozenset(map(str, mapping(run.state.get("data")).values())) for run in runs]
    unknown = [run.label for run, hashes in zip(runs, data, strict=True) if not hashes]
    if unknown:
        found.append(f"the data is not known yet of {listed(unknown)}")
    for run, hashes in zip(runs[1:], data[1:], strict=True):
        if data[0] and hashes and hashes != data[0]:
            ours, others = _files(runs[0], hashes), _files(run, data[0])
            found.append(
                f"`{run.label}` and `{runs[0].label}` are of different data, by the hashes of their files: "
                f"`{run.label}` alone has {others or 'none'}, `{runs[0].label}` alone {ours or 'none'}"
            )
    return found


def _named(what: str, values: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Values by name, of which runs that have none yet do not differ."""
    names = dict.fromkeys(name for each in values for name in each)
    known = [
        [each.get(name) for each in values if any(value not in NOTHING for value in each.values())] for name in names
    ]
    return [
        (f"{what}: {name}", [each.get(name) for each in values])
        for name, those in zip(names, known, strict=True)
        if not _same(those)
    ]


def _same(values: Sequence[Any]) -> bool:
    """Whether all are equal; what is not there is as good as nothing."""
    plain = [None if value in NOTHING else value for value in values]
    return all(value == plain[0] for value in plain)


def _model(run: Run) -> str | None:
    found = mapping(run.recipe.get("model")).get("name")
    return ends.short_name(found)


def _parted(runs: Sequence[Run], what: Any) -> dict[str, list[str]]:
    """Value -> the runs that have it, of those of which it is known."""
    found: dict[str, list[str]] = {}
    for run in runs:
        value = what(run)
        if value is not None:
            found.setdefault(str(value), []).append(run.label)
    return found


def _told(parted: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"`{value}` of {listed(labels)}" for value, labels in parted.items())


def _files(run: Run, known: frozenset[str]) -> str:
    """The files of a run whose hashes are not known."""
    data = mapping(run.state.get("data"))
    names = [PurePath(name).name for name, digest in data.items() if str(digest) not in known]
    return listed(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
