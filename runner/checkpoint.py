"""Checkpoints that are whole or not there: written aside, sealed by a manifest of hashes, published by a rename.

`checkpoints/step-N` exists only after every byte of it is on the disk. A folder without that name is a write that was
interrupted, and is thrown away. Nothing is loaded that the manifest does not vouch for, pickles included.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner import changes, runfile
from runner.errors import Place, Problem, RunError
from runner.plan import Plan
from runner.recipe import Grpo

MIB = 1024**2
SIZE_VARIES = 1.02  # how much larger than the one before it a checkpoint may be: its log grows
MANIFEST = "manifest.json"
CHOSEN = "chosen.json"
TRAINER_STATE = "trainer_state.json"  # as transformers calls it
# Settings of the training that do not change what is learned up to a step, or are among the others in another form.
WITHOUT_EFFECT = (
    "log_every", "early_stopping", "checkpoints", "epochs", "max_steps", "evaluate_every", "non_finite",
    "stall_timeout",
)  # fmt: skip
# What of a checkpoint is loaded by others: the adapter, or the model where all weights are trained.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MODEL_FILES = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json")
UNFINISHED = "checkpoint-"  # how the name of a folder begins that is not published, as transformers has it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds. `loss` is that of the probe rows, `files` maps a relative path to its SHA-256."""

    step: int
    loss: float
    settings: Mapping[str, Any]
    files: Mapping[str, str]


def settings(plan: Plan, data: str) -> dict[str, Any]:
    """What a run must have in common with the one that it goes on from; `data` names the prepared rows."""
    recipe = plan.recipe
    name, laid_over = Path(recipe.model.name), recipe.deepspeed.config
    training = asdict(recipe.training)
    for key in WITHOUT_EFFECT:
        del training[key]
    stopping = recipe.training.early_stopping
    if stopping is not None and stopping.metric != "loss":  # the best value so far is one of this metric
        asked = recipe.evaluation
        training["early_stopping"] = {
            "metric": stopping.metric, "samples": asked.samples, "max_new_tokens": asked.max_new_tokens,
        }  # fmt: skip
    training["scheduler_settings"] = dict(recipe.training.scheduler_settings)
    training["micro_batch_size"] = plan.batch.micro
    training["packing"] = plan.packing.value
    training["gradient_checkpointing"] = plan.gradient_checkpointing.value
    found = {
        "task": recipe.task,
        "model": {"name": name.name if name.is_absolute() else str(name), "revision": recipe.model.revision},
        "add_tokens": list(recipe.model.add_tokens),
        "precision": plan.precision.value,
        "quantization": plan.quantization,
        "adapter": asdict(recipe.adapter) | {"target_modules": list(recipe.adapter.target_modules)},
        "training": training,
        "total_steps": plan.steps.total if plan.steps else None,
        "deepspeed": {
            "processes": plan.processes,
            "zero_stage": plan.zero_stage.value,
            "offload": recipe.deepspeed.offload,
            "config": digest(Path(laid_over)) if laid_over else None,
        },
        "data": data,
        "shuffle": recipe.dataset.shuffle,
        "grpo": _learned_by(recipe.grpo) if recipe.grpo else None,
        # The files themselves may change: that is what `rewards.jsonl` tells of.
        "rewards": {
            reward.name: {key: getattr(reward, key) for key in ("function", "weight", "options", "strings", "on_error")}
            for reward in recipe.rewards
        },
    }
    as_written: dict[str, Any] = json.loads(json.dumps(found))
    return as_written


def _learned_by(grpo: Grpo) -> dict[str, Any]:
    """The settings of GRPO that change what is learned."""
    kept = asdict(grpo)
    for key in ("engine", "reward_workers", "max_faults_in_a_row", "guard"):
        del kept[key]
    return kept


def name_base(folder: Path, plan: Plan) -> None:
    """Let an adapter in a folder name its base as the Hub has it, where the recipe says how, and not by a path.

    PEFT is not told while it trains: it would ask the Hub for that model each time that it saves.
    """
    config, called = folder / ADAPTER_FILES[0], plan.recipe.model.hub_id
    if called and config.is_file():
        said = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": called}
        config.write_text(json.dumps(said, indent=2, sort_keys=True), encoding="utf-8")


def publish(written: Path, target: Path, manifest: Manifest) -> None:
    """Seal a written folder and give it its name. After this a power cut cannot take it away."""
    (written / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    for path in (*sorted(written.rglob("*")), written):
        if path.is_file() or path.is_dir():
            _sync(path)
    replaced = target.with_name(f"{UNFINISHED}replaced-{target.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)  # at once, where deleting it would leave a torn one for a while
    written.rename(target)
    _sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder but its manifest, by its relative path."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> Manifest | None:
    """The manifest of a sound checkpoint; None where a file is missing, changed or added."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        return manifest if _is_typed(manifest) and hashes(folder) == manifest.files else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _is_typed(manifest: Manifest) -> bool:
    return (
        type(manifest.step) is int
        and type(manifest.loss) in (int, float)
        and isinstance(manifest.settings, dict)
        and isinstance(manifest.files, dict)
    )


def all_of(folder: Path) -> list[Path]:
    """The published checkpoints in a folder, the oldest first."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("step-*")
        if (match := re.fullmatch(r"step-(\d{1,18})", path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found)]


def newest(
    folder: Path, wanted: Mapping[str, Any], allowed: Sequence[str], damaged: list[Path]
) -> tuple[Path, Manifest] | None:
    """The newest sound checkpoint to go on from; None where there is none. Newer ones are added to `damaged`.

    Raises RunError where it belongs to a run with other settings than `wanted`, but for those that are allowed to
    differ: going on would give a mixture of two runs, and DeepSpeed's own message for it is a failed assertion.
    """
    for path in reversed(all_of(folder)):
        manifest = read(path)
        if manifest is None:
            damaged.append(path)
            continue
        changed = differences(manifest.settings, wanted)
        changes.judge(f"`{path}` belongs to a run with other settings", changed, allowed)
        return path, manifest
    return None


def choose(directory: Path, wanted: Mapping[str, Any]) -> None:
    """Write down which checkpoint is the run's result: the best that transformers noted, or the last.

    Told by the files alone, so that a run which was killed after its last checkpoint chooses the same.
    """
    folder = directory / "checkpoints"
    last = all_of(folder)[-1]
    state = json.loads((last / TRAINER_STATE).read_text(encoding="utf-8"))
    best = folder / f"step-{state.get('best_global_step')}"
    result = best if best.is_dir() else last
    text = json.dumps({"step": int(result.name.removeprefix("step-")), "settings": wanted}, indent=1)
    runfile.write(directory / CHOSEN, text + "\n")


def chosen(directory: Path, wanted: Mapping[str, Any] | None = None) -> Path | None:
    """The checkpoint that an ended training chose; None where none did, or one with other settings than `wanted`."""
    try:
        found = json.loads((directory / CHOSEN).read_text(encoding="utf-8"))
        folder = directory / "checkpoints" / f"step-{found['step']:d}"
        same = wanted is None or not differences(found["settings"], wanted)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return folder if same and read(folder) is not None else None


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of what two nested mappings do not have in common."""
    found: list[str] = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


def discard_unfinished(folder: Path) -> None:
    """Throw away what an interrupted write left, and published checkpoints that are not sound any more.

    An unsound one counts among the newest, and would have sound ones deleted in its place.
    """
    discard_unwritten(folder)
    for path in all_of(folder):
        if read(path) is None:
            shutil.rmtree(path)


def discard_unwritten(folder: Path) -> None:
    """Throw away what writes have left that did not come to their end."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def make_room(folder: Path, estimate: int, best_step: int | None) -> None:
    """Delete the oldest checkpoints until there is room for another one: as large as the newest, or as an estimate.

    The newest stays whatever happens, and the best one. Raises RunError where that is not enough.
    """
    there = all_of(folder)
    needed = int(_size(there[-1]) * SIZE_VARIES) if there else estimate
    for path in there[:-1]:
        if shutil.disk_usage(folder).free >= needed:
            return
        if path.name != f"step-{best_step}":
            logger.warning("the disk is full: `%s` makes room for the next checkpoint", path)
            shutil.rmtree(path)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        kept = f"; `{there[-1]}` is kept" if there else ""
        raise RunError(
            Problem(
                f"a checkpoint takes {needed / MIB:,.0f} MiB, and the disk has {free / MIB:,.0f} MiB left{kept}",
                Place(str(folder)),
                "free some space, or set `output.directory` to a folder on another disk, and run it again",
            )
        )


def _size(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def keep(folder: Path, newest_ones: int, best_step: int | None) -> None:
    """Delete all but the newest checkpoints and the best one."""
    for path in all_of(folder)[:-newest_ones]:
        if best_step is None or path.name != f"step-{best_step}":
            shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
