"""Trains one recipe after the other, each whole and mostly in two halves, in processes that begin with all imported.

    python trials.py FOLDER < recipes.json

Each recipe is {"name", "file", "once", "changes", "during"}. `once` are overrides for a run that is not divided. A
change is an override for the second half alone, and the first half ends after two steps, or during a function: (its
name, the how-manieth time that it runs, how often it has asked by then whether to give up). For each recipe a line of
JSON comes out, with the digests of what was trained.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from runner import changes, checkpoint, machine, planfile, prepare, supervise, train, workers
from runner.choices import Rows
from runner.plan import Plan
from runner.reading import check, overrides, source

HALF = 3  # how often a run is asked before it is stopped: at the end of a step, and behind a save


def main(folder: Path) -> None:
    for trial in json.load(sys.stdin):
        print(json.dumps({"name": trial["name"], **tried(folder, trial)}), flush=True)


def tried(folder: Path, trial: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that nobody stopped and one in two halves end in."""
    if "once" in trial:
        return undivided(trial, folder / trial["name"])
    whole, halves = folder / trial["name"] / "whole", folder / trial["name"] / "halves"
    if fault := apart(lambda: prepare.run(settled(trial, whole))):
        return {"fault": fault}
    shutil.copytree(whole, halves)
    ready = settled(trial, whole, prepared=True)
    second = settled(trial, halves, prepared=True, changed=trial.get("changes", ()))
    stopped: list[str] = []
    first = (never, During(*trial["during"])) if "during" in trial else (After(HALF), never)
    parts = [
        (ready, never, never),
        (replace(ready, directory=str(halves)), *first),
        (second, never, never),
    ]
    for plan, stop, at_once in parts:
        (Path(plan.directory) / "plan.json").write_text(planfile.to_json(plan), encoding="utf-8")
        if fault := apart(lambda: train.run(plan, stop, at_once)):  # noqa: B023
            return {"fault": fault}
        stopped.append(checkpoint.all_of(Path(plan.directory) / "checkpoints")[-1].name)
    return {"whole": found(whole), "halves": found(halves), "stopped": stopped[1]}


def undivided(trial: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """What a run with some overrides ends in."""
    for stage, prepared in ((prepare.run, False), (train.run, True)):
        plan = settled(trial, directory, prepared, trial["once"])
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "plan.json").write_text(planfile.to_json(plan), encoding="utf-8")
        act = functools.partial(stage, plan, never) if prepared else functools.partial(stage, plan)
        if fault := apart(act):
            return {"fault": fault}
    return found(directory)


def never() -> bool:
    return False


class After:
    """Says that a run is to stop once it has been asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


class During:
    """Says that a run is to stop while a function runs for the so-manieth time, when that has asked so often."""

    def __init__(self, function: str, time: int, asks: int) -> None:
        self.function, self.time, self.asks = function, time, asks
        self.running: FrameType | None = None
        self.said = False

    def __call__(self) -> bool:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != self.function:
            frame = frame.f_back
        if frame is not None and frame is not self.running:
            self.running, self.time = frame, self.time - 1
        if frame is not None and self.time == 0:
            self.asks -= 1
        self.said = self.said or self.asks <= 0
        return self.said


def settled(trial: Mapping[str, Any], directory: Path, prepared: bool = False, changed: tuple[str, ...] = ()) -> Plan:
    written = overrides.apply(source.read(trial["file"]), list(changed))
    recipe = check.settle(written, trial["file"])
    rows = None
    if prepared:
        facts = json.loads((directory / "prepared" / "prepared.json").read_text(encoding="utf-8"))
        longest = max(facts["train"]["longest"], facts["evaluation"]["longest"])
        rows = Rows(facts["train"]["rows"], facts["evaluation"]["rows"], longest, tuple(facts["lengths"]))
    plan = supervise.settle(recipe, written, machine.here(), rows)
    return replace(plan, directory=str(directory), allowed=changes.MAY_CHANGE if changed else ())


def apart(act: Callable[[], object]) -> str | None:
    """Do something in a process of its own; what went wrong in it, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
        os.environ.update(MASTER_PORT=str(workers.free_port()), DS_ACCELERATOR="cpu", CUDA_VISIBLE_DEVICES="")
        try:
            act()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        fault = pipe.read()
    _, status = os.waitpid(child, 0)
    return fault or (f"ended with {status}" if status else None)


def found(directory: Path) -> dict[str, Any]:
    """The adapter's digest, and what was logged of each step and each evaluation."""
    newest = checkpoint.all_of(directory / "checkpoints")[-1]
    (adapter,) = newest.glob("*model.safetensors")
    logged = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [[event["step"], event["loss"], event["learning_rate"]] for event in logged if event["event"] == "step"]
    evaluations = [event for event in logged if event["event"] == "evaluation"]
    result = json.loads((directory / checkpoint.CHOSEN).read_text()) if (directory / checkpoint.CHOSEN).exists() else {}
    return {
        "adapter": hashlib.sha256(adapter.read_bytes()).hexdigest(),
        "step": newest.name,
        "steps": steps,
        "evaluations": evaluations,
        "result": result.get("step"),
    }


if __name__ == "__main__":
    import datasets  # noqa: F401  # everything, before the first process is made
    import deepspeed  # noqa: F401
    import trl  # noqa: F401
    from trl import GRPOTrainer, SFTTrainer  # noqa: F401

    from runner.tasks import TASKS  # noqa: F401

    main(Path(sys.argv[1]))
