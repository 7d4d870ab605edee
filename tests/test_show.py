"""What a person sees: the page of a plan, the progress of a run, its result."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from settled import LLAMA_8B, LLAMA_70B, plan_of

from runner import show
from runner.choices import Rows

ROWS = Rows(train=100, evaluation=10, longest=50)
FACTS = {"rows": 100, "tokens": 5000, "learned_tokens": 1000, "longest": 50}
NONE = {"rows": 0, "tokens": 0, "learned_tokens": 0, "longest": 0}


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=60, highlight=False, markup=False)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def page(*overrides: str, **where: Any) -> dict[str, str]:
    """The rows of a plan's page: name and all that stands behind it."""
    shown = console()
    show.plan(plan_of(*overrides, **where), shown)
    lines = [line for line in text_of(shown).splitlines() if line.startswith("  ")]
    return {line[2:34].strip(): line[35:] for line in lines}


def test_the_plan_of_a_model_that_is_not_here() -> None:
    found = page()
    assert found["trainable parameters"] == "not known  (the model's files are not on this machine yet)"
    assert "steps" not in found and "weights" not in found
    assert found["model"] == "owner/model"
    assert found["device"] == "CPU, 8 cores  (32 GiB a process)"
    assert found["gradient checkpointing"] == "on  (the model's size is not known yet)"


def test_the_plan_of_a_model_that_is_here() -> None:
    found = page("model.revision=v2", where="h100:8", shape=LLAMA_8B, rows=ROWS)
    assert found["model"] == "owner/model at v2"
    assert found["trainable parameters"] == "41,943,040  (0.52 % of 8,030,261,248)"
    assert found["rows a step"].startswith("16  (2 at a time × 1 times × 8 processes: ")
    assert (found["training rows"], found["held-out rows"]) == ("100", "10")
    assert found["steps"] == "21  (7 an epoch, 1 of warmup)"
    assert found["checkpoint size"] == "656 MiB  (up to 4 at a time take 2.56 GiB of the disk)"
    assert found["weights"] == "14.96 GiB"
    assert found["together"].endswith("% of 80.00 GiB)")


def test_every_setting_is_shown_as_a_recipe_has_it() -> None:
    found = page("dataset.shuffle=false", "training.checkpoints={every: 5}", "adapter.target_modules=[q_proj]")
    assert (found["dataset.shuffle"], found["evaluation.baseline"]) == ("false", "true")
    assert found["dataset.train"].endswith("/data/instruction.jsonl")
    assert found["training.checkpoints"] == "every 5, keep 2, minutes –"
    assert found["training.early_stopping"] == "metric loss, patience 3, min_delta 0.0"
    assert (found["dataset.limit"], found["dataset.evaluation"]) == ("–", "–")
    assert found["evaluation.metrics"] == "loss, perplexity, exact_match"


def test_every_choice_shows_its_reason() -> None:
    found = page(where="h100:8", shape=LLAMA_70B)
    for name in ("ZeRO stage", "precision", "attention", "packing", "gradient checkpointing", "longest row"):
        assert found[name].endswith(")")


def test_the_hub_is_shown() -> None:
    assert page("output.hub={repository: owner/name}")["pushes to"] == "owner/name (main)"
    assert "pushes to" not in page()


def test_square_brackets_and_control_characters_are_shown_as_they_are() -> None:
    shown = console(terminal=True)
    show._row(shown, "name", "[bold]x[/bold] \x1b[2J \u202e caf\udce9")
    assert "[bold]x[/bold] \\x1b[2J \\u202e caf\\udce9" in text_of(shown)


EVENTS: list[dict[str, Any]] = [
    {"event": "prepared", "train": FACTS, "evaluation": NONE},
    {"event": "start", "step": 2, "total": 4},
    {"event": "step", "step": 3, "epoch": 0.75, "loss": 0.5, "learned_tokens": 100, "seconds": 2.0, "elapsed": 2.5},
    {"event": "evaluation", "step": 3, "evaluation_loss": 0.25},
    {
        "event": "step",
        "step": 4,
        "epoch": 1.0,
        "loss": float("nan"),
        "learned_tokens": 0,
        "seconds": 0.0,
        "elapsed": 0.0,
    },
    {"event": "an event of a later version"},
    {"event": "reloaded", "step": 4, "loss": 0.4, "training_loss": 0.4},
    {"event": "scoring", "what": "the base model"},
]


def test_a_log_has_plain_lines() -> None:
    shown = console()
    watcher = show.Watcher(shown)
    for event in EVENTS:
        watcher(event)
    watcher.close()
    assert text_of(shown).splitlines() == [
        "train: 100 rows, 5000 tokens, 1000 learned (20 %), longest 50",
        "going on from step 2 of 4",
        "step 3/4  epoch 0.75  loss 0.5000  50 learned tokens/s  2 s left",
        "step 3/4  held-out loss 0.2500",
        "step 4/4  epoch 1.00  loss nan  50 learned tokens/s  0 s left",
        "adapter of step 4 read back with PEFT: loss 0.4000, in training 0.4000",
        "scoring: the base model",
    ]


def test_a_log_has_a_step_now_and_then_and_always_the_last() -> None:
    shown = console()
    watcher = show.Watcher(shown)
    watcher({"event": "start", "step": 0, "total": 500})
    for step in range(1, 501):
        facts = {"loss": 1.0, "learned_tokens": 10, "seconds": 0.1, "elapsed": 0.2}
        watcher({"event": "step", "step": step, "epoch": step / 500, **facts})
    lines = text_of(shown).splitlines()
    assert len(lines) == 2 and lines[0].startswith("step 1/500") and lines[1].startswith("step 500/500")


def test_a_terminal_has_a_line_that_moves() -> None:
    shown = console(terminal=True)
    watcher = show.Watcher(shown)
    for event in EVENTS[:4]:
        watcher(event)
    assert watcher.bar is not None and watcher.bar.tasks[0].completed == 3
    watcher.say("[red]a word[/red] \x1b[2J")
    watcher({"event": "start", "step": 3, "total": 4})  # the run was started again
    for event in EVENTS[4:]:
        watcher(event)
    assert watcher.bar is None
    watcher.close()
    shown_text = text_of(shown)
    assert "held-out loss 0.2500" in shown_text and "[red]a word[/red] \\x1b[2J" in shown_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert show._duration(seconds) == text


def test_a_result_without_an_evaluation(tmp_path: Path) -> None:
    shown = console()
    show.result(tmp_path, shown)
    assert text_of(shown) == ""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "ledger.json").write_text("{}")
    (tmp_path / "report.html").write_text("")
    show.result(tmp_path, shown)
    assert text_of(shown).splitlines() == [
        f"{tmp_path / 'report.html'}  all of it on one page, for a browser",
        f"{tmp_path / 'adapter'}  the adapter, with tokenizer and model card",
        f"{tmp_path / 'ledger.json'}  what became of every row",
    ]


def test_a_result(tmp_path: Path) -> None:
    metrics = {
        "loss": {"base": 2.0, "adapter": 0.5},
        "exact_match": {"base": 0.5, "adapter": 0.25},
        "json_valid": {"base": None, "adapter": 1.0},
        "json_match": {"base": 1.0, "adapter": 1.0},
    }
    evaluation = {"rows": 9, "questions": 4, "metrics": metrics}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    sample = {"prompt": "Say\nit " + "x" * 400, "answer": "[b]", "base": "\x1b[31mred", "adapter": "y"}
    (tmp_path / "samples.jsonl").write_text((json.dumps(sample) + "\n") * 5)
    shown = console()
    show.result(tmp_path, shown)
    text = text_of(shown)
    assert "9 held-out rows, 4 of them asked" in text
    better = {
        line.split("│")[1].strip(): line.split("│")[4].strip() for line in text.splitlines() if line.count("│") > 3
    }
    assert better == {"loss": "adapter", "exact_match": "base model", "json_valid": "", "json_match": ""}
    assert text.count("wanted  [b]") == show.SHOWN_SAMPLES
    assert "\x1b" not in text and "\\x1b[31mred" in text
    assert f"…{'x' * show.LONGEST_SHOWN}\n" in text


def test_the_base_model_may_not_have_been_asked(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"prompt": "p", "answer": "a", "adapter": "b"}\n')
    shown = console()
    show.result(tmp_path, shown)
    assert [line.split()[0] for line in text_of(shown).splitlines()[1:4]] == ["prompt", "wanted", "adapter"]


def test_a_difference_within_noise_is_called_that(tmp_path: Path) -> None:
    def entry(base: float | None, adapter: float | None, interval: Any, verdict: str | None) -> dict[str, Any]:
        return {"base": base, "adapter": adapter, "difference_interval": interval, "verdict": verdict, "rows": 40}

    metrics = {
        "loss": entry(2.0, 0.5, [-1.75, -1.25], "better"),
        "json_match": entry(0.5, 0.25, [-0.5, -0.125], "worse"),
        "exact_match": entry(0.5, 0.625, [-0.0625, 0.25], "within noise"),
        "call_name": entry(0.0, 1.0, None, None),
        "no_call_precision": entry(0.5, None, None, None),
        "json_valid": entry(None, 1.0, None, None),
    }
    evaluation = {"rows": 99, "questions": 40, "metrics": metrics, "not_measured": ["numeric_match", "rouge_l"]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    shown = Console(file=io.StringIO(), width=100, highlight=False, markup=False)
    show.result(tmp_path, shown)
    lines = [line.rstrip() for line in text_of(shown).splitlines()[1:-1]]
    assert lines == WITHIN_NOISE.strip("\n").splitlines()


WITHIN_NOISE = """
┏━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┓
┃ metric            ┃ base model ┃ adapter ┃ better       ┃ difference, 95 % ┃
┡━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━┩
│ loss              │          2 │     0.5 │ adapter      │ -1.75 to -1.25   │
│ json_match        │        0.5 │    0.25 │ base model   │ -0.5 to -0.125   │
│ exact_match       │        0.5 │   0.625 │ within noise │ -0.0625 to +0.25 │
│ call_name         │          0 │       1 │ too few rows │                  │
│ no_call_precision │        0.5 │       – │              │                  │
│ json_valid        │          – │       1 │              │                  │
└───────────────────┴────────────┴─────────┴──────────────┴──────────────────┘
left out, since no row counts for them: `numeric_match`, `rouge_l`
"""
