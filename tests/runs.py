"""Real runs that tests share: the command line in a process of its own, on the small real model or a tiny one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import HubServer
from small_model import MODEL

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "recipes" / "demo"
SECONDS = 900  # for one command, on two busy cores


@dataclass(frozen=True)
class Command:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def tunesmith(*words: object, environment: Mapping[str, str] | None = None) -> Command:
    """Run the command line to its end."""
    ended = subprocess.run(
        [sys.executable, "-m", "runner.cli", *map(str, words)],
        env=os.environ | {"NO_COLOR": "1"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Command(ended.returncode, ended.stdout, ended.stderr)


def write_recipe(folder: Path, model: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """A short recipe on the demo's data, with changes laid over its blocks."""
    recipe: dict[str, Any] = {
        "task": "sft",
        "model": {"name": str(model)},
        "dataset": {"train": str(DEMO / "train.jsonl"), "limit": 16},
        "training": {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3},
        "evaluation": {"samples": 0, "metrics": ["loss"]},
        "output": {"directory": str(folder / "outputs")},
    }
    for block, values in (changes or {}).items():
        recipe[block] = {**recipe.get(block, {}), **values}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def tried(folder: Path, wanted: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What runs end in, by their names: one after the other, in processes with all imported (`trials.py`)."""
    command = [sys.executable, str(ROOT / "tests" / "trials.py"), str(folder)]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, input=json.dumps(wanted), env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return {each.pop("name"): each for each in told}


def run_of(recipe: Path) -> Path:
    """The directory that a recipe's run writes to."""
    return recipe.parent / "outputs" / "recipe"


def events(directory: Path, kind: str = "step") -> list[dict[str, Any]]:
    """What a run logged, of one kind."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def workers_of(supervisor: int) -> list[int]:
    """The process ids of a supervisor's workers, and not of what writes their logs."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(each) for each in children if b"runner.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


def write_llama(folder: Path, tokenizer: Any, **sizes: int) -> Path:
    """A Llama of these sizes with random weights, the same ones each time, and the real tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two small layers: trains in no time."""
    return write_llama(
        tmp_path_factory.mktemp("tiny"),
        tokenizer,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub that outlives a test, for the runs that tests share."""
    server = HubServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> tuple[Path, Command]:
    """The recipe of a finished run of the real model that was pushed to `hub`, and how its command ended."""
    held_out = {"evaluation": str(DEMO / "evaluation.jsonl")}
    recipe = write_recipe(
        tmp_path_factory.mktemp("finished"),
        MODEL,
        {
            "model": {"dtype": "float32"},  # its loss can be compared to the last digits
            "dataset": held_out,
            "training": {"evaluate_every": 2, "checkpoints": {"every": 1}},
            "evaluation": {
                "metrics": ["loss", "perplexity", "exact_match", "json_valid", "json_match"],
                "samples": 2,
                "max_new_tokens": 4,
            },
            "output": {"hub": {"repository": "ann/demo"}},
            "tracking": {"tensorboard": True},
        },
    )
    return recipe, tunesmith("train", recipe, environment=hub.environment)
