"""The training stage: prepared rows in, published checkpoints out. Runs in every process."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import deepspeed
import torch
from transformers import set_seed

from runner import checkpoint, finite, machine, model, pickles, pulse, saving, training, unevaluated
from runner.choices import LAID_TOGETHER
from runner.events import Teller
from runner.plan import Plan
from runner.stopping import GivenUp, never
from runner.tasks import TASKS

logger = logging.getLogger(__name__)


def run(plan: Plan, stop_requested: Callable[[], bool], at_once: Callable[[], bool] = never) -> bool:
    """Train what the plan says, going on from the newest sound checkpoint. False: stopped before the end.

    `stop_requested` is asked at the end of each step, `at_once` also while held-out rows are evaluated, completions
    sampled and rewards waited for.
    """
    rank = int(os.environ.get("RANK", "0"))
    directory = Path(plan.directory)
    folder = directory / "checkpoints"
    prepared = json.loads((directory / "prepared" / "prepared.json").read_text(encoding="utf-8"))
    train_rows = training.rows(directory / "prepared" / "train")
    held_out = directory / "prepared" / "evaluation"
    evaluation_rows = training.rows(held_out) if held_out.is_dir() else None

    settings = checkpoint.settings(plan, prepared["rows"])
    if checkpoint.chosen(directory, settings) is not None:
        logger.info("training ended before, and its result is chosen")
        return True
    if plan.device == "cpu":
        torch.set_num_threads(max(machine.cores() // plan.processes_here, 1))
        # The shared-memory collectives would be compiled with g++ for minutes; gloo's are enough for an adapter.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo" if plan.device == "cpu" else "nccl", auto_mpi_discovery=False)
    set_seed(plan.recipe.training.seed)
    damaged: list[Path] = []
    resumed = checkpoint.newest(folder, settings, plan.allowed, damaged)
    if resumed:
        pickles.admit(resumed[0])
    step = resumed[1].step if resumed else 0
    tokenizer = model.tokenizer(plan.recipe.model)
    with ExitStack() as stack:
        make = TASKS[plan.recipe.task].trainer
        trainer = make(plan, tokenizer, train_rows, evaluation_rows, folder, rank, step, stack)
        # Every pass through the model looks tokens up: one that learns, one that evaluates, one that samples.
        trainer.model.get_input_embeddings().register_forward_pre_hook(lambda *_: pulse.beat())
        training.guard_trackers(trainer, plan)
        stopper = saving.Stopper(stop_requested, plan.recipe.training.checkpoints.minutes, _boundary(plan))
        probe_rows = evaluation_rows if evaluation_rows is not None else train_rows
        probe_rows = probe_rows.select(range(min(training.PROBE_ROWS, len(probe_rows))))
        _watch(trainer, plan, stopper, lambda: trainer.mean_loss(probe_rows), settings, step, damaged)
        if resumed:
            trainer.add_callback(training.OtherRate(resumed[1].settings["training"]["learning_rate"], plan))
        owed = unevaluated.MakeUp(trainer, resumed[0]) if resumed and unevaluated.is_left(resumed[0], plan) else None
        if owed:
            trainer.add_callback(owed)
        if owed or (step < trainer.args.max_steps and not (resumed and training.ran_out(resumed[0], plan))):
            trainer.told = at_once
            try:
                trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
            except unevaluated.Ended:
                pass
            except GivenUp:
                saving.save_between_steps(trainer, folder)
                stopper.stopped = True
            except Exception as error:
                if rank == 0:
                    checkpoint.discard_unwritten(folder)  # or a disk that is full stays so
                fault = finite.without_a_scale(error)
                if fault is None:
                    raise
                raise fault from error
    finished = not stopper.stopped
    if trainer.is_world_process_zero() and finished:
        checkpoint.choose(directory, settings)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return finished


def _watch(
    trainer: Any,
    plan: Plan,
    stopper: saving.Stopper,
    probe: Callable[[], float],
    settings: dict[str, Any],
    step: int,
    damaged: list[Path],
) -> None:
    """Hang on to the trainer what stops it, proves it, saves it and tells of it. `step` is where it goes on from, and
    `damaged` are the checkpoints that were passed over for it."""
    folder = Path(plan.directory) / "checkpoints"
    tell = None
    if trainer.is_world_process_zero():
        tell = Teller(Path(plan.directory) / "metrics.jsonl", step)
        for path in damaged:
            tell({"event": "damaged", "path": str(path)})
    trainer.add_callback(finite.Finite(trainer, plan, tell))
    trainer.add_callback(stopper)
    trainer.add_callback(training.FreshOptimizer(plan))
    if plan.packing.value in LAID_TOGETHER:
        trainer.add_callback(training.BeforeTraining(trainer.prove_isolation))
    trainer.add_callback(saving.WithoutBase(trainer))
    trainer.add_callback(saving.Publisher(plan, folder, settings, training.undisturbed()(probe)))
    trainer.add_callback(saving.Room(plan, folder))
    if tell is not None:
        assert plan.steps is not None
        trainer.add_callback(training.Reporter(trainer.described, plan.steps.an_epoch, tell))
        checkpoint.discard_unfinished(folder)
        if step:
            logger.info("going on from step %d of %s", step, plan.steps.total)


def _boundary(plan: Plan) -> int:
    """The steps between two at which a run can stop and go on: completions that are sampled are not kept."""
    return plan.recipe.grpo.num_iterations if plan.recipe.grpo else 1
