"""When a run saves and stops, and what is published of it: callbacks around transformers' own checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runner import checkpoint, training
from runner.checkpoint import Manifest
from runner.plan import Plan


class Publisher(TrainerCallback):
    """Turns each folder that transformers has written into a published checkpoint, on the first process."""

    def __init__(self, plan: Plan, folder: Path, settings: dict[str, Any], probe: Callable[[], float]) -> None:
        self.plan, self.folder, self.settings, self.probe = plan, folder, settings, probe

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_save = True  # the best value is worth nothing without the weights that reached it

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        loss = self.probe()
        _wait_for_all()
        if state.is_world_process_zero:
            written = self.folder / f"checkpoint-{state.global_step}"
            checkpoint.name_base(written, self.plan)
            manifest = Manifest(state.global_step, loss, self.settings, checkpoint.hashes(written))
            checkpoint.publish(written, self.folder / f"step-{state.global_step}", manifest)
            checkpoint.keep(self.folder, self.plan.recipe.training.checkpoints.keep, state.best_global_step)
        _wait_for_all()


class Stopper(TrainerCallback):
    """Saves and stops at the next step once any process was told to, and saves after so many minutes.

    Only at multiples of `boundary` steps, from which a run can go on exactly.
    """

    def __init__(self, stop_requested: Callable[[], bool], minutes: float | None, boundary: int = 1) -> None:
        self.stop_requested, self.minutes, self.boundary = stop_requested, minutes, boundary
        self.last_saved = time.monotonic()
        self.stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.boundary:
            return
        due = self.minutes is not None and time.monotonic() - self.last_saved >= self.minutes * 60
        stop, save = training.any_of((self.stop_requested(), due), args.device)
        if save:
            control.should_save = True
        if stop and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
            self.stopped = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last_saved = time.monotonic()
        # What came during an evaluation or a save need not wait for one step more.
        if not state.global_step % self.boundary and state.global_step < state.max_steps:
            (stop,) = training.any_of((self.stop_requested(),), args.device)
            if stop:
                control.should_training_stop = self.stopped = True


def save_between_steps(trainer: Any, folder: Path) -> None:
    """Save and publish a run that has left its step before anything was learned in it, unless that is there."""
    step = trainer.state.global_step
    if step and not (folder / f"step-{step}").exists():
        if trainer.is_world_process_zero():
            checkpoint.make_room(folder, trainer.plan.checkpoint or 0, trainer.state.best_global_step)
        trainer._save_checkpoint(trainer.model, None)
        trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)


class Room(TrainerCallback):
    """Makes room for each checkpoint before it is written, on the first process. Comes behind all that ask for one."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_save and state.is_world_process_zero:
            checkpoint.make_room(self.folder, self.plan.checkpoint or 0, state.best_global_step)

    on_evaluate = on_step_end


class WithoutBase(TrainerCallback):
    """Keeps the frozen head out of DeepSpeed's checkpoints where it is tied to the embeddings.

    DeepSpeed leaves frozen parameters out by their names, and knows a tied one by the first of its two.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        engine = self.trainer.deepspeed
        whole = engine.module_state_dict
        parameters = engine.module.named_parameters(remove_duplicate=False)
        frozen = {name for name, each in parameters if not each.requires_grad}

        def without(*given: Any, exclude_frozen_parameters: bool = False, **named: Any) -> dict[str, Any]:
            found: dict[str, Any] = whole(*given, exclude_frozen_parameters=exclude_frozen_parameters, **named)
            left_out = frozen if exclude_frozen_parameters else ()
            return {name: value for name, value in found.items() if name not in left_out}

        engine.module_state_dict = without


def _wait_for_all() -> None:
    if distributed.is_initialized():
        distributed.barrier()
