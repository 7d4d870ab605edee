"""What is wrong between settings and the task: settings of another task, and what a task demands.

Each rule names the keys that it looks at, as those of `rules.py` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from runner.errors import Problem, listed
from runner.reading.keys import CALLING_FORMATS, SECTION_TASKS
from runner.reading.settings import Settings
from runner.scores.metrics import BY_LOSS, BY_REWARDS, OF_CALLS

Rule = Callable[[Settings, tuple[str, ...]], Iterator[Problem]]

# What means nothing to `task: grpo`, and what to set in its place.
NOT_GRPO = {
    "dataset.learn": "completions are sampled, and all of their tokens are learned from",
    "dataset.max_length": "set `grpo.max_prompt_length` and `grpo.max_completion_length`",
    "training.packing": "completions are not packed",
    "adapter.train_embeddings": "leave it out: completions are sampled from the embeddings that the base model has",
}
# The same of `task: continued_pretraining`.
NOT_TEXT = {
    "dataset.learn": "leave it out: every token of a document is learned",
    "dataset.apply_chat_template": "leave it out: documents are learned as they are written",
    "evaluation.samples": "leave it out: held-out documents are scored by their loss, and nobody is asked a question",
    "evaluation.max_new_tokens": "leave it out: held-out documents are scored by their loss, and nothing is written",
}
OWN_PACKINGS = ("wrapped", "document")  # of `task: continued_pretraining`
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")  # that TRL bounds on both sides
LARGEST_RANK = 512  # of an adapter that vLLM takes
FORMATS_OF_TASKS: dict[str, tuple[str, ...]] = {
    "sft": ("prompt_completion", "messages"),
    "grpo": ("prompt",),
    "continued_pretraining": ("text",),
    "function_calling": CALLING_FORMATS,
}
FORMAT_HINTS = {
    "continued_pretraining": "its rows have a `text`; prompts, completions and messages belong to `task: sft`",
    "grpo": "its rows have a `prompt`, and any columns that rewards need",
    "function_calling": f"its formats are {listed(CALLING_FORMATS)}; `auto` tells them apart",
}
SEQUENCE_LOSSES = ("grpo", "luspo", "sapo")  # that TRL can weight by whole completions


def _section(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    task, (section,) = settings["task"], keys
    owner = SECTION_TASKS[section]
    if settings.written(section) and task not in (owner, None):
        message = f"`{section}` belongs to `task: {owner}`, and this recipe's task is `{task}`"
        yield settings.problem(keys, message, f"take `{section}` away")


def _not_grpo(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    return _meaningless(settings, "grpo", NOT_GRPO)


def _not_text(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    return _meaningless(settings, "continued_pretraining", NOT_TEXT)


def _meaningless(settings: Settings, task: str, hints: Mapping[str, str]) -> Iterator[Problem]:
    if settings["task"] != task:
        return
    for key, hint in hints.items():
        if settings.written(key) and settings[key] is not None:
            yield settings.problem((key,), f"`{key}` means nothing to `task: {task}`", hint)


def _rewards(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """At least one reward, each with exactly one home for its function."""
    if settings["task"] != "grpo":
        return
    rewards = settings["rewards"]
    if rewards is None:
        hint = "write `rewards: [{use: exact_answer}]`, or `[{file: rewards.py}]` with a function of your own"
        yield settings.problem(("rewards", "task"), "`task: grpo` needs `rewards`", hint)
        return
    yield from _homes(settings, "rewards")
    if all(reward["weight"] == 0 for reward in rewards):
        yield settings.problem(keys, "every reward has the weight 0, so that nothing is learned")


def _homes(settings: Settings, key: str) -> Iterator[Problem]:
    for index, reward in enumerate(settings[key]):
        named = [home for home in ("use", "file") if reward[home] is not None]
        where = (f"{key}.{index}",)
        if len(named) != 1:
            what = "both `use` and `file`" if named else "neither `use` nor `file`"
            hint = "`use` names a reward that ships with Tunesmith, `file` a Python file of your own"
            yield settings.problem(where, f"`{key}[{index}]` has {what}", hint)
        if reward["use"] is not None and reward["function"] is not None:
            message = f"`{key}[{index}]` has a `function`, and `use` names one already"
            yield settings.problem(where, message, "take `function` away")


def _measured_rewards(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Rewards that score the answers of a task which does not learn from them."""
    if settings[keys[0]] is None:
        return
    if settings["task"] == "grpo":
        message = f"held-out prompts of `task: grpo` are scored by its `rewards`, and `{keys[0]}` names more"
        yield settings.problem(keys, message, "put them among `rewards`, with `weight: 0` if nothing is to be learned")
    elif settings["task"] == "continued_pretraining":
        message = f"`{keys[0]}` scores answers, and texts of `task: continued_pretraining` have none"
        yield settings.problem(keys, message, f"take `{keys[0]}` away")
    else:
        yield from _homes(settings, keys[0])
        if settings[keys[1]] == 0:
            message = f"`{keys[0]}` scores answers, and `{keys[1]}` is 0"
            yield settings.problem(keys, message, "let some answers be written, or leave the rewards out")


def _grpo_batch(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """A step holds whole groups: the completions of one prompt are scored against each other."""
    batch, group = settings[keys[0]], settings[keys[1]]
    if settings["task"] == "grpo" and batch % group:
        message = f"`training.batch_size` is {batch}, which is no multiple of `grpo.num_generations` {group}"
        near = max(batch // group, 1) * group
        yield settings.problem(keys, message, f"it counts the completions of a step; {near} would do")


def _grpo_zero(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    stage, engine = settings[keys[0]], settings[keys[1]]
    if settings["task"] != "grpo" or engine == "vllm":
        return
    if stage == 3:
        message = "`deepspeed.zero_stage: 3` gathers all weights for each sampled token, which takes hours a step"
        yield settings.problem((keys[0],), message, "use stage 2 or less, or `grpo.engine: vllm`")
    if settings[keys[2]] == "parameters":
        message = "`deepspeed.offload: parameters` needs ZeRO stage 3, which cannot sample completions"
        yield settings.problem((keys[2],), message, "use `offload: optimizer`, or `grpo.engine: vllm`")


def _grpo_loss(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    loss, level = settings[keys[0]], settings[keys[1]]
    if level == "sequence" and loss not in SEQUENCE_LOSSES:
        message = f"`loss_type: {loss}` sums over tokens, and `importance_sampling_level` is `sequence`"
        yield settings.problem(keys, message, f"the losses for whole completions are {listed(SEQUENCE_LOSSES)}")
    if loss == "luspo" and level != "sequence":
        hint = "set `grpo.importance_sampling_level: sequence`"
        yield settings.problem(keys, "`loss_type: luspo` is a loss of whole completions", hint)


def _grpo_bounds(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    loss = settings[keys[0]]
    if settings["task"] != "grpo" or loss in CLIPPED_LOSSES:
        return
    for key in keys[1:]:
        kept = loss == "cispo" and key == "grpo.epsilon_high"
        if settings.written(key) and settings[key] is not None and not kept:
            hint = "`cispo` is bounded by `epsilon_high` alone" if loss == "cispo" else "take it away"
            yield settings.problem((key,), f"`{key}` means nothing to `loss_type: {loss}`", hint)


def _grpo_engine(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """What an adapter may be for vLLM to sample with it."""
    engine, kind, rank, quantization = (settings[key] for key in keys)
    if settings["task"] != "grpo" or engine != "vllm":
        return
    hint = "use `adapter.type: lora` or `rslora`, or `grpo.engine: transformers`"
    if kind == "dora":
        yield settings.problem((keys[1], keys[0]), "vLLM does not know DoRA", hint)
    if rank > LARGEST_RANK:
        message = f"vLLM takes adapters up to rank {LARGEST_RANK}, and `adapter.rank` is {rank}"
        yield settings.problem((keys[2], keys[0]), message, f"`adapter.rank: {LARGEST_RANK}` is the largest")
    if quantization == "int8":
        message = "vLLM cannot sample with weights that are made `int8` as they are loaded"
        yield settings.problem((keys[3], keys[0]), message, "use `nf4`, or `grpo.engine: transformers`")


def _metrics(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    task, metrics = settings["task"], settings[keys[0]]
    for metric in metrics:
        hint = None
        if (metric == BY_REWARDS) != (task == "grpo"):
            hint = "held-out prompts of `task: grpo` are scored by its rewards: `metrics: [reward]`"
        elif metric in OF_CALLS and task != "function_calling":
            hint = "it compares the calls of tools, which rows of `task: function_calling` have"
        elif metric not in BY_LOSS and task == "continued_pretraining":
            hint = "its rows are texts without an answer: write `metrics: [loss, perplexity]`"
        if hint is not None:
            yield settings.problem(keys, f"the metric `{metric}` is none of `task: {task}`", hint)
            return


def _formats(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    task = settings["task"]
    said = [("dataset.format", settings["dataset.format"])]
    for key in ("train", "evaluation"):
        items = settings[f"dataset.{key}"]
        for index, item in enumerate(items if isinstance(items, list) else []):
            said.append((f"dataset.{key}.{index}.format", item["format"]))
    for key, value in said:
        if value in (None, "auto") or task is None or value in FORMATS_OF_TASKS[task]:
            continue
        hint = FORMAT_HINTS.get(task)
        if value in CALLING_FORMATS and task != "grpo":
            hint = "rows with tools belong to `task: function_calling`"
        yield settings.problem((key,), f"`format: {value}` is none of `task: {task}`", hint)


def _template(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Tools and calls have no text of their own: the chat template alone says how they are written."""
    if settings["task"] == "function_calling" and settings[keys[0]] is False:
        message = "`task: function_calling` needs the chat template, and `dataset.apply_chat_template` is `false`"
        hint = "take it away; `model.chat_template` names a template where the model has none"
        yield settings.problem(keys, message, hint)


def _overflow(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    value = settings[keys[0]]
    if settings["task"] == "grpo" and value in ("truncate", "split"):
        yield settings.problem(keys, f"a prompt cannot be shortened, and `dataset.overflow` is `{value}`", "use `drop`")


def _packing(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Ways of packing are of documents or of rows; and joined documents leave nothing over."""
    task, packing = settings["task"], settings[keys[0]]
    message = f"`packing: {packing}` is none of `task: {task}`"
    if task == "continued_pretraining":
        if packing not in ("auto", *OWN_PACKINGS):
            hint = "`wrapped` joins documents and cuts them into full rows, `document` keeps them apart"
            yield settings.problem(keys[:1], message, hint)
        elif packing != "document" and settings.written(keys[1]):
            hint = "documents are joined, and every token has a place; `training.packing: document` keeps them apart"
            yield settings.problem(keys[1:], "`dataset.overflow` means nothing where rows are wrapped", hint)
    elif packing in OWN_PACKINGS and task != "grpo":
        yield settings.problem(keys[:1], message, "it packs the documents of `task: continued_pretraining`")


def _full(settings: Settings, keys: tuple[str, ...]) -> Iterator[Problem]:
    if settings["task"] == "grpo" and settings[keys[0]] == "full":
        message = "`adapter.type: full` is none of `task: grpo`, which samples from an adapter over a fixed model"
        yield settings.problem(keys, message, "use `lora`; with a high `rank` it learns as much from rewards")


RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("grpo",), _section),
    (("rewards",), _section),
    (tuple(NOT_GRPO), _not_grpo),
    (tuple(NOT_TEXT), _not_text),
    (("training.packing", "dataset.overflow"), _packing),
    (("rewards",), _rewards),
    (("evaluation.rewards", "evaluation.samples"), _measured_rewards),
    (("training.batch_size", "grpo.num_generations"), _grpo_batch),
    (("deepspeed.zero_stage", "grpo.engine", "deepspeed.offload"), _grpo_zero),
    (("grpo.loss_type", "grpo.importance_sampling_level"), _grpo_loss),
    (("grpo.loss_type", "grpo.epsilon", "grpo.epsilon_high", "grpo.delta"), _grpo_bounds),
    (("grpo.engine", "adapter.type", "adapter.rank", "model.quantization"), _grpo_engine),
    (("adapter.type",), _full),
    (("evaluation.metrics",), _metrics),
    (("dataset.train", "dataset.evaluation", "dataset.format"), _formats),
    (("dataset.apply_chat_template",), _template),
    (("dataset.overflow",), _overflow),
)
