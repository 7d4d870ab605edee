"""A trained adapter asked beside its base model: the same answers as transformers gives, from wherever it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from runs import Command, run_of, tunesmith
from small_model import MODEL

from runner import model, planfile

pytestmark = pytest.mark.slow

PROMPT = "List the days of the week."  # answered alike in float32 and bfloat16, and otherwise by the base model
SHORT = ("--max-new-tokens", 6)


@pytest.fixture(scope="module")
def run(finished: tuple[Path, Command]) -> Path:
    assert finished[1].code == 0, finished[1].err
    return run_of(finished[0])


def answers(*words: object, environment: dict[str, str] | None = None) -> dict[str, Any]:
    command = tunesmith("generate", *words, *SHORT, "--json", environment=environment)
    assert command.code == 0, command.err
    found: dict[str, Any] = json.loads(command.out)
    return found


@pytest.fixture(scope="module")
def expected(run: Path) -> dict[str, str]:
    """What transformers and PEFT say, with nothing of ours but the place of the base model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = planfile.from_json((run / "plan.json").read_text(encoding="utf-8")).recipe
    base = AutoModelForCausalLM.from_pretrained(model.locate(recipe.model), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(run / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(run / "adapter")
    turns = [{"role": "user", "content": PROMPT}]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    def answer() -> str:
        ids = adapted.generate(**asked, max_new_tokens=6, do_sample=False)[0, asked["input_ids"].shape[1] :]
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    with adapted.disable_adapter():
        of_base = answer()
    return {"base": of_base, "adapter": answer()}


def test_both_models_answer_as_transformers_has_them_answer(run: Path, expected: dict[str, str]) -> None:
    found = answers(run, PROMPT)
    assert {name: answer["text"] for name, answer in found.items()} == expected
    assert all(answer["tokens"] == 6 and answer["cut"] and answer["seconds"] > 0 for answer in found.values())


def test_a_person_sees_both_one_below_the_other(run: Path, expected: dict[str, str]) -> None:
    command = tunesmith("generate", run, PROMPT, *SHORT)
    lines = command.out.splitlines()
    assert lines[0].startswith("loading ") and lines[1].startswith("base  (6 tokens, ")
    assert lines[1].endswith(", cut)") and "adapter  (6 tokens, " in command.out
    assert command.out.index(expected["base"].strip()) < command.out.index("adapter  (")


def test_an_adapter_is_asked_by_its_hub_id(run: Path, hub: HubServer, expected: dict[str, str], tmp_path: Path) -> None:
    environment = {**hub.environment, "HF_HOME": str(tmp_path)}
    found = answers("ann/demo", PROMPT, "--base", MODEL, "--adapter-only", environment=environment)
    assert found["adapter"]["text"] == expected["adapter"]


def test_a_conversation_goes_on_for_each_model_by_itself(run: Path) -> None:
    lines = f"{PROMPT}\nAnother one?\n/new\n\n{PROMPT}\n/exit\n"
    ended = subprocess.run(
        [sys.executable, "-m", "runner.cli", "generate", str(run), "--chat", *map(str, SHORT)],
        input=lines, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    first, _, third = ended.stdout.split("adapter  (")[1:]
    assert ended.stdout.count("base  (") == 3
    assert first.split("\n")[1] == third.split("\n")[1], "a new conversation begins as the first one did"


def test_a_temperature_draws(run: Path, expected: dict[str, str]) -> None:
    found = answers(run / "adapter", PROMPT, "--base", MODEL, "--adapter-only", "--temperature", 5, "--seed", 1)
    assert found["adapter"]["text"] != expected["adapter"] and list(found) == ["adapter"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["ann/none", "Hi"], "the Hub has no adapter `ann/none` that this token may read", "check its spelling"),
        ([".", "Hi"], "`.` is neither a run nor an adapter", "name a run's directory"),
        ([".", ""], "there is no prompt", '`tunesmith generate . "…"`, or `--chat` to be asked for it'),
        ([".", "Hi", "--chat"], "`--chat` asks for each prompt on the terminal", "leave one of the two out"),
        ([".", "Hi", "--temperature", "-1"], "`--temperature -1` is out of range", None),
        ([".", "Hi", "--max-new-tokens", "0"], "`--max-new-tokens 0` is out of range", None),
        (["unfinished", "Hi"], "the run in `unfinished` has no adapter yet", "give the command of its run again"),
    ],
)
def test_what_cannot_be_asked(hub: HubServer, here: Path, words: list[str], message: str, hint: str | None) -> None:
    (here / "unfinished").mkdir()
    (here / "unfinished" / "plan.json").write_text("{}")
    command = tunesmith("generate", *words, environment={**hub.environment, "HF_HOME": str(here)})
    assert command.code == 2 and command.err.splitlines()[0] == f"error: {message}", command.err
    assert hint is None or f"hint: {hint}" in command.err


def test_a_base_model_that_is_out_of_reach(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "owner/tiny"}')
    command = tunesmith("generate", "mine", "Hi", environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(here)})
    assert command.code == 1 and command.err.splitlines() == [
        "error: the model `owner/tiny` could not be fetched from the Hub",
        "hint: try again, or without a network name a directory that holds the model with `--base`",
    ]
