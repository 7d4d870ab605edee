"""A run that is hit again and again: killed, stopped, its checkpoints damaged. It ends in the adapter of an undisturbed
one, and leaves no process behind.

One of each is tried here, and as many as `TUNESMITH_BLOWS` says with `make test-chaos`; `TUNESMITH_SEED` chooses
other moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runs import SECONDS, run_of, write_recipe

from runner import checkpoint

pytestmark = pytest.mark.slow

BLOWS = int(os.environ.get("TUNESMITH_BLOWS", "1"))
SEED = int(os.environ.get("TUNESMITH_SEED", "0"))
CHANGES: dict[str, Any] = {
    "adapter": {"dropout": 0.05},
    "training": {"max_steps": 60, "micro_batch_size": 2, "checkpoints": {"every": 4, "keep": 3}},
    "deepspeed": {"processes": 2},
}


def begin(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("tunesmith")), "train", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, output


def of_run(recipe: Path) -> list[int]:
    """The processes that work for a run, by what they were started with."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(run_of(recipe)) in command:
            found.append(int(folder.name))
    return found


def adapter(recipe: Path) -> bytes:
    return (run_of(recipe) / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, float]:
    """The adapter of a run that nobody disturbs, and the seconds that it takes."""
    recipe = write_recipe(tmp_path_factory.mktemp("whole"), tiny_model, CHANGES)
    began = time.monotonic()
    code, output = end(begin(recipe))
    assert code == 0, output
    return adapter(recipe), time.monotonic() - began


def damage(folder: Path, chance: random.Random) -> None:
    """Do something to a file of the newest checkpoint, as a disk might."""
    published = checkpoint.all_of(folder)
    if len(published) < 2:  # the last sound one is not to be had back
        return
    files = sorted(path for path in published[-1].rglob("*") if path.is_file() and path.stat().st_size)
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    match chance.choice(("flip", "cut", "delete")):
        case "flip":
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: chance.randrange(len(content))])
        case _:
            path.unlink()


def strike(process: subprocess.Popen[str], recipe: Path, whom: str) -> None:
    """Kill the supervisor, one of its workers, or all of them."""
    workers = of_run(recipe)
    victims = {"supervisor": [process.pid], "worker": workers[:1], "all": [process.pid, *workers]}[whom]
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def gone(recipe: Path) -> bool:
    """Whether no process of a run is left, after a while."""
    deadline = time.monotonic() + 60
    while of_run(recipe):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("number", range(BLOWS))
def test_a_run_is_killed_and_gone_on_with(
    tiny_model: Path, tmp_path: Path, whole: tuple[bytes, float], number: int
) -> None:
    chance = random.Random(f"{SEED}/kill/{number}")
    wanted, seconds = whole
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    for _ in range(chance.choice((1, 1, 2))):
        process = begin(recipe)
        time.sleep(chance.uniform(0.1, seconds))
        strike(process, recipe, chance.choice(("supervisor", "worker", "all")))
        _, output = end(process)
        assert "Traceback" not in output, output
        assert gone(recipe)
        if chance.random() < 0.5:
            damage(run_of(recipe) / "checkpoints", chance)
    code, output = end(begin(recipe))
    assert code == 0, output
    assert adapter(recipe) == wanted


@pytest.mark.parametrize("number", range(BLOWS))
def test_a_run_is_stopped_and_gone_on_with(
    tiny_model: Path, tmp_path: Path, whole: tuple[bytes, float], number: int
) -> None:
    chance = random.Random(f"{SEED}/stop/{number}")
    wanted, seconds = whole
    recipe = write_recipe(tmp_path, tiny_model, CHANGES)
    process = begin(recipe)
    time.sleep(chance.uniform(1.5, seconds))
    process.send_signal(chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)))
    code, output = end(process)
    assert code in (75, 0), output  # 0 where it came behind the end
    assert "Traceback" not in output and gone(recipe)
    code, output = end(begin(recipe))
    assert code == 0, output
    assert adapter(recipe) == wanted
