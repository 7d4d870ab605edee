"""Sound settings, each right by itself -> what is wrong between them.

A rule names the keys that it looks at, and is left out where one of them is wrong already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from runner import secrets
from runner.data import row_templates
from runner.errors import Place, Problem, listed
from runner.reading import task_rules
from runner.reading.names import SCHEDULERS
from runner.reading.sentences import dotted, found
from runner.reading.settings import Settings
from runner.reading.source import Path, Places, closest
from runner.schedule import BY_EVALUATION, WITHOUT_WARMUP
from runner.scores.metrics import (
    BY_REWARDS,
    GENERATED,
    LOWER_IS_BETTER,
    OF_A_REWARD,
    SCHEMA,
    needs_answers,
)

COLUMNS_OF_FORMAT = {"prompt_completion": ("prompt", "completion"), "messages": ("messages",), "text": ("text",)}


def problems(values: dict[str, Any], places: Places, wrong: set[Path]) -> list[Problem]:
    """Every fault between settings. `wrong` are the paths that are known to be at fault."""
    settings = Settings(values, places)
    found_here: list[Problem] = []
    for keys, rule in (*RULES, *task_rules.RULES):
        paths = [tuple(key.split(".")) for key in keys]
        if not any(_touches(path, other) for path in paths for other in wrong):
            found_here.extend(rule(settings, keys))
    return found_here


def secret_problems(
    values: Any, places: Places, path: Path = (), mask: Callable[[str], str] | None = None
) -> Iterator[Problem]:
    """A problem for every text that is shaped like a secret, or holds one of this process's environment.

    Neither the problem nor its place repeats it.
    """
    mask = mask or secrets.masker(os.environ)
    if isinstance(values, dict):
        for key, value in values.items():
            yield from secret_problems(value, places, (*path, key), mask)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from secret_problems(value, places, (*path, index), mask)
    elif isinstance(values, str) and (
        (shaped := secrets.holds_secret(values, str(path[-1]))) or mask(values) != values
    ):
        written = closest(places, path)
        spot = written.value if written else Place("")
        place = Place(spot.file, spot.line, spot.column, spot.width)
        hint = "take it out, revoke it if the file has been shared, and set `HF_TOKEN` or `WANDB_API_KEY` instead"
        what = "looks like a secret" if shaped else "holds a secret of the environment"
        yield Problem(f"the value of `{dotted(path)}` {what}", place, hint)


def _length_of_run(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    if settings.written("training.epochs") and settings["training.max_steps"] is not None:
        hint = "keep one; `--set training.epochs=null` takes it out for one run"
        yield settings.problem(keys, "`training.epochs` and `training.max_steps` both set the length of the run", hint)


def _micro_batch(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    batch, micro, processes = (settings[key] for key in keys)
    micro = micro if isinstance(micro, int) else None
    processes = processes if isinstance(processes, int) else None
    if micro is not None and micro > batch:
        message = f"`training.micro_batch_size` is {micro}, and `training.batch_size` only {batch}"
        yield settings.problem(keys[:2], message, "`batch_size` counts the rows of an optimizer step on all devices")
        return
    unit = (micro or 1) * (processes or 1)
    if batch % unit:
        parts = " × ".join(f"`{key}`" for key, value in ((keys[1], micro), (keys[2], processes)) if value is not None)
        message = f"`training.batch_size` is {batch}, which is no multiple of {parts} = {unit}"
        near = max(batch // unit, 1) * unit
        yield settings.problem(keys, message, f"{near} would do")


def _continued(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    if settings[keys[0]] is None:
        return
    for key in keys[1:]:
        if settings.written(key):
            message = f"`{key}` is that of the adapter in `{keys[0]}`, and cannot be chosen again"
            yield settings.problem((key,), message, "leave it out")


def _full(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """All weights are trained: nothing of an adapter is left to choose, and quantised weights cannot be."""
    if settings[keys[0]] != "full":
        return
    if settings[keys[1]] != "none":
        message = f"`adapter.type: full` trains all weights, and `model.quantization: {settings[keys[1]]}` freezes them"
        yield settings.problem(keys[:2], message, "take `quantization` away, or use `adapter.type: qlora`")
    for key in keys[2:]:
        if settings.written(key) and settings[key] not in (None, False):
            message = f"`{key}` means nothing to `adapter.type: full`"
            yield settings.problem((key,), message, "leave it out: all weights are trained, and there is no adapter")


def _add_tokens(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """A new token means nothing until its embedding is learned."""
    tokens, kind, trained, continued = (settings[key] for key in keys)
    if tokens and kind != "full" and not trained and continued is None:
        hint = "set `adapter.train_embeddings: true`, or `adapter.type: full`"
        yield settings.problem(keys[:2], "`model.add_tokens` adds embeddings, and none are trained", hint)


def _embedding_rate(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    rate, trained, continued = (settings[key] for key in keys)
    if rate is not None and not trained and continued is None:
        message = "`training.embedding_learning_rate` is set, and no embeddings are trained"
        yield settings.problem(keys[:2], message, "set `adapter.train_embeddings: true`, or take the rate away")


def _offload(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    offload, stage = settings[keys[0]], settings[keys[1]]
    if not isinstance(stage, int):
        return
    if offload == "parameters" and stage != 3:
        yield settings.problem(keys, f"`offload: parameters` needs `zero_stage: 3`, and it is {stage}")
    if offload == "optimizer" and stage == 0:
        yield settings.problem(keys, "`offload: optimizer` needs a `zero_stage` of 1 to 3, and it is 0")


def _qlora(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    kind, quantization = settings[keys[0]], settings[keys[1]]
    if kind == "qlora" and (quantization == "int8" or (quantization == "none" and settings.written(keys[1]))):
        message = f"`adapter.type: qlora` trains over 4-bit weights, and `model.quantization` is `{quantization}`"
        yield settings.problem(keys, message, "set `model.quantization: nf4`, or `adapter.type: lora`")


def _quantized_stage(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    kind, quantization, stage = (settings[key] for key in keys)
    if stage == 3 and (kind == "qlora" or quantization != "none"):
        cause = "adapter.type: qlora" if kind == "qlora" else f"model.quantization: {quantization}"
        message = f"`{cause}` does not go with `deepspeed.zero_stage: 3`"
        hint = "quantized weights are not shared out over devices: use stage 2 or less"
        yield settings.problem((keys[0] if kind == "qlora" else keys[1], keys[2]), message, hint)


def _samples(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    metrics, samples = settings[keys[0]], settings[keys[1]]
    needed = [metric for metric in metrics if metric in GENERATED]
    if needed and samples == 0:
        message = f"the metric `{needed[0]}` needs completions, and `evaluation.samples` is 0"
        hint = "write `metrics: [loss, perplexity]`, or let some samples be written"
        yield settings.problem(keys, message, hint)


def _json_schema(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    metrics, schema = settings[keys[0]], settings[keys[1]]
    if SCHEMA in metrics and schema is None:
        message = f"the metric `{SCHEMA}` needs a schema, and `evaluation.json_schema` names none"
        yield settings.problem(keys, message, "write `json_schema: schema.json` beside `metrics`")
    elif SCHEMA not in metrics and schema is not None:
        message = f"`evaluation.json_schema` is not used, since `{SCHEMA}` is not among the metrics"
        yield settings.problem((keys[1],), message, f"add `{SCHEMA}` to `evaluation.metrics`, or take it away")


def _stopping(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """A metric that a run stops by is one that is measured, and that the scheduler can go by too."""
    stopping, metrics, scheduler, samples = (settings[key] for key in keys)
    if stopping is None:
        return
    metric, where, by_rewards = stopping["metric"], f"{keys[0]}.metric", settings["task"] == "grpo"
    of_a_reward = metric.startswith(OF_A_REWARD)  # whether there is such a reward is told with its other faults
    if by_rewards and metric != BY_REWARDS and not of_a_reward:
        message = f"held-out prompts of `task: grpo` are scored by its rewards, and the run is to stop by `{metric}`"
        hint = f"write `metric: {BY_REWARDS}` for the total, or `reward/NAME` for one of them"
        yield settings.problem((where if settings.written(where) else keys[0],), message, hint)
    elif by_rewards and samples == 0:
        message = f"the run is to stop by `{metric}`, and `{keys[3]}` is 0"
        yield settings.problem((where, keys[3]), message, "say how many held-out prompts are answered for it")
    elif not by_rewards and not of_a_reward and metric != "loss" and metric not in metrics:
        message = f"the run is to stop by `{metric}`, which is not among `evaluation.metrics`"
        yield settings.problem((where, keys[1]), message, f"add `{metric}` to `evaluation.metrics`")
    elif scheduler in BY_EVALUATION and metric not in LOWER_IS_BETTER:
        message = f"`scheduler: {scheduler}` waits for a value to get lower, and a higher `{metric}` is better"
        yield settings.problem((where, keys[2]), message, "stop by `loss`, or use another scheduler")


def _stopping_stage(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    metric = (settings[keys[0]] or {}).get("metric", "loss")
    if needs_answers(metric) and (settings[keys[1]] == 3 or settings[keys[2]] == "parameters"):
        message = f"`{metric}` needs answers during training, and ZeRO stage 3 gathers all weights for each token"
        hint = "use stage 2 or less" if settings["task"] == "grpo" else "stop by `loss`, or use stage 2 or less"
        yield settings.problem((f"{keys[0]}.metric", *keys[1:]), message, hint)


def _warmup(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    scheduler, ratio = settings[keys[0]], settings[keys[1]]
    if scheduler in WITHOUT_WARMUP and ratio > 0 and settings.written(keys[1]):
        message = f"`scheduler: {scheduler}` has no warm-up, and `training.warmup_ratio` is set"
        yield settings.problem(keys, message, "use `constant_with_warmup`, or take `warmup_ratio` away")


def _scheduler_settings(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """A setting that the scheduler does not take would be ignored; two that say the same thing contradict."""
    scheduler, chosen = settings[keys[0]], settings[keys[1]]
    taken = SCHEDULERS[scheduler]
    for name, value in chosen.items():
        if value is not None and name not in taken:
            message = f"`scheduler: {scheduler}` takes no `{name}`"
            hint = f"it takes {listed(taken)}" if taken else "it takes no settings"
            yield settings.problem((f"{keys[1]}.{name}",), message, hint)
    if chosen["min_lr"] is not None and chosen["min_lr_rate"] is not None and "min_lr_rate" in taken:
        both = (f"{keys[1]}.min_lr", f"{keys[1]}.min_lr_rate")
        yield settings.problem(both, "`min_lr` and `min_lr_rate` both set the lowest learning rate", "keep one")
    lowest = chosen["min_lr"]
    if lowest is not None and "min_lr" in taken and lowest > settings["training.learning_rate"]:
        message = f"`min_lr` is {lowest:g}, and `training.learning_rate` only {settings['training.learning_rate']:g}"
        yield settings.problem((f"{keys[1]}.min_lr",), message, "the first is the lowest rate, the second the highest")


def _all_linear(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    modules = settings[keys[0]]
    for word in ("all-linear", "attention"):
        if isinstance(modules, list) and word in modules and len(modules) > 1:
            message = f"`{word}` in `adapter.target_modules` stands for many layers, and others are named beside it"
            yield settings.problem(keys, message, "name it alone, or the modules alone")


def _columns(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Two roles cannot come from one column, and a format has no use for the columns of another."""
    for path, columns, kind in _blocks(settings, "columns"):
        taken: dict[str, str] = {}
        for role, column in (columns or {}).items():
            written = closest(settings.places, (*path, role))
            place = written.value if written else None
            if column in taken:
                message = f"`{dotted((*path, role))}` is {found(column)}, and so is `{taken[column]}`"
                yield Problem(message, place, "each role needs a column of its own")
            elif kind in COLUMNS_OF_FORMAT and role not in (*COLUMNS_OF_FORMAT[kind], "split"):
                message = f"`{dotted((*path, role))}` is of no use to `format: {kind}`"
                yield Problem(message, written.key if written else None, "take it away, or set another format")
            taken.setdefault(column, role)


def _templates(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Templates that can be read, each for a role that the format has and that no column is named for."""
    columns = {path[:-1]: block or {} for path, block, _ in _blocks(settings, "columns")}
    for path, made, kind in _blocks(settings, "templates"):
        for role, template in (made or {}).items():
            written = closest(settings.places, (*path, role))
            where = dotted((*path, role))
            if role in (columns[path[:-1]] or settings["dataset.columns"] or {}):
                hint = "keep one of the two"
                yield Problem(f"`{where}` makes what `columns` names already", written.key if written else None, hint)
            elif kind in COLUMNS_OF_FORMAT and role not in COLUMNS_OF_FORMAT[kind]:
                hint = "take it away, or set another format"
                yield Problem(f"`{where}` is of no use to `format: {kind}`", written.key if written else None, hint)
            else:
                try:
                    row_templates.check(template)
                except row_templates.Broken as error:
                    yield Problem(f"`{where}` {error.message}", written.value if written else None, error.hint)


def _blocks(settings: Settings, name: str) -> Iterator[tuple[Path, Any, str]]:
    """Each block `columns` or `templates` of the data, where it stands, and the format of its rows as it is known."""
    otherwise = settings["dataset.format"]
    if otherwise == "auto" and settings["task"] == "continued_pretraining":
        otherwise = "text"
    yield ("dataset", name), settings[f"dataset.{name}"], otherwise
    for key in ("train", "evaluation"):
        items = settings[f"dataset.{key}"]
        for index, item in enumerate(items if isinstance(items, list) else []):
            yield ("dataset", key, index, name), item[name], item["format"] or otherwise


def _split(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    sources = settings["dataset.train"] or []
    if settings["dataset.split"] is not None and (len(sources) > 1 or any(item["split"] for item in sources)):
        message = "`dataset.split` is for one Hub data set, and `dataset.train` has items with settings of their own"
        yield settings.problem(keys, message, "give each item of `train` a `split` of its own")


Rule = Callable[[Settings, tuple[str, ...]], Iterator[Problem]]

RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("training.epochs", "training.max_steps"), _length_of_run),
    (("training.batch_size", "training.micro_batch_size", "deepspeed.processes"), _micro_batch),
    (("deepspeed.offload", "deepspeed.zero_stage"), _offload),
    (("adapter.type", "model.quantization"), _qlora),
    (("adapter.type", "model.quantization", "deepspeed.zero_stage"), _quantized_stage),
    (("evaluation.metrics", "evaluation.samples"), _samples),
    (("evaluation.metrics", "evaluation.json_schema"), _json_schema),
    (
        ("training.early_stopping", "evaluation.metrics", "training.scheduler", "evaluation.samples"),
        _stopping,
    ),
    (("training.early_stopping", "deepspeed.zero_stage", "deepspeed.offload"), _stopping_stage),
    (("training.scheduler", "training.warmup_ratio"), _warmup),
    (("training.scheduler", "training.scheduler_settings", "training.learning_rate"), _scheduler_settings),
    (("adapter.target_modules",), _all_linear),
    (("dataset.train", "dataset.evaluation", "dataset.columns", "dataset.format"), _columns),
    (("dataset.train", "dataset.evaluation", "dataset.columns", "dataset.templates", "dataset.format"), _templates),
    (("dataset.split", "dataset.train"), _split),
    (
        (
            "adapter.continue_from",
            "adapter.type",
            "adapter.rank",
            "adapter.alpha",
            "adapter.dropout",
            "adapter.target_modules",
            "adapter.train_embeddings",
        ),
        _continued,
    ),
    (
        (
            "adapter.type",
            "model.quantization",
            "adapter.rank",
            "adapter.alpha",
            "adapter.dropout",
            "adapter.target_modules",
            "adapter.train_embeddings",
        ),
        _full,
    ),
    (("model.add_tokens", "adapter.type", "adapter.train_embeddings", "adapter.continue_from"), _add_tokens),
    (("training.embedding_learning_rate", "adapter.train_embeddings", "adapter.continue_from"), _embedding_rate),
)


def _touches(first: Path, second: Path) -> bool:
    """Whether one of two paths is the other, or leads to it."""
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]
