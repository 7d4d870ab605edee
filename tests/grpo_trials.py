"""Many small trainings in one process, or one of two: what a run of its own each would take minutes for.

    python tests/grpo_trials.py trials.json

A trial is a directory with a plan and prepared rows, and what to do there: `run` the training stage (with `stop_at`,
until so many chances to stop have gone by), or measure its `signal`. One line of JSON comes back for each.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import deepspeed
import torch
from accelerate.state import AcceleratorState, GradientState
from transformers import set_seed
from trl import GRPOTrainer

from runner import errors, model, moving, planfile, train
from runner.errors import UserError
from runner.tasks import grpo

# DeepSpeed keeps the groups that it made, so the processes stay together from one trial to the next.
torch.distributed.destroy_process_group = lambda: None


def fresh() -> None:
    """As if nothing had been trained in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def ran(directory: Path, stop_at: int | None) -> dict[str, Any]:
    """The training stage from end to end, or until it is told to stop; what it raised for a person."""
    plan = planfile.from_json((directory / "plan.json").read_text(encoding="utf-8"))
    chances = count(1)
    try:
        finished = train.run(plan, lambda: next(chances) == stop_at)
    except UserError as error:
        return {"fault": errors.report(error), "exit_code": error.exit_code}
    return {"finished": finished}


def signal(directory: Path) -> dict[str, Any]:
    """Two steps, and then the gradients of a micro-batch with and without the rows that move nothing."""
    plan = planfile.from_json((directory / "plan.json").read_text(encoding="utf-8"))
    assert plan.recipe.grpo is not None
    torch.set_num_threads(1)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    set_seed(plan.recipe.training.seed)
    rows = datasets.load_from_disk(str(directory / "prepared" / "train"))
    tokenizer = model.tokenizer(plan.recipe.model)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        trainer = grpo.trainer(plan, tokenizer, rows, None, directory / "checkpoints", 0, 0, stack)
        trainer.train()
        found["losses"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        micro = trainer._buffered_inputs[0]
        size = len(micro["advantages"])
        lengths = torch.arange(1, size + 1).clamp(max=micro["completion_mask"].shape[1])[:, None]
        micro["completion_mask"] = (torch.arange(micro["completion_mask"].shape[1])[None] < lengths).long()
        for name, still in (("some", [0, size - 1]), ("none", []), ("all", list(range(size)))):
            inputs = {**micro, "advantages": torch.linspace(-1, 1, size) + 0.1}
            inputs["advantages"][still] = 0.0
            kept, _ = moving.rows(inputs, trainer)
            whole = gradients(trainer, lambda given=inputs: GRPOTrainer._compute_loss(trainer, trainer.model, given))
            ours = gradients(trainer, lambda given=inputs: trainer._compute_loss(trainer.model, given))
            found[name] = {
                "kept": len(kept["advantages"]),
                "largest": max(float(each.abs().max()) for each in whole),
                "apart": max(float((one - other).abs().max()) for one, other in zip(whole, ours, strict=True)),
            }
        found["rows"] = size
    return found


def gradients(trainer: Any, loss: Any) -> list[torch.Tensor]:
    """The gradients of the adapter's parameters for a loss."""
    learned = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss(), learned, allow_unused=False))


def main(file: str) -> None:
    for trial in json.loads(Path(file).read_text(encoding="utf-8")):
        directory = Path(trial["directory"])
        found = ran(directory, trial["stop_at"]) if trial["what"] == "run" else signal(directory)
        print(json.dumps(found), flush=True)
        fresh()


if __name__ == "__main__":
    main(sys.argv[1])
