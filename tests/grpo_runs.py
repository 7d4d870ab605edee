"""Real runs of `task: grpo` that tests share: rows to ask, reward files, and trials on rows that a run prepared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from runs import SECONDS

from runner import architecture, machine, plan, planfile, recipe
from runner.reading import rewards

TRIALS = Path(__file__).parent / "grpo_trials.py"
GENERATIONS, BATCH = 4, 8

# The first is in the manner of TRL's documentation, the second in that of Predibase's: neither knows of the other.
OWN_REWARDS = '''
import re


def length_reward(completions, numbers, **kwargs):
    """Longer completions get a higher reward."""
    contents = [completion[0]["content"] for completion in completions]
    assert all(isinstance(each, list) for each in numbers)
    return [float(len(content)) / 100 for content in contents]


def letters_reward(prompt: str, completion: str, example: dict[str, str]) -> float:
    import ast

    numbers = ast.literal_eval(example["numbers"])
    assert example["name"] in prompt and "assistant" in prompt
    print("numbers", numbers)
    return len(re.findall("[a-z]", completion)) / (10 * len(numbers))
'''


def write_rows(path: Path, count: int, turns: bool) -> None:
    """Prompts as lists of turns or as text, with columns of several types."""
    lines = []
    for number in range(count):
        text = f"Say something to guest {number} in a few words."
        prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] if turns else text
        row = {"prompt": prompt, "name": f"guest {number}", "number": number, "numbers": [number, 1.5]}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def write_grpo(
    folder: Path,
    model: Path,
    own_rewards: Sequence[Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    turns: bool = False,
) -> Path:
    """A short recipe of `task: grpo` on rows of its own, with changes laid over its blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", 12, turns)
    write_rows(folder / "evaluation.jsonl", 3, turns)
    written: dict[str, Any] = {
        "task": "grpo",
        "model": {"name": str(model), "dtype": "float32"},
        "dataset": {"train": "train.jsonl"},
        "adapter": {"rank": 4},
        "grpo": {"num_generations": GENERATIONS, "max_completion_length": 6},
        "rewards": [dict(reward) for reward in own_rewards],
        "training": {"max_steps": 4, "batch_size": BATCH, "learning_rate": 1e-3},
        "output": {"directory": "outputs"},
    }
    for block, values in (changes or {}).items():
        written[block] = {**written.get(block, {}), **values}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def by_step(directory: Path) -> dict[int, list[dict[str, Any]]]:
    """The sampled completions of a run, by step."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines(directory / "completions.jsonl"):
        found[line["step"]].append(line)
    return dict(found)


def reward(file: Path, function: str, **settings: Any) -> recipe.Reward:
    """A reward as a recipe settles one."""
    values: dict[str, Any] = {
        "use": None, "name": function, "file": str(file), "function": function, "weight": 1.0, "timeout": 10.0,
        "on_error": "zero", "memory": 2.0, "options": {}, "strings": False, "secrets": [], "requirements": None,
        "reload": True, **settings,
    }  # fmt: skip
    return rewards.settle([values])[0]


def again(reference: Path, folder: Path, own_rewards: Sequence[recipe.Reward] = (), **changes: Any) -> Path:
    """A directory with the rows that another run prepared, and its plan with other settings of these sections."""
    settled = planfile.from_json((reference / "plan.json").read_text(encoding="utf-8"))
    changed = settled.recipe
    for section, values in changes.items():
        changed = replace(changed, **{section: replace(getattr(changed, section), **values)})
    changed = replace(changed, output=replace(changed.output, directory=str(folder)))
    if own_rewards:
        changed = replace(changed, rewards=tuple(own_rewards))
    made = plan.make(changed, machine.here(), architecture.read(changed.model.name), settled.rows)
    directory = Path(made.directory)
    shutil.copytree(reference / "prepared", directory / "prepared")
    (directory / "plan.json").write_text(planfile.to_json(made), encoding="utf-8")
    return directory


def tried(folder: Path, trials: Sequence[Mapping[str, Any]], processes: int = 1) -> list[dict[str, Any]]:
    """What each trial found (see `grpo_trials.py`), all of them one after the other in the same process or processes.

    A trial has a `directory`, and by default is to `run`.
    """
    file = folder / "trials.json"
    file.write_text(json.dumps([{"what": "run", "stop_at": None, **trial} for trial in trials], default=str))
    port = free_port()
    started = []
    for rank in range(processes):
        with (folder / f"log-{rank}").open("w") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, str(TRIALS), str(file)],
                    env=environment(port, rank, processes),
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
    outputs = []
    try:
        for rank, process in enumerate(started):
            outputs.append(process.communicate(timeout=SECONDS)[0])
            assert process.returncode == 0, (folder / f"log-{rank}").read_text()[-4000:]
    finally:
        for process in started:
            process.kill()
    return [json.loads(line) for line in outputs[0].splitlines() if line.startswith('{"')]


def stopped(directory: Path) -> int:
    """The exit code of the training stage in a process of its own that gets SIGTERM after its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "runner.worker", "train", str(directory / "plan.json")],
        env=environment(free_port()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not list((directory / "checkpoints").glob("step-*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=SECONDS)
    finally:
        process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(port: int, rank: int = 0, processes: int = 1) -> dict[str, str]:
    """What a worker is started with."""
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    own |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
    return os.environ | own | {"OMP_NUM_THREADS": "1"}
