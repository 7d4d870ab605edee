"""The main path right of the torch line: one stage of a settled plan, in one process of possibly several.

    python -m runner.worker prepare|hold_out|rehearse|locate|train|evaluate|score|reply plan.json

The supervisor starts it with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set. A fault that a person can
put right is written to the file that TUNESMITH_FAULT names, and the process exits with the fault's own code.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from runner import planfile, pulse, secrets, stopping, trackers
from runner.errors import INTERRUPTED, Interrupted, OutOfMemory, Problem, UserError, packed
from runner.plan import Plan
from runner.rewards import confinement

FAULT = "TUNESMITH_FAULT"  # environment variable: the file to write a fault to
SECONDS_TO_LEAVE = 3.0  # before SIGALRM ends a process that was to end by itself


class Stop:
    """Whether this process was told to stop. While there is nothing to save, the first signal raises KeyboardInterrupt.

    A stage that has something to save asks `requested`, and from then on a signal only sets that.
    """

    def __init__(self) -> None:
        self._received = self._asked = False
        for number in stopping.SIGNALS:
            signal.signal(number, self._note)

    def requested(self) -> bool:
        self._asked = True
        return self._received

    @property
    def leaving(self) -> bool:
        """Whether a signal has ended the stage."""
        return self._received and not self._asked

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self._received = not self._received, True
        if first and not self._asked:  # a second one must not end the tidying up after it
            # An import may swallow the exception, and a call into a library may keep it waiting.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_LEAVE)
            raise KeyboardInterrupt


def main(stage: str, plan_file: str) -> int:
    """Run one stage; the exit code says how it ended."""
    confinement.protect_from_rewards()  # the environment of this process is none of a reward's business
    # before anything else is imported: a signal during the imports must not kill the process
    stop = Stop()
    faulthandler.enable()
    faulthandler.register(pulse.SHOW_STACKS, all_threads=True)
    try:
        _run(stage, planfile.from_json(Path(plan_file).read_text(encoding="utf-8")), stop)
    except BaseException as error:
        if stop.leaving:  # whatever a library has made of the KeyboardInterrupt
            return INTERRUPTED
        return _reported(error)
    return 0


def _reported(error: BaseException) -> int:
    """Write a fault that a person can put right; the exit code. Raises what is no such fault."""
    if not isinstance(error, UserError):
        if not (isinstance(error, MemoryError | RuntimeError) and _is_out_of_memory(error)):
            raise error
        hint = "use a smaller `training.micro_batch_size` or `dataset.max_length`, "
        hint += "`training.gradient_checkpointing: true`, or a higher `deepspeed.zero_stage`"
        error = OutOfMemory(Problem("the device ran out of memory", hint=hint))
    _write_fault(error)
    return error.exit_code


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

        if not train.run(plan, stop.requested, stop.requested):
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
    Path(name).write_text(json.dumps(secrets.cleaned(packed(error), os.environ)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
