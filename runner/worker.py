"""The main path right of the torch line: one stage of a settled plan, in one process of possibly several.

    python -m runner.worker prepare|hold_out|rehearse|locate|train|evaluate|score|reply plan.json

The supervisor starts it with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set. A fault that a person can
put right is written to the file that TUNESMITH_FAULT names, and the process exits with the fault's own code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from runner import planfile, trackers
from runner.errors import INTERRUPTED, Interrupted, OutOfMemory, Problem, UserError, packed
from runner.plan import Plan
from runner.rewards import confinement

FAULT = "TUNESMITH_FAULT"  # environment variable: the file to write a fault to
AT_ONCE = ("hold_out", "evaluate", "score")  # stages that are stopped wherever they are
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stop:
    """Whether this process was told to stop. Signals only set a flag: the next step saves and stops.

    With `at_once`, for a stage that has nothing to save, the first one raises KeyboardInterrupt.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.requested, self.at_once = False, at_once
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if self.at_once and first:  # a second one must not end the tidying up after it
            raise KeyboardInterrupt


def main(stage: str, plan_file: str) -> int:
    """Run one stage; the exit code says how it ended."""
    confinement.protect_from_rewards()  # the environment of this process is none of a reward's business
    # before anything else is imported: a signal during the imports must not kill the process
    stop = Stop(at_once=stage in AT_ONCE)
    try:
        _run(stage, planfile.from_json(Path(plan_file).read_text(encoding="utf-8")), stop)
    except UserError as error:
        _write_fault(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _write_fault(
            OutOfMemory(
                Problem(
                    "the device ran out of memory",
                    hint="use a smaller `training.micro_batch_size` or `dataset.max_length`, "
                    "`training.gradient_checkpointing: true`, or a higher `deepspeed.zero_stage`",
                )
            )
        )
        return OutOfMemory.exit_code
    return INTERRUPTED if stop.requested and stage != "train" else 0


def _run(stage: str, plan: Plan, stop: Stop) -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if stage in ("prepare", "hold_out"):
        from runner import prepare

        prepare.run(plan, held_out_only=stage == "hold_out")
    elif stage == "rehearse":
        from runner import rehearse

        rehearse.run(plan)
    elif stage == "locate":
        from runner import model

        model.locate(plan.recipe.model)
    elif stage == "train":
        os.environ.update(trackers.environment(plan.recipe.tracking, Path(plan.directory), os.environ))

        from runner import train

        if not train.run(plan, lambda: stop.requested):
            raise Interrupted(Problem("the run was told to stop, and saved a checkpoint"))
    elif stage == "reply":
        from runner import reply

        reply.run(plan)
    else:
        from runner import evaluate

        evaluate.again(plan) if stage == "score" else evaluate.run(plan)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _write_fault(error: UserError) -> None:
    """The fault for the supervisor, which shows it as one of its own."""
    name = os.environ.get(FAULT)
    if name is None:
        from runner import errors

        print(errors.report(error), file=sys.stderr)
        return
    Path(name).write_text(json.dumps(packed(error)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
