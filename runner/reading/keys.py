"""Every key of a recipe: its type, default, bounds and help. Plain data in the words of `schema.py`, and nothing else.

This is the one home of defaults. A key without a default is null, or not there, until the recipe sets it.
"""

from __future__ import annotations

from typing import Any

from runner import chat_templates
from runner.data.calling.formats import CONVERTERS
from runner.reading.kinds import (
    UNSET,
    Definition,
    Keys,
    choice,
    key,
    number,
    section,
    switch,
    switch_or_auto,
    text,
    whole,
    whole_or_auto,
)
from runner.reading.names import LOSSES
from runner.reading.training_keys import TRAINING
from runner.scores.metrics import METRICS

TASKS = ("sft", "grpo", "continued_pretraining", "function_calling")
SECTION_TASKS = {"grpo": "grpo", "rewards": "grpo"}  # sections that one task alone has
# Defaults that are not those of the other tasks: Predibase's for reinforcement fine-tuning. The adapter's `alpha` is
# its rank there.
FULL_RATE = 2e-5  # the default learning rate of `adapter.type: full`, where a step moves all weights
GRPO_STEPS = 1000  # unless the recipe says `epochs` or `max_steps`
TASK_DEFAULTS: dict[str, dict[tuple[str, str], Any]] = {
    "grpo": {
        ("adapter", "rank"): 64,
        ("training", "learning_rate"): 1e-5,
        ("training", "scheduler"): "linear",
        ("evaluation", "metrics"): ["reward"],
    },
    "function_calling": {
        ("evaluation", "metrics"): ["loss", "perplexity", "call_parsed", "call_name", "call_match"],
    },
    "continued_pretraining": {
        ("dataset", "overflow"): "split",
        ("evaluation", "metrics"): ["loss", "perplexity"],
    },
}

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
HUB_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = rf"(?!.*(?:--|\.\.))(?!.*\.git$){HUB_PART}/{HUB_PART}"
HUB_ID = rf"(?!.*(?:--|\.\.))(?!.*\.git$)(?:{HUB_PART}/)?{HUB_PART}"


def _columns(help_text: str, **rules: Any) -> Definition:
    roles = {
        "prompt": "The column that holds the prompt.",
        "completion": "The column that holds what the model is to answer.",
        "messages": "The column that holds a list of messages.",
        "tools": "The column that holds the tools that a row may call.",
        "text": "The column that holds plain text.",
        "split": "The column that says `train` or `evaluation`.",
    }
    return section(help_text, {role: text(help_of_role) for role, help_of_role in roles.items()}, **rules)


def _templates(help_text: str, **rules: Any) -> Definition:
    roles = {
        "prompt": "The prompt: `{{ instruction }}` stands for the column `instruction`.",
        "completion": "What the model is to answer.",
        "text": "The plain text.",
    }
    return section(help_text, {role: text(help_of_role) for role, help_of_role in roles.items()}, **rules)


def _sources(help_text: str, *others: str, **rules: Any) -> Definition:
    """Where rows come from: one path or Hub id, or a list of them, each with settings of its own."""
    return key(["text", "list", *others], help_text, filled=True, coerce="sources", schema=SOURCE, **rules)


LEVELS = ("token", "sequence")

CALLING_FORMATS = tuple(CONVERTERS)
FORMATS = ("auto", "prompt_completion", "messages", "prompt", "text", *CALLING_FORMATS)

SOURCE = key(
    ["text", "mapping"],
    "A path or Hub id, or a mapping with `path` and settings of its own.",
    filled=True,
    schema={
        "path": text("A file, a glob, a directory or the Hub id of a data set.", required=True),
        "weight": number("How many times its rows are taken; 0.5 takes half of them.", above=0, max=1000, default=1.0),
        "split": text("The split of a Hub data set.", nullable=True, default=None),
        "columns": _columns("As `dataset.columns`, for this source.", nullable=True, default=None),
        "templates": _templates("As `dataset.templates`, for this source.", nullable=True, default=None),
        "format": choice("As `dataset.format`, for this source.", *FORMATS, nullable=True, default=None),
    },
)

MODEL: Keys = {
    "name": text("The base model: a Hub id, a directory or a `.gguf` file.", required=True),
    "revision": text("The branch, tag or commit on the Hub.", nullable=True, default=None),
    "hub_id": text(
        "What a model on this disk is called on the Hub: what the adapter and its card name as their base.",
        pattern=REPOSITORY,
        nullable=True,
        default=None,
    ),
    "dtype": choice(
        "The number format of the frozen weights.", "auto", "float32", "bfloat16", "float16", default="auto"
    ),
    "attention": choice("The attention kernel.", "auto", "eager", "sdpa", "flash_attention_2", default="auto"),
    "quantization": choice("How the frozen weights are compressed.", "none", "int8", "nf4", default="none"),
    "chat_template": text(
        f"`auto` for the model's own, {' or '.join(f'`{name}`' for name in chat_templates.NAMES)} for one that comes "
        "with Tunesmith, or a path to a Jinja file.",
        default="auto",
    ),
    "add_tokens": key(
        "list", "Words to be tokens of their own.", unique=True, schema=text("A word, as texts have it."), default=[]
    ),
    "trust_remote_code": switch("Run the Python code that comes with the model.", False),
}

DATASET: Keys = {
    "train": _sources("Rows to train on: a path, a glob, a Hub id, or a list of them.", required=True),
    "evaluation": _sources(
        "Rows to evaluate on, in the same forms; or the share of the training rows to hold out.",
        "number",
        nullable=True,
        default=None,
        finite=True,
        above=0,
        below=1,
    ),
    "format": choice("The shape of a row.", *FORMATS, default="auto"),
    "columns": _columns("What the columns are called in the data, where not as here.", default={}),
    "templates": _templates("What no column holds alone: Jinja templates of a row's columns.", default={}),
    "split": text("The split of the Hub data set that `train` names.", nullable=True, default=None),
    "apply_chat_template": switch_or_auto("Put prompts and completions into the model's chat template."),
    "learn": choice(
        "The part of a row that is learned: completions, only the last one, or all of the text.",
        "completions",
        "last",
        "all",
        default="completions",
    ),
    "max_length": whole_or_auto("The longest row, in tokens; `auto` is what the model can take.", 8, nullable=True),
    "overflow": choice("What happens to a row that is longer.", "error", "drop", "truncate", "split", default="error"),
    "on_bad_row": choice("What happens at a row that cannot be read.", "error", "skip", default="error"),
    "shuffle": switch("Put the rows into a new order each epoch.", True),
    "limit": whole("Take only so many rows of each split.", 1, nullable=True, default=None),
}

ADAPTERS = ("lora", "dora", "rslora", "qlora", "full")

ADAPTER: Keys = {
    "type": choice("The kind of adapter; `full` is none, and trains all weights.", *ADAPTERS, default="lora"),
    "rank": whole("The rank of the update matrices.", 1, 1024, default=16),
    "alpha": number(
        "The update counts alpha / rank times; twice the rank by default.", above=0, default_setter="alpha"
    ),
    "dropout": number("The share of the adapter's inputs that is dropped.", min=0, below=1, default=0.0),
    "target_modules": key(
        ["text", "list"],
        "The layers that get an adapter: `all-linear`, `attention`, or a list of module names.",
        words=["all-linear", "attention"],
        filled=True,
        unique=True,
        schema=text("The name of a module, or the end of one."),
        default="all-linear",
    ),
    "train_embeddings": switch("Train the input and output embeddings as well, whole.", False),
    "continue_from": text("An adapter to go on from: a directory or a Hub id.", nullable=True, default=None),
}

DEEPSPEED: Keys = {
    "zero_stage": whole_or_auto("What DeepSpeed shares out over the devices.", 0, 3),
    "offload": choice("What moves to the host's memory.", "none", "optimizer", "parameters", default="none"),
    "processes": whole_or_auto("How many processes train, on all nodes together; `auto` is one a device.", 1),
    "config": text("A JSON file of DeepSpeed settings, laid over ours.", nullable=True, default=None),
}

GUARD: Keys = {
    "without_signal": number(
        "The share of groups whose completions all score the same; above it a run is warned, and a check fails.",
        above=0,
        max=1,
        default=0.9,
    ),
    "cut": number("The share of completions that are cut at their longest, likewise.", above=0, max=1, default=0.9),
    "faults": number("The share of calls of a reward function that fail, likewise.", above=0, max=1, default=0.2),
}

GRPO: Keys = {
    "num_generations": whole("Completions sampled for a prompt; they are scored against each other.", 2, default=16),
    "beta": number("The weight of the distance to the model at the start; 0 leaves it out.", min=0, default=0.001),
    "temperature": number("How freely completions are sampled.", above=0, max=100, default=1.0),
    "top_p": number("Sample from the likeliest tokens that hold this share together.", above=0, max=1, default=1.0),
    "top_k": whole("Sample from so many of the likeliest tokens; 0 is all of them.", 0, default=0),
    "min_p": number("Leave out tokens less likely than this share of the likeliest.", min=0, max=1, **UNSET),
    "repetition_penalty": number("Above 1, tokens that were there before get less likely.", above=0, default=1.0),
    "max_prompt_length": whole_or_auto("The longest prompt, in tokens; `auto` is what the model can take.", 1),
    "max_completion_length": whole("The longest completion, in tokens.", 1, default=256),
    "prefill": text("Text that every completion begins with, after the chat template.", **UNSET),
    "loss_type": choice("The loss, by its name in TRL.", *LOSSES, default="dapo"),
    "scale_rewards": choice("Over what rewards are scaled to one spread.", "group", "batch", "none", default="group"),
    "importance_sampling_level": choice("What is weighted against the sampling model.", *LEVELS, default="token"),
    "num_iterations": whole("Optimizer steps on the same completions.", 1, 100, default=1),
    "epsilon": number("How far the policy may move from the one that sampled, downwards.", above=0, default=0.2),
    "epsilon_high": number("The same upwards; as `epsilon` by default.", above=0, **UNSET),
    "delta": number("The upper bound of two-sided clipping.", above=1, **UNSET),
    "mask_truncated_completions": switch("Learn nothing from completions that were cut.", False),
    "top_entropy_quantile": number("Learn from this share of the least certain tokens.", above=0, max=1, default=1.0),
    "engine": choice("What writes the completions.", "auto", "transformers", "vllm", default="auto"),
    "reward_workers": whole_or_auto("Calls of reward functions at a time; `auto` is one a core.", 1, 1024),
    "max_faults_in_a_row": whole("Calls of one reward that may fail in a row before the run ends.", 1, default=100),
    "guard": section("When a run that learns nothing is pointed out.", GUARD, default={}),
}

REWARD = key(
    "mapping",
    "A reward function and how it is run.",
    schema={
        "use": text("The name of a reward that ships with Tunesmith, in place of `file`.", **UNSET),
        "file": text("The Python file that holds the function.", **UNSET),
        "function": text("The function's name; the only one of the file by default.", **UNSET),
        "name": text("What it is called in metrics; the function's name by default.", pattern=NAME, **UNSET),
        "weight": number("What its score is multiplied by in the total.", default=1.0),
        "timeout": number("Seconds that a call may take.", above=0, max=86_400, default=10.0),
        "on_error": choice("What a call that fails scores.", "zero", "skip", "fail", default="zero"),
        "memory": number("GiB of memory that a call may take.", above=0, max=65_536, default=2.0),
        "options": key("mapping", "The function's keyword-only parameters.", default={}),
        "strings": switch("Hand every column over as text, as Predibase does.", False),
        "secrets": key(
            "list",
            "Environment variables that the function may see.",
            unique=True,
            schema=text("The name of a variable.", pattern=VARIABLE),
            default=[],
        ),
        "requirements": key(
            ["list", "text"],
            "Packages that the function needs: a list of them, or a requirements file.",
            filled=True,
            schema=text("A package, as pip takes it."),
            **UNSET,
        ),
        "reload": switch("Take up a file that is saved while the run goes on.", True),
    },
)

EVALUATION: Keys = {
    "metrics": key(
        "list",
        "What is measured on the evaluation rows.",
        filled=True,
        unique=True,
        schema=choice("A metric.", *METRICS),
        default=["loss", "perplexity", "exact_match"],
    ),
    "rewards": key(
        "list",
        "Reward functions that score the answers too, as `rewards` of GRPO names them.",
        filled=True,
        schema=REWARD,
        **UNSET,
    ),
    "json_schema": text("The file of the JSON Schema that the metric `json_schema` holds answers to.", **UNSET),
    "samples": whole("Evaluation rows to write completions for.", 0, default=20),
    "max_new_tokens": whole("The longest completion written, in tokens.", 1, default=256),
    "baseline": switch("Score the base model on the same rows.", True),
}

HUB: Keys = {
    "repository": text("The repository to push to, as `owner/name`.", required=True, pattern=REPOSITORY),
    "private": switch("Make the repository private when it is new.", True),
    "revision": text("The branch to push to.", default="main"),
    "checkpoints": switch("Push checkpoints too while training goes on, to the branch `checkpoints`.", False),
}

OUTPUT: Keys = {
    "directory": text("Where runs are written, each to a directory of its own name.", default="outputs"),
    "hub": section("Push the adapter to the Hub.", HUB, nullable=True, default=None),
}

TRACKING: Keys = {
    "tensorboard": switch("Write TensorBoard files.", False),
    "wandb": text("The Weights & Biases project to log to.", nullable=True, default=None),
    "mlflow": text("The MLflow experiment to log to.", nullable=True, default=None),
    "trackio": text("The Trackio project to log to.", nullable=True, default=None),
}

KEYS: Keys = {
    "version": key("integer", "The version of the recipe format.", allowed=[1], default=1),
    "name": text("The name of the run's directory and of the model card.", pattern=NAME),
    "task": choice("What the model is trained for.", *TASKS, required=True),
    "model": section("The base model.", MODEL, required=True),
    "dataset": section("What the model learns from.", DATASET, required=True),
    "adapter": section("The adapter that is trained.", ADAPTER, default={}),
    "training": section("How it is trained.", TRAINING, default={}),
    "grpo": section("How completions are sampled and learned from.", GRPO, default={}),
    "rewards": key("list", "What completions are paid for.", filled=True, schema=REWARD, nullable=True, default=None),
    "deepspeed": section("How the work is shared out.", DEEPSPEED, default={}),
    "evaluation": section("How the result is measured.", EVALUATION, default={}),
    "output": section("Where the result goes.", OUTPUT, default={}),
    "tracking": section("Where metrics are logged beside the run's own files.", TRACKING, default={}),
}
