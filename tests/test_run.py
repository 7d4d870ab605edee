"""A whole run of the real model: what it leaves behind, that it can be read, and that running again does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from runs import Command, events, run_of, tunesmith

pytestmark = pytest.mark.slow

Finished = tuple[Path, Command]

# What anybody does who has transformers and peft and nothing of ours.
PLAIN_PEFT = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, rows = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
total = count = 0
for line in open(rows):
    row = json.loads(line)
    user, answer = {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}
    def ids(messages, **named):
        text = tokenizer.apply_chat_template(messages, tokenize=False, **named)
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    whole, prompt = ids([user, answer]), ids([user], add_generation_prompt=True)
    labels = [-100] * len(prompt) + whole[len(prompt):-1] + [-100]  # a newline follows the end of the turn
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([whole]), labels=torch.tensor([labels])).loss.item()
    learned = sum(label != -100 for label in labels)
    total, count = total + loss * learned, count + learned
print(total / count)
"""


def test_it_ends_well(finished: Finished) -> None:
    recipe, command = finished
    assert command.code == 0, command.out + command.err
    assert "Traceback" not in command.out + command.err
    assert "held-out loss" in command.out and "base model" in command.out


def test_it_begins_with_where_it_runs(finished: Finished) -> None:
    lines = [line.partition(": ")[0] for line in finished[1].out.splitlines()]
    assert lines[lines.index("machine") :][:3] == ["machine", "memory", "packages"]


def test_it_leaves_what_the_design_names(finished: Finished) -> None:
    directory = run_of(finished[0])
    for name in (
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/chat_template.jinja",
        "adapter/tokenizer.json",
        "adapter/README.md",
        "run.json",
        "recipe.yaml",
        "plan.json",
        "metrics.jsonl",
        "ledger.json",
        "rejects.jsonl",
        "evaluation.json",
        "samples.jsonl",
        "losses.jsonl",
        "report.html",
    ):
        assert (directory / name).is_file(), name
    assert ": trained</title>" in (directory / "report.html").read_text()
    assert (directory / "recipe.yaml").read_text() == finished[0].read_text()
    state = json.loads((directory / "run.json").read_text())
    assert (state["status"], state["exit_code"]) == ("done", 0)
    assert set(state["timings"]) == {"prepare", "train", "evaluate"}
    assert state["versions"]["torch"] and state["data"]


def test_the_adapter_is_better_than_the_base_model(finished: Finished) -> None:
    metrics = json.loads((run_of(finished[0]) / "evaluation.json").read_text())["metrics"]
    assert metrics["loss"]["adapter"] < 0.8 * metrics["loss"]["base"]
    assert set(metrics) == {"loss", "perplexity", "exact_match", "json_valid", "json_match"}


def test_every_step_is_logged_once(finished: Finished) -> None:
    steps = events(run_of(finished[0]))
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert all(event["learned_tokens"] > 0 and event["seconds"] > 0 for event in steps)
    assert [event["step"] for event in events(run_of(finished[0]), "evaluation")] == [2, 4]


def test_the_ledger_adds_up(finished: Finished) -> None:
    ledger = json.loads((run_of(finished[0]) / "ledger.json").read_text())
    assert ledger["read"] == ledger["kept"] + sum(ledger["dropped"].values())
    assert ledger["splits"]["train"]["rows"] == 16


def test_plain_peft_has_the_same_loss(finished: Finished) -> None:
    directory = run_of(finished[0])
    used = json.loads((directory / "prepared" / "questions.json").read_text())
    assert used["questions"]
    base = json.loads((directory / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    rows = directory.parent / "rows.jsonl"
    source = Path(__file__).parent.parent / "recipes" / "demo" / "evaluation.jsonl"
    lines = source.read_text().splitlines()
    kept = json.loads((directory / "ledger.json").read_text())["splits"]["evaluation"]["rows"]
    rows.write_text("\n".join(lines[number - 1] for number in _lines_held_out(directory, lines)) + "\n")
    assert len(rows.read_text().splitlines()) == kept
    answer = subprocess.run(
        [sys.executable, "-c", PLAIN_PEFT, base, str(directory / "adapter"), str(rows)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    ours = json.loads((directory / "evaluation.json").read_text())["metrics"]["loss"]["adapter"]
    assert float(answer.stdout.split()[-1]) == pytest.approx(ours, rel=1e-3)


def _lines_held_out(directory: Path, lines: list[str]) -> list[int]:
    """The lines of the held-out file that the run took, found by their text."""
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory / "adapter")
    texts = [
        tokenizer.decode(row["input_ids"]) for row in datasets.load_from_disk(directory / "prepared" / "evaluation")
    ]
    prompts = [json.loads(line)["prompt"] for line in lines]
    return [1 + next(at for at, prompt in enumerate(prompts) if prompt in text) for text in texts]


def test_the_hub_has_the_adapter(finished: Finished, hub: HubServer) -> None:
    adapter = run_of(finished[0]) / "adapter"
    state = json.loads((run_of(finished[0]) / "run.json").read_text())
    assert state["hub"]["url"].startswith(hub.url)
    pushed = hub.files("ann/demo")
    assert {path.name for path in adapter.iterdir()} <= set(pushed)
    assert pushed["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert "optimizer.pt" not in " ".join(pushed)


def test_the_token_is_in_no_file(finished: Finished) -> None:
    recipe, command = finished
    assert TOKEN not in command.out + command.err
    read = 0
    for path in run_of(recipe).rglob("*"):
        if path.is_file():
            read += 1
            assert TOKEN.encode() not in path.read_bytes(), path
    assert read > 20


def test_again_there_is_nothing_to_do(finished: Finished, hub: HubServer) -> None:
    before = (run_of(finished[0]) / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    again = tunesmith("train", finished[0], environment=hub.environment)
    assert again.code == 0 and "nothing to do" in again.out
    assert (run_of(finished[0]) / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_another_recipe_does_not_write_over_it(finished: Finished, hub: HubServer) -> None:
    other = tunesmith("train", finished[0], "--set", "training.learning_rate=2e-3", environment=hub.environment)
    assert other.code == 1
    assert "`training.learning_rate`" in other.err and "hint: give this run another `name`" in other.err


def test_pushing_again_changes_nothing(finished: Finished, hub: HubServer) -> None:
    pushed = tunesmith("push", run_of(finished[0]), environment=hub.environment)
    assert pushed.code == 0 and "nothing new to push" in pushed.out, pushed.out + pushed.err


def test_checkpoints_are_kept_as_asked(finished: Finished) -> None:
    folder = run_of(finished[0]) / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert names[-2:] == ["step-3", "step-4"] and len(names) <= 3
    assert all((folder / name / "manifest.json").is_file() for name in names)


def test_tensorboard_was_written(finished: Finished) -> None:
    assert list((run_of(finished[0]) / "tensorboard").rglob("events.out.*"))
