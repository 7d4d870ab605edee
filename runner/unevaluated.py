"""An evaluation that a run left when it was told to stop: made up for when the run goes on, before its next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runner import checkpoint, training
from runner.plan import Plan


class Ended(Exception):
    """The evaluation that was made up for was the run's last act: no step comes after it."""


def is_left(folder: Path, plan: Plan) -> bool:
    """Whether a checkpoint's step is one to evaluate at, and no evaluation of it was logged."""
    assert plan.steps is not None
    state = json.loads((folder / checkpoint.TRAINER_STATE).read_text(encoding="utf-8"))
    step = state["global_step"]
    if not plan.steps.evaluate_every or step % plan.steps.evaluate_every:
        return False
    logged = (name for entry in state["log_history"] if entry["step"] == step for name in entry)
    return not any(name.startswith(training.HELD_OUT) for name in logged)


class MakeUp(TrainerCallback):
    """Evaluates before the first step of a run that goes on, and saves its checkpoint again with what was found.

    What follows from an evaluation follows here too: the best checkpoint, a lower rate, an early stop.
    """

    def __init__(self, trainer: Any, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer = self.trainer
        trainer._load_rng_state(str(self.folder))  # which transformers does later, and the checkpoint is to have
        control.should_log, control.should_evaluate = False, True
        trainer._maybe_log_save_evaluate(trainer._tr_loss, None, trainer.model, None, state.epoch, None, 0.0)
        control.should_evaluate = control.should_save = False
        if control.should_training_stop or state.global_step >= state.max_steps:
            raise Ended
