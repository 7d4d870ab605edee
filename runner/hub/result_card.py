"""A finished run's files in, its model card out."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import runner
from runner import runfile
from runner.hub import card, licences
from runner.hub.facts import Facts, Score, Source
from runner.plan import Plan
from runner.recipe import Adapter, Dataset


def write(plan: Plan, directory: Path, environment: Mapping[str, str]) -> None:
    """Write `adapter/README.md` from what the run left."""
    state = runfile.read(directory)
    evaluation = _json(directory / "evaluation.json")
    prepared = _json(directory / "prepared" / "prepared.json")
    ledger = _json(directory / "ledger.json")
    recipe = plan.recipe
    hub = recipe.output.hub
    sources = (*recipe.dataset.train, *recipe.dataset.evaluation)
    facts = Facts(
        name=recipe.name,
        task=recipe.task,
        base_model=recipe.model.hub_id or recipe.model.name,
        base_model_is_hub_id=recipe.model.hub_id is not None or not Path(recipe.model.name).exists(),
        revision=recipe.model.revision,
        adapter_type=recipe.adapter.type,
        recipe_text=(directory / "recipe.yaml").read_text(encoding="utf-8"),
        overrides=tuple(state.get("overrides") or ()),
        datasets=tuple(source.path for source in sources if not Path(source.path).is_absolute()),
        scores={name: _score(entry) for name, entry in evaluation["metrics"].items()},
        settings={
            "learning rate": recipe.training.learning_rate,
            "scheduler": recipe.training.scheduler,
            "rows a step": plan.batch.effective,
            "steps": plan.steps.total if plan.steps else None,
            "checkpoint of step": evaluation["step"],
            **_of_adapter(recipe.adapter),
            "precision": plan.precision.value,
            "seed": recipe.training.seed,
        },
        versions=state["versions"],
        ledger={
            "training rows": prepared["train"]["rows"],
            "learned tokens": prepared["train"]["learned_tokens"],
            "held-out rows": prepared["evaluation"]["rows"],
        },
        tool_version=runner.__version__,
        sources=tuple(_sources(recipe.dataset, ledger, prepared)),
        repository=hub.repository if hub else None,
        branch=hub.revision if hub else "main",
        rank=recipe.adapter.rank,
        embeddings=recipe.adapter.train_embeddings,
        tokens=len(recipe.model.add_tokens),
        chat=prepared["template"],
        own_template=prepared["template"] and recipe.model.chat_template != "auto",
        calls=_syntax(directory) if recipe.task == "function_calling" else None,
        longest=prepared["train"]["longest"],
        overlap=ledger.get("in_both_splits") or 0,
        quantization=recipe.model.quantization,
        base_licence=licences.of_model(recipe.model.name, recipe.model.revision),
    )
    card.write(directory / "adapter", facts, environment)


def _sources(settings: Dataset, ledger: Mapping[str, Any], prepared: Mapping[str, Any]) -> Iterator[Source]:
    """What was read, in the order of its reading. Files are named as they were shown: from the working directory."""
    digests, rows_held_out = prepared["data"], prepared["evaluation"]["rows"]
    counts = {str(each["file"]): each for each in ledger.get("files") or ()}
    named = {source.path for source in (*settings.train, *settings.evaluation)}
    held_out = [source.path for source in settings.evaluation]
    for name in counts or digests:
        place = name if name in named else os.path.abspath(name)  # a Hub id is no path
        apart = any(fnmatch.fnmatchcase(place, path) or place.startswith(f"{path}{os.sep}") for path in held_out)
        yield Source(
            name=place,
            use="scores"
            if apart
            else "training"
            if held_out or not rows_held_out
            else "training, and a share for scores",
            read=counts.get(name, {}).get("read"),
            kept=counts.get(name, {}).get("kept"),
            digest=digests.get(name),
            licence=licences.of_data(place),
        )


def _syntax(directory: Path) -> str | None:
    """The syntax of the calls that are read from answers, where held-out rows have tools."""
    try:
        found = _json(directory / "prepared" / "questions.json").get("syntax")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _score(entry: Mapping[str, Any]) -> Score:
    """What `evaluation.json` says of a metric; one of an earlier version has no intervals."""

    def interval(name: str) -> tuple[float, float] | None:
        ends = entry.get(f"{name}_interval")
        return None if ends is None else (ends[0], ends[1])

    return Score(
        base=entry["base"],
        adapter=entry["adapter"],
        rows=entry.get("rows"),
        difference=interval("difference"),
        verdict=entry.get("verdict"),
        base_interval=interval("base"),
        adapter_interval=interval("adapter"),
    )


def _of_adapter(adapter: Adapter) -> dict[str, Any]:
    if adapter.type == "full":
        return {"weights trained": "all"}
    return {"rank": adapter.rank, "alpha": adapter.alpha, "embeddings trained": adapter.train_embeddings}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
