"""Containers of the image that is tested: `IMAGE`, run by `ENGINE`, which image/test.sh sets."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SECONDS = 1500  # for one container, on two busy cores
ENGINE, IMAGE = os.environ.get("ENGINE", ""), os.environ.get("IMAGE", "")
NOBODY = 12345  # a user that no image has an entry for
STRICT = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--shm-size=64m", f"--user={NOBODY}"]
# Podman softens these unless it is told not to; docker never does.
STRICT += ["--read-only-tmpfs=false", "--passwd=false"] if ENGINE == "podman" else []
ALONE = ["--network=none"]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder of the host that has what a run mounts: a recipe, data, the model, and a folder for outputs."""

    folder: Path
    mounts: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.folder / "outputs" / "recipe"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "run.json").read_text())
        return found


def engine(*words: object, seconds: float = SECONDS) -> Ended:
    done = subprocess.run([ENGINE, *map(str, words)], capture_output=True, text=True, timeout=seconds, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def run(options: Sequence[str], *words: object) -> Ended:
    """A container of the image that is waited for and removed."""
    return engine("run", "--rm", *options, IMAGE, *words)


def place(folder: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Place:
    """The demo, shortened, laid out as the README has it."""
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    del recipe["name"]
    recipe["model"]["name"] = f"models/{MODEL}"
    recipe["dataset"] |= {name: f"data/{name}.jsonl" for name in ("train", "evaluation")} | {"limit": 8}
    recipe["training"] |= {"max_steps": 4, "batch_size": 2, "checkpoints": {"every": 1}}
    del recipe["training"]["epochs"]
    recipe["evaluation"] |= {"samples": 2, "max_new_tokens": 8}
    recipe["output"]["directory"] = "outputs"
    for block, values in (changes or {}).items():
        recipe[block] = {**recipe.get(block, {}), **values}
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "outputs").mkdir(exist_ok=True)
    (folder / "outputs").chmod(0o777)
    return Place(
        folder,
        [
            f"-v={folder}/recipe.yaml:/recipe.yaml:ro",
            f"-v={ROOT}/recipes/demo:/data:ro",
            f"-v={ROOT}/models:/models:ro",
            f"-v={folder}/outputs:/outputs",
        ],
    )


class Started:
    """A container in the background, removed at the end of the `with`."""

    def __init__(self, options: Sequence[str], *words: object) -> None:
        done = engine("run", "--detach", *options, IMAGE, *words)
        assert done.code == 0, done.err
        self.name = done.out.strip()

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        engine("rm", "--force", "--volumes", self.name)

    def process(self) -> int:
        """The first process, by its number on the host."""
        return int(engine("inspect", "--format", "{{.State.Pid}}", self.name).out)

    def says(self) -> str:
        done = engine("logs", self.name)
        return done.out + done.err

    def wait(self) -> int:
        return int(engine("wait", self.name).out)


def eventually(what: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What a function gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing within {seconds:g} s")


def listens(process: int) -> bool:
    """Whether a process of the host has a handler of its own for SIGTERM."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> 14 & 1)
