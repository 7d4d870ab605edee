"""What every task's trainer has in common: its rows, transformers' arguments from a plan, and callbacks that watch."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
from torch import distributed
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK

from runner import checkpoint, secrets, sharding, token_rows, trackers
from runner.errors import Problem, RunError
from runner.plan import Plan
from runner.scores.metrics import BY_REWARDS, LOWER_IS_BETTER, needs_answers
from runner.stopping import GivenUp

PROBE_ROWS = 16  # whose loss is kept with each checkpoint, and compared when its adapter is read back
HELD_OUT = "eval_"  # before the name of a metric of held-out rows, as transformers has it
FEW, SUSPENDED = 5, 20.0  # after so many steps, one that takes so many times as long as any before was interrupted
LOW_RANK = ("galore_", "apollo_")  # optimizers that have to be told which matrices to project

logger = logging.getLogger(__name__)


def rows(folder: Path) -> Any:
    """The prepared rows of a split, mapped into memory, in whichever form they were written."""
    return token_rows.TokenRows(folder) if token_rows.is_there(folder) else datasets.load_from_disk(str(folder))


def arguments(plan: Plan, folder: Path) -> dict[str, Any]:
    """Keyword arguments for any of TRL's configurations. `folder` is where transformers writes its checkpoints."""
    training, steps = plan.recipe.training, plan.steps
    assert steps is not None, "a plan is trained after its rows have been counted"
    return {
        "output_dir": str(folder),
        "max_steps": steps.total,
        "per_device_train_batch_size": plan.batch.micro,
        "gradient_accumulation_steps": plan.batch.accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "lr_scheduler_kwargs": dict(steps.schedule),
        "warmup_steps": steps.warmup,
        "optim": training.optimizer,
        "optim_target_modules": "all-linear" if training.optimizer.startswith(LOW_RANK) else None,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "seed": training.seed,
        "data_seed": training.seed,
        "bf16": plan.precision.value == "bfloat16",
        "fp16": plan.precision.value == "float16",
        "use_cpu": plan.device == "cpu",
        "ddp_backend": "gloo" if plan.device == "cpu" else "nccl",
        "deepspeed": sharding.settings(plan),
        "gradient_checkpointing": bool(plan.gradient_checkpointing.value),
        "logging_strategy": "steps",
        "logging_steps": training.log_every,
        "logging_nan_inf_filter": training.non_finite == "skip",
        "save_strategy": "steps",
        "save_steps": steps.checkpoint_every,
        "eval_strategy": "steps" if steps.evaluate_every else "no",
        "eval_steps": steps.evaluate_every,
        "metric_for_best_model": stopping_metric(plan) if steps.evaluate_every else None,
        "greater_is_better": stopping_metric(plan) not in LOWER_IS_BETTER if steps.evaluate_every else None,
        "average_tokens_across_devices": True,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": trackers.names(plan.recipe.tracking),
        "run_name": plan.recipe.name,
        "project": plan.recipe.tracking.trackio or "tunesmith",
        "trackio_static_space_id": False,  # or a finished run is copied to a Space, which anybody can read
    }


def stopping_metric(plan: Plan) -> str:
    """The metric by which the best checkpoint is told, and by which a run may stop early."""
    stopping = plan.recipe.training.early_stopping
    if stopping is not None:
        return stopping.metric
    return "loss" if plan.recipe.grpo is None else BY_REWARDS


def callbacks(plan: Plan) -> list[TrainerCallback]:
    """What a trainer is made with: its early stopping, where the recipe has one."""
    stopping = plan.recipe.training.early_stopping
    return [] if stopping is None else [Patience(stopping.patience, stopping.min_delta)]


def over_processes(device: torch.device, *values: float) -> list[float]:
    """The sums of values over the processes, the same on each."""
    sums = torch.tensor(values, dtype=torch.float64)
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        sums = sums.to(device)
        distributed.all_reduce(sums)
    return [float(value) for value in sums]


class Patience(EarlyStoppingCallback):
    """transformers' early stopping, which goes on counting where the checkpoint that a run goes on from left off."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.early_stopping_patience_counter = _waited(state.stateful_callbacks)


def ran_out(folder: Path, plan: Plan) -> bool:
    """Whether the run of a checkpoint had stopped early when it was saved."""
    stopping = plan.recipe.training.early_stopping
    state = json.loads((folder / checkpoint.TRAINER_STATE).read_text(encoding="utf-8"))
    return stopping is not None and _waited(state["stateful_callbacks"]) >= stopping.patience


def _waited(stateful: Mapping[str, Any]) -> int:
    """Evaluations without a better value, as a trainer's state has them."""
    saved = stateful.get(Patience.__name__) or {"attributes": {}}
    return int(saved["attributes"].get("early_stopping_patience_counter", 0))


class Tracked:
    """A tracker's own callback, which cannot cost the run: a fault at its start is told, a later one is logged.

    Its run is noted when it has begun, on the first process, so that the same command goes on with it.
    """

    def __init__(self, name: str, callback: TrainerCallback, plan: Plan) -> None:
        self.name, self.callback, self.plan = name, callback, plan

    def __getattr__(self, event: str) -> Callable[..., Any]:
        act = getattr(self.callback, event)

        def carefully(*given: Any, **named: Any) -> Any:
            try:
                return act(*given, **named)
            except Exception as error:  # whatever a package or its network fails with, it is not the training
                fault = secrets.redact(f"{type(error).__name__}: {error}", os.environ)
                logger.warning("the tracker `%s` failed in `%s`: %s", self.name, event, fault)

        return carefully

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        try:
            self.callback.on_train_begin(args, state, control, **more)
        except Exception as error:  # as above; but nothing is lost yet, and a person is likely to be there
            fault = secrets.redact(f"{type(error).__name__}: {error}", os.environ)
            raise RunError(
                Problem(
                    f"`tracking.{self.name}` cannot log: {fault}",
                    hint="put it right in the environment, or leave it out, and run the same command again",
                )
            ) from None
        if state.is_world_process_zero:
            tracking = self.plan.recipe.tracking
            if runs := _tracked_runs(trackers.names(tracking)):
                trackers.note(tracking, Path(self.plan.directory), os.environ, runs)


def guard_trackers(trainer: Any, plan: Plan) -> None:
    """Put a `Tracked` in the place of each tracker's callback."""
    kinds = {INTEGRATION_TO_CALLBACK[name]: name for name in trackers.names(plan.recipe.tracking)}
    handler = trainer.callback_handler
    handler.callbacks = [
        Tracked(kinds[type(each)], each, plan) if type(each) in kinds else each for each in handler.callbacks
    ]


def _tracked_runs(names: Sequence[str]) -> dict[str, str]:
    """Tracker -> its run that goes on now, for those that can go on with a run by its number."""
    runs = {}
    if "wandb" in names and (run := sys.modules["wandb"].run):
        runs["wandb"] = run.id
    if "mlflow" in names and (run := sys.modules["mlflow"].active_run()):
        runs["mlflow"] = run.info.run_id
    return runs


class BeforeTraining(TrainerCallback):
    """Runs a check when the model has been wrapped and no step has been taken."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.check()


class FreshOptimizer(TrainerCallback):
    """Makes the first step of a run the optimizer's first one.

    At stage 0 in half precision DeepSpeed takes a step without gradients when it starts. Adam counts it: its first
    real step would be a quarter too small.
    """

    def __init__(self, plan: Plan) -> None:
        self.stepped = plan.zero_stage.value == 0 and plan.precision.value != "float32"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        if self.stepped and state.global_step == 0:
            wrapped = optimizer
            while hasattr(wrapped, "optimizer"):  # accelerate's, DeepSpeed's, and the one that steps
                wrapped = wrapped.optimizer
            wrapped.state.clear()


class OtherRate(TrainerCallback):
    """Lets a run go on with another learning rate than its checkpoint has, where that was allowed."""

    def __init__(self, before: float, plan: Plan) -> None:
        self.before, self.training = before, plan.recipe.training

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        factor = self.training.learning_rate / self.before
        if factor == 1:
            return
        own = self.training.embedding_learning_rate  # which has not changed
        for group in optimizer.param_groups:
            if group["initial_lr"] != own:
                group["initial_lr"], group["lr"] = group["initial_lr"] * factor, group["lr"] * factor
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)
        if hasattr(scheduler, "base_lrs"):  # one that waits for the loss to get no better has none
            scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # what is logged of the next step


# The steps after the first up to the second, and what transformers logs of them -> what a task reports of them.
Describe = Callable[[int, int, dict[str, Any]], dict[str, Any]]


class Reporter(TrainerCallback):
    """Passes what a run logs to `tell`, with what its task says of the steps and the seconds that they took.

    `seconds` are those inside of steps, `elapsed` those since the last report, evaluations and checkpoints included.
    """

    def __init__(self, describe: Describe, steps_an_epoch: int, tell: Callable[[dict[str, Any]], None]):
        self.describe, self.steps_an_epoch, self.tell = describe, steps_an_epoch, tell
        self.reported = self.step_began = time.monotonic()
        self.stepping = 0.0
        self.logged_step = 0
        self.step_ended: float | None = None
        self.longest = (0.0, 0.0, False)  # step, pause, whether a checkpoint was saved before
        self.saved = False
        self.steps = 0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_began = time.monotonic()
        if self.step_ended is not None:
            self._pace(0.0, self.step_began - self.step_ended)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_ended = time.monotonic()
        self.stepping += self.step_ended - self.step_began
        took, longest = self.step_ended - self.step_began, self.longest[0]
        self.steps += 1
        # A process that a scheduler suspended has not become slower.
        self._pace(longest if self.steps > FEW and took > SUSPENDED * longest else took, 0.0)
        if state.global_step == state.max_steps:
            control.should_log = True  # also where the last step is none of every so many

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = True

    def _pace(self, step: float, pause: float) -> None:
        """Tell the longest step and the longest time between two, in which a run evaluates and saves, in seconds."""
        longest = max(step, self.longest[0]), max(pause, self.longest[1]), self.saved
        if longest != self.longest:
            self.longest = longest
            self.tell({"event": "pace", **dict(zip(("step", "pause", "saved"), longest, strict=True))})

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.reported, self.logged_step = time.monotonic(), state.global_step
        self.tell({"event": "start", "step": state.global_step, "total": state.max_steps})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        event: dict[str, Any] = {"step": state.global_step, "epoch": round(state.global_step / self.steps_an_epoch, 4)}
        measured = {name.removeprefix(HELD_OUT): value for name, value in logs.items() if name.startswith(HELD_OUT)}
        if measured:
            event |= {"event": "evaluation"}
            if "loss" in measured:
                event |= {"evaluation_loss": measured["loss"]}
            others = {name: value for name, value in measured.items() if needs_answers(name)}
            event |= {"measured": others} if others else {}
        elif "loss" in logs:
            now = time.monotonic()
            described = self.describe(self.logged_step, state.global_step, logs)
            event |= {
                "event": "step",
                "loss": logs["loss"],
                "learning_rate": logs.get("learning_rate"),
                "gradient_norm": logs.get("grad_norm"),
                **described,
                "seconds": round(self.stepping, 4),
                "elapsed": round(now - self.reported, 4),
                "memory": _peak(args.device),
            }
            self.reported, self.stepping, self.logged_step = now, 0.0, state.global_step
        else:
            return
        self.tell(event)


def _peak(device: torch.device) -> int:
    """The bytes that this process has held at once so far: of its device, or of the host's memory on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is computed in here leaves every random generator as it was."""
    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def left_together(device: torch.device) -> Iterator[None]:
    """What each process computes by itself, and may give up: none goes on where another one has. Raises GivenUp."""
    given_up = False
    try:
        yield
    except GivenUp:
        given_up = True
    if any_of((given_up,), device)[0]:
        raise GivenUp


def any_of(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Which flags are set on any process."""
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return list(flags)
    values = torch.tensor([float(flag) for flag in flags], device=device)
    distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]
