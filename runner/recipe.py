"""The recipe as the rest of the program sees it: frozen dataclasses, and nothing else.

Field names are the recipe's own keys. Every default has been filled in from the schema, every path is
absolute, and nothing here is changed after `check` made it. `None` always means "not asked for".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    name: str  # a Hub id, or an absolute path to a directory or a .gguf file
    revision: str | None
    dtype: str  # auto | float32 | bfloat16 | float16
    attention: str  # auto | eager | sdpa | flash_attention_2
    quantization: str  # none | int8 | nf4
    chat_template: str  # auto | the name of one of `chat_templates` | an absolute path to a Jinja file
    add_tokens: tuple[str, ...]
    trust_remote_code: bool
    hub_id: str | None = None  # of a model on this disk


@dataclass(frozen=True)
class Source:
    """One place that rows come from."""

    path: str  # absolute path, glob, or Hub id
    weight: float  # rows taken for each row it has: 0.5 half of them, 2.0 each twice
    split: str | None  # of a Hub dataset
    columns: tuple[tuple[str, str], ...]  # (our name, the name in the data)
    format: str  # auto | prompt_completion | messages | prompt | text | calls | a format of `data/calling`
    templates: tuple[tuple[str, str], ...] = ()  # (our name, the Jinja template that makes it of the row)


@dataclass(frozen=True)
class Dataset:
    train: tuple[Source, ...]
    evaluation: tuple[Source, ...]  # empty: none given as files
    evaluation_fraction: float | None  # a share of the training rows held out, 0 to 1
    apply_chat_template: str  # auto | true | false
    learn: str  # completions | last | all
    max_length: int | None  # tokens; None: what the model can take
    overflow: str  # error | drop | truncate | split
    on_bad_row: str  # error | skip
    shuffle: bool
    limit: int | None  # rows of each split


@dataclass(frozen=True)
class Adapter:
    type: str  # lora | dora | rslora | qlora | full, which is none: all weights are trained
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]  # ("all-linear",), ("attention",) or module names
    train_embeddings: bool
    continue_from: str | None  # an absolute directory or a Hub id


@dataclass(frozen=True)
class EarlyStopping:
    metric: str  # loss, or one of the evaluation's; its best checkpoint is the run's result
    patience: int  # evaluations without a better value
    min_delta: float


@dataclass(frozen=True)
class Checkpoints:
    every: int | None  # optimiser steps; None: chosen by the plan
    keep: int
    minutes: float | None


@dataclass(frozen=True)
class Training:
    epochs: float | None  # exactly one of these two is set
    max_steps: int | None
    learning_rate: float
    embedding_learning_rate: float | None  # None: a tenth of the other
    scheduler: str
    scheduler_settings: tuple[tuple[str, float | int | str | bool], ...]  # those that the recipe sets
    warmup_ratio: float
    optimizer: str
    weight_decay: float
    max_grad_norm: float
    batch_size: int  # rows an optimiser step, over all devices
    micro_batch_size: int | None  # rows a device takes at a time; None: chosen by the plan
    packing: str  # auto | none | padding_free | bfd, or of documents wrapped | document
    gradient_checkpointing: str  # auto | true | false
    seed: int
    log_every: int  # optimiser steps
    evaluate_every: int | None  # optimiser steps; None: chosen by the plan
    early_stopping: EarlyStopping | None
    checkpoints: Checkpoints
    non_finite: str  # stop | skip: what a step is met with whose loss or gradient is not a number
    stall_timeout: float | None  # minutes for which no process need get on; None: for ever


@dataclass(frozen=True)
class Guard:
    """Shares, 0 to 1, above which a run of GRPO is pointed out as one that learns nothing."""

    without_signal: float  # groups whose completions all score the same
    cut: float  # completions that were cut at their longest
    faults: float  # calls of a reward function that failed


@dataclass(frozen=True)
class Grpo:
    num_generations: int  # completions of a prompt
    beta: float
    temperature: float
    top_p: float
    top_k: int  # 0: all tokens
    min_p: float | None
    repetition_penalty: float
    max_prompt_length: int | None  # tokens; None: what the model can take, less the completion
    max_completion_length: int  # tokens
    prefill: str | None
    loss_type: str
    scale_rewards: str  # group | batch | none
    importance_sampling_level: str  # token | sequence
    num_iterations: int  # optimiser steps on the same completions
    epsilon: float
    epsilon_high: float | None
    delta: float | None
    mask_truncated_completions: bool
    top_entropy_quantile: float
    engine: str  # auto | transformers | vllm
    reward_workers: int | None  # None: one a core
    max_faults_in_a_row: int
    guard: Guard


@dataclass(frozen=True)
class Reward:
    name: str
    file: str  # absolute
    function: str
    weight: float
    timeout: float  # seconds a call
    on_error: str  # zero | skip | fail
    memory: float  # GiB
    options: str  # JSON: the function's keyword-only parameters
    strings: bool
    secrets: tuple[str, ...]  # environment variables that are passed on
    requirements: tuple[str, ...]  # packages
    requirements_file: str | None  # absolute
    reload: bool


@dataclass(frozen=True)
class DeepSpeed:
    zero_stage: int | None  # 0 to 3; None: chosen by the plan
    offload: str  # none | optimizer | parameters
    processes: int | None  # None: one a device
    config: str | None  # an absolute path to a DeepSpeed JSON file, laid over ours


@dataclass(frozen=True)
class Evaluation:
    metrics: tuple[str, ...]  # names of `scores/metrics.py`
    rewards: tuple[Reward, ...]  # that score answers, beside the metrics
    json_schema: str | None  # an absolute path
    samples: int  # held-out rows to generate for
    max_new_tokens: int
    baseline: bool  # score the base model beside the adapter


@dataclass(frozen=True)
class Hub:
    repository: str  # owner/name
    private: bool
    revision: str
    checkpoints: bool = False  # whether they are pushed too, to a branch of their own


@dataclass(frozen=True)
class Output:
    directory: str  # absolute; the run writes to directory/name
    hub: Hub | None


@dataclass(frozen=True)
class Tracking:
    tensorboard: bool
    wandb: str | None  # project
    mlflow: str | None  # experiment
    trackio: str | None  # project


@dataclass(frozen=True)
class Recipe:
    version: int
    name: str
    task: str
    model: Model
    dataset: Dataset
    adapter: Adapter
    training: Training
    grpo: Grpo | None  # of `task: grpo` alone, as are the rewards
    rewards: tuple[Reward, ...]
    deepspeed: DeepSpeed
    evaluation: Evaluation
    output: Output
    tracking: Tracking
    file: str  # the recipe file, as it was named on the command line
