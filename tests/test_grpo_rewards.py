"""Rewards in a real run: hostile ones, files that change while the run goes on, and tokens that nobody sees."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import BATCH, by_step, lines, write_grpo
from runs import SECONDS, Command, events, run_of

pytestmark = pytest.mark.slow


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# hostile rewards, and files that change while the run goes on

MARKER = "the-marker-that-nobody-may-see"
HOSTILE = {
    "hangs": "import time\n\ndef hangs(completions, **columns):\n    time.sleep(60)\n",
    "leaves": "import os\n\ndef leaves(completions, **columns):\n    os._exit(3)\n",
    "raises": "def raises(prompt, completion, example):\n    raise ValueError(completion)\n",
    "prints": "def prints(completions, **columns):\n    print('x' * 2**21)\n    return [1.0] * len(completions)\n",
    "lies": "def lies(completions, **columns):\n    return [float('nan'), '3', *[1.0] * (len(completions) - 2)]\n",
    "reads": "import os\n\ndef reads(prompt, completion, example):\n    return len(os.environ['HF_TOKEN'])\n",
}
CHANGING = "def changing(prompt, completion, example):\n    return {}\n"


@dataclass(frozen=True)
class Changed:
    """A run with hostile rewards, one of whose files was saved twice: what it said, and the bytes of the files."""

    directory: Path
    command: Command
    saved: tuple[bytes, ...]
    adapter: Path


@pytest.fixture(scope="module")
def changed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Changed:
    folder = tmp_path_factory.mktemp("changed")
    adapter = other_adapter(tiny_model, folder / "earlier")
    for name, text in HOSTILE.items():
        (folder / f"{name}.py").write_text(text)
    good, bad = CHANGING.format("len(completion) / 100").encode(), b"def changing(prompt:\n"
    (folder / "changing.py").write_text(CHANGING.format("0.5"))
    own = [{"file": f"{name}.py", "timeout": 0.5} for name in HOSTILE]
    own[4]["on_error"] = "skip"
    recipe = write_grpo(
        folder,
        tiny_model,
        [{"file": "changing.py"}, *own],
        {
            "adapter": {"continue_from": str(adapter)},
            "grpo": {"beta": 0.04, "max_faults_in_a_row": 10_000},
            "training": {"max_steps": 12},
        },
    )
    text = recipe.read_text().replace("  rank: 4\n", "")  # an adapter that is gone on with has its own
    recipe.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "train", str(recipe)],
        env=os.environ | {"NO_COLOR": "1", "HF_TOKEN": MARKER},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    directory = run_of(recipe)
    try:
        wait_for(lambda: steps_of(directory) >= 2, process)
        save(folder / "changing.py", good)
        wait_for(lambda: bool(told(directory, "reloaded")), process)
        seen = steps_of(directory)
        wait_for(lambda: steps_of(directory) >= seen + 2, process)
        save(folder / "changing.py", bad)
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.terminate()  # nothing, once it has ended
    assert process.returncode == 0, output
    return Changed(directory, Command(0, output, ""), (good, bad), adapter)


def other_adapter(model: Path, folder: Path) -> Path:
    """An adapter that supervised training could have left: both of its matrices are of some size."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    settings = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(base, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(folder)
    return folder


def save(file: Path, content: bytes) -> None:
    """As an editor does: the new file takes the old one's place at once."""
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(file)


def steps_of(directory: Path) -> int:
    """The steps that a run has logged, while it may be writing the next one."""
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def told(directory: Path, kind: str) -> list[dict[str, Any]]:
    path = directory / "rewards.jsonl"
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [line for each in whole if (line := json.loads(each))["kind"] == kind]


def test_a_run_outlives_its_rewards(changed: Changed) -> None:
    assert "Traceback" not in changed.command.out
    assert [event["step"] for event in events(changed.directory)] == list(range(1, 13))
    assert {line["step"]: len(rows) for rows in by_step(changed.directory).values() for line in rows} == dict.fromkeys(
        range(1, 13), BATCH
    )
    for event in events(changed.directory):
        assert event["faults"] > 0.5 and event["rewards"]["hangs"]["mean"] == 0.0
        assert event["rewards"]["lies"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("name", "sentence", "line", "row"),
    [
        ("hangs", "took longer than 0.5 s", 0, False),
        ("leaves", "ended its process with code 3", 0, False),
        ("raises", "raised `ValueError: ", 2, True),
        ("prints", "printed more than 1 MiB", 0, False),
        ("lies", "returned", 0, True),
        ("reads", "raised `KeyError: 'HF_TOKEN'`", 4, True),
    ],
)
def test_each_fault_is_told_with_its_place(changed: Changed, name: str, sentence: str, line: int, row: bool) -> None:
    faults = [each for each in told(changed.directory, "fault") if each["reward"] == name]
    assert {each["step"] for each in faults} == set(range(1, 13))
    assert all(sentence in each["fault"] for each in faults), faults[0]
    assert {each["line"] for each in faults} == {line}
    rows = {each["row"] for each in faults}
    assert rows <= set(range(BATCH)) and len(rows) > 1 if row else rows == {None}


def test_completions_say_what_failed_for_them(changed: Changed) -> None:
    for position, line in enumerate(lines(changed.directory / "completions.jsonl")):
        failed = {"hangs", "leaves", "raises", "prints", "reads"} | ({"lies"} if position % BATCH < 2 else set())
        assert set(line["faults"]) == failed
        assert line["scores"]["hangs"] == 0.0
        assert (line["scores"]["lies"] is None) == (position % BATCH < 2)


def test_a_token_is_in_no_file_of_the_run(changed: Changed) -> None:
    files = [path for path in changed.directory.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []
    assert MARKER not in changed.command.out


def test_a_reward_file_that_is_saved_counts_from_the_next_step(changed: Changed) -> None:
    (taken,) = told(changed.directory, "reloaded")
    assert (taken["reward"], taken["sha256"]) == ("changing", hashlib.sha256(changed.saved[0]).hexdigest())
    assert taken["step"] >= 3
    (refused,) = told(changed.directory, "refused")
    assert refused["sha256"] == hashlib.sha256(changed.saved[1]).hexdigest()
    assert refused["step"] > taken["step"] and "not Python" in refused["problems"][0]
    for line in lines(changed.directory / "completions.jsonl"):
        expected = 0.5 if line["step"] < taken["step"] else len(line["completion"]) / 100
        assert line["scores"]["changing"] == pytest.approx(expected)


def test_an_adapter_is_gone_on_with(changed: Changed) -> None:
    from safetensors.torch import load_file

    before = load_file(changed.adapter / "adapter_model.safetensors")
    after = load_file(changed.directory / "adapter" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    distances = [float((after[name] - before[name]).abs().max()) for name in before]
    assert 0 < max(distances) < 0.05  # it moved, and from where it was
    first = events(changed.directory)[0]
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the distance is that to the adapter, not to the base model
