"""A finished run's files in, its model card out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import runner
from runner import runfile
from runner.hub import card
from runner.plan import Plan
from runner.recipe import Adapter


def write(plan: Plan, directory: Path, environment: Mapping[str, str]) -> None:
    """Write `adapter/README.md` from what the run left."""
    state = runfile.read(directory)
    evaluation = _json(directory / "evaluation.json")
    prepared = _json(directory / "prepared" / "prepared.json")
    ledger = _json(directory / "ledger.json")
    recipe = plan.recipe
    hub = recipe.output.hub
    sources = (*recipe.dataset.train, *recipe.dataset.evaluation)
    facts = card.Facts(
        name=recipe.name,
        task=recipe.task,
        base_model=recipe.model.name,
        base_model_is_hub_id=not Path(recipe.model.name).exists(),
        revision=recipe.model.revision,
        adapter_type=recipe.adapter.type,
        recipe_text=(directory / "recipe.yaml").read_text(encoding="utf-8"),
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
            "rows read": ledger["read"],
            "rows kept": ledger["kept"],
            "training rows": prepared["train"]["rows"],
            "learned tokens": prepared["train"]["learned_tokens"],
            "held-out rows": prepared["evaluation"]["rows"],
        },
        data={Path(name).name: digest for name, digest in prepared["data"].items()},
        tool_version=runner.__version__,
        repository=hub.repository if hub else None,
        branch=hub.revision if hub else "main",
        tokens=len(recipe.model.add_tokens),
        chat=prepared["template"],
    )
    card.write(directory / "adapter", facts, environment)


def _score(entry: Mapping[str, Any]) -> card.Score:
    """What `evaluation.json` says of a metric; one of an earlier version has no intervals."""
    difference = entry.get("difference_interval")
    return card.Score(
        base=entry["base"],
        adapter=entry["adapter"],
        rows=entry.get("rows"),
        difference=None if difference is None else (difference[0], difference[1]),
        verdict=entry.get("verdict"),
    )


def _of_adapter(adapter: Adapter) -> dict[str, Any]:
    if adapter.type == "full":
        return {"weights trained": "all"}
    return {"rank": adapter.rank, "alpha": adapter.alpha, "embeddings trained": adapter.train_embeddings}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
