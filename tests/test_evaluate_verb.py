"""`tunesmith evaluate`: finished runs and adapters from elsewhere, scored on held-out rows of a tiny model."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import write_grpo
from hub_server import HubServer
from runs import DEMO, SECONDS, Command, run_of, tunesmith, write_recipe

from runner import chat_templates, cli, planfile
from runner.scores.metrics import OF_CALLS

pytestmark = pytest.mark.slow

ROWS = [
    {"question": "one", "completion": "1", "split": "train"},
    {"question": "two", "completion": "2", "split": "evaluation"},
    {"question": "three", "completion": "3", "split": None},
]

WEATHER = {
    "name": "weather",
    "description": "The weather now.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLING = {
    "messages": [
        {"role": "user", "content": "How is the weather in Paris?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]},
    ],
    "tools": [{"type": "function", "function": WEATHER}],
}


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run whose data is its own."""
    folder = tmp_path_factory.mktemp("ran")
    for name in ("train", "evaluation"):
        rows = [json.loads(line) for line in (DEMO / f"{name}.jsonl").read_text().splitlines()[:12]]
        renamed = [{"question": row["prompt"], "completion": row["completion"]} for row in rows]
        write_rows(folder / f"{name}.jsonl", renamed)
    recipe = write_recipe(
        folder,
        tiny_model,
        {
            "dataset": {
                "train": "train.jsonl",
                "evaluation": "evaluation.jsonl",
                "columns": {"prompt": "question"},
                "limit": 7,
            },
            "training": {"seed": 7},
            "evaluation": {"metrics": ["loss", "token_f1"], "samples": 4, "max_new_tokens": 4},
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    return run_of(recipe)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(*words: object, code: int = 0, **environment: str) -> Command:
    command = tunesmith("evaluate", *words, environment=environment)
    assert "Traceback" not in command.out + command.err, command.out + command.err
    assert command.code == code, command.out + command.err
    return command


def read(directory: Path) -> dict[str, Any]:
    found = json.loads((directory / "evaluation.json").read_text())
    assert isinstance(found, dict)
    return found


def files_of(directory: Path) -> dict[str, str]:
    """The hash of each file of a run, its evaluations aside."""
    found = [path for path in directory.rglob("*") if path.is_file() and "evaluations" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_run_is_scored_again_to_the_same_figures(finished: Path) -> None:
    before = files_of(finished)
    command = evaluate(finished)
    again = finished / "evaluations" / "held-out"
    for name in ("evaluation.json", "samples.jsonl", "losses.jsonl"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()
    assert "7 held-out rows, 4 of them asked" in command.out and str(again / "evaluation.json") in command.out
    assert "warning" not in command.out
    ledger = json.loads((again / "ledger.json").read_text())
    assert (ledger["read"], ledger["kept"]) == (24, 7)
    assert ledger["dropped"] == {"for training": 7, "over the limit": 10}
    assert files_of(finished) == before


def test_data_that_has_changed_is_said(finished: Path) -> None:
    data = finished.parent.parent / "evaluation.jsonl"
    kept = data.read_bytes()
    data.write_bytes(b"".join(kept.splitlines(keepends=True)[:5]))
    try:
        command = evaluate(finished, "--samples", 0, "--metrics", "loss", "--output", finished.parent / "changed")
    finally:
        data.write_bytes(kept)
    assert f"warning: `{data}` has changed since the run, so its held-out rows may be others\n" in command.out
    assert read(finished.parent / "changed")["rows"] == 5


def test_other_rows_are_all_held_out_and_results_have_names(finished: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "more.jsonl", ROWS)
    before = files_of(finished)
    words = [finished, "--data", data, "--metrics", "loss,exact_match", "--max-new-tokens", 2, "--json"]
    command = evaluate(*words)
    told = json.loads(command.out)
    folder = finished / "evaluations" / "more"
    assert told == {"directory": str(folder), **read(folder)}
    assert (told["rows"], told["questions"], list(told["metrics"])) == (3, 3, ["loss", "exact_match"])
    assert told["step"] == read(finished)["step"] and "scoring: answers of the adapter" in command.err
    ledger = json.loads((folder / "ledger.json").read_text())
    assert (ledger["read"], ledger["kept"], ledger["dropped"]) == (3, 3, {})
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 3

    write_rows(data, ROWS[:2])
    assert json.loads(evaluate(*words).out)["directory"] == str(folder) and read(folder)["rows"] == 2
    other = json.loads(evaluate(*words, "--no-baseline", "--set", "dataset.limit=1").out)
    assert other["directory"] == f"{folder}-2" and (other["rows"], read(folder)["rows"]) == (1, 2)
    assert other["metrics"]["loss"]["base"] is None
    assert files_of(finished) == before


def test_bad_rows_come_at_once_and_leave_the_name_free(finished: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "bad.jsonl", [{"question": 5, "completion": "b"}, ROWS[0], {"question": "c"}])
    command = evaluate(finished, "--data", data, code=2)
    assert f"--> {data}:1" in command.err and f"--> {data}:3" in command.err
    assert command.err.endswith("Found 2 problems\n")
    skipping = ["--metrics", "loss", "--samples", 0, "--set", "dataset.on_bad_row=skip"]
    evaluate(finished, "--data", data, *skipping)
    assert [path.name for path in (finished / "evaluations").glob("bad*")] == ["bad"]
    assert len((finished / "evaluations" / "bad" / "rejects.jsonl").read_text().splitlines()) == 2


def test_an_adapter_from_elsewhere_scores_calls_by_the_template_beside_it(
    finished: Path, tiny_model: Path, here: Path
) -> None:
    shutil.copytree(finished / "adapter", "caller")
    config = json.loads(Path("caller/adapter_config.json").read_text())
    Path("caller/adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "owner/nowhere"}))
    Path("caller/chat_template.jinja").write_text(chat_templates.text("hermes"))
    write_rows(Path("calls.jsonl"), [CALLING] * 2)
    options = ["--task", "function_calling", "--base", tiny_model, "--max-new-tokens", 2]
    told = json.loads(evaluate("caller", "--data", "calls.jsonl", *options, "--json").out)
    assert told["directory"] == "outputs/evaluations/caller-calls"
    assert set(told["metrics"]) | set(told["not_measured"]) == {"loss", "perplexity", *OF_CALLS[:2], "call_match"}
    sample = json.loads(Path(told["directory"], "samples.jsonl").read_text().splitlines()[0])
    assert "<tools>" in sample["prompt"] and sample["calls"][0]["name"] == "weather"


def test_an_adapter_of_the_hub(finished: Path, hub: HubServer, here: Path) -> None:
    hub.create("ann/scored")
    files = {path.name: path.read_bytes() for path in (finished / "adapter").iterdir()}
    hub.commit("ann/scored", files, large={"adapter_model.safetensors"})
    write_rows(Path("asked.jsonl"), [{"prompt": row["question"], "completion": row["completion"]} for row in ROWS])
    environment = hub.environment | {"HF_HOME": str(here / "cache")}
    command = evaluate("ann/scored", "--data", "asked.jsonl", "--metrics", "loss", "--samples", 0, **environment)
    assert "3 held-out rows, 0 of them asked" in command.out
    assert list(read(Path("outputs/evaluations/scored-asked"))["metrics"]) == ["loss"]


def test_a_run_of_grpo_is_scored_by_its_rewards_as_they_are_now(tiny_model: Path, tmp_path: Path) -> None:
    scores = "def size(prompt, completion, example):\n    return len(completion) + {}.0\n"
    (tmp_path / "size.py").write_text(scores.format(0))
    recipe = write_grpo(
        tmp_path,
        tiny_model,
        [{"file": "size.py"}],
        {"dataset": {"evaluation": "evaluation.jsonl"}, "training": {"max_steps": 1}},
    )
    trained = tunesmith("train", recipe)
    assert trained.code == 0, trained.out + trained.err
    command = evaluate(run_of(recipe))
    own, again = read(run_of(recipe)), read(run_of(recipe) / "evaluations" / "held-out")
    assert own == again and set(own["metrics"]) == {"reward", "reward/size"} and "warning" not in command.out
    assert not (run_of(recipe) / "evaluations" / "held-out" / "completions.jsonl").exists()

    (tmp_path / "size.py").write_text(scores.format(100))
    command = evaluate(run_of(recipe), "--data", tmp_path / "train.jsonl", "--samples", 2)
    warning = f"warning: `{tmp_path / 'size.py'}` has changed since the run: answers are scored by it as it is now\n"
    assert warning in command.out
    assert read(run_of(recipe) / "evaluations" / "train")["metrics"]["reward"]["adapter"] >= 100


def test_an_interrupt_ends_it_without_a_traceback(finished: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (DEMO / "train.jsonl").read_text().splitlines()]
    long = [{"question": row["prompt"], "completion": row["completion"]} for row in rows] * 20
    words = ["evaluate", str(finished), "--data", str(write_rows(tmp_path / "x.jsonl", long)), "--samples", "2000"]
    command = [sys.executable, "-m", "runner.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("scoring: loss"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (75, "error: stopped by SIGINT; run the same command again to go on\n"), out
    assert not (finished / "evaluations" / "x" / "evaluation.json").exists()


# What is refused, before anything is loaded


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What the command line says of an evaluation that is refused."""
    code = cli.main(["evaluate", *map(str, words)])
    captured = capsys.readouterr()
    assert (code, captured.out) in ((1, ""), (2, ""))
    return captured.err


NO_ROWS = "hint: name rows with `--data rows.jsonl`: a file, a pattern, a directory or a Hub id\n"


def test_a_run_without_held_out_rows(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "run")
    settled = planfile.from_json(Path("run/plan.json").read_text())
    assert settled.rows is not None
    Path("run/plan.json").write_text(planfile.to_json(replace(settled, rows=replace(settled.rows, evaluation=0))))
    assert refused(capsys, "run") == f"error: the run in `run` has no held-out rows\n{NO_ROWS}"
    assert refused(capsys, "run/adapter") == (
        f"error: `run/adapter` is an adapter, which has no held-out rows of its own\n{NO_ROWS}"
    )


def test_options_that_are_wrong_are_told_at_once(
    finished: Path, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    Path("more.jsonl").write_text("")
    words = ["--metrics", "loss,exact_mach", "--samples", -1, "--data", "mor.jsonl", "--set", "training.epochs=2"]
    assert refused(capsys, finished, *words, "--set", "dataset.evaluation=0.5") == (
        "error: `training.epochs` cannot be set for an evaluation\n --> --set:1:1\n  |\n1 | training.epochs=2\n"
        "  | ^^^^^^^^^^^^^^^\nhint: keys of `evaluation`, `dataset` can be; the adapter is scored as it was trained\n\n"
        "error: `dataset.evaluation` cannot be set for an evaluation\n --> --set:1:1\n  |\n1 | dataset.evaluation=0.5\n"
        f"  | ^^^^^^^^^^^^^^^^^^\n{NO_ROWS}\n"
        "error: `evaluation.metrics[1]` must be a known name, found the text `exact_mach`\n --> --metrics\n"
        "hint: a similar value exists: `exact_match`\n\n"
        "error: `evaluation.samples` must be at least 0, found the number `-1`\n --> --samples\n\n"
        "error: `mor.jsonl` does not exist\n --> --data\nhint: a similar name exists: `more.jsonl`\n\n"
        "Found 5 problems\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "sft"], "is a run, which has a task of its own\n --> --task\nhint: leave `--task` out"),
        (["--format", "messages"], "error: `--format` is that of the rows of `--data`, and there are none\n"),
        (["--metrics", "reward"], "error: the metric `reward` is none of `task: sft`\n --> --metrics\n"),
        (["--data", "x*.jsonl"], "error: no file matches `x*.jsonl`\n --> --data\nhint: paths are relative"),
        (["--output", "."], "error: `.` holds other files than those of an evaluation\n --> --output\nhint: name a"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(
    finished: Path, capsys: pytest.CaptureFixture[str], here: Path, words: list[str], told: str
) -> None:
    Path("mine.txt").write_text("kept")
    assert told in refused(capsys, finished, *words)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("grpo", "`--task grpo` needs rewards, and an adapter names none\n --> --task\nhint: name a run's directory"),
        ("stf", "there is no task `stf`\n --> --task\nhint: write `sft`\n"),
    ],
)
def test_tasks_of_an_adapter(finished: Path, capsys: pytest.CaptureFixture[str], task: str, told: str) -> None:
    assert refused(capsys, finished / "adapter", "--task", task).startswith(f"error: {told}")


def test_a_run_that_another_process_holds(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (finished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refused(capsys, finished) == (
            f"error: another process is running in `{finished}`\n"
            "hint: wait for it, or name another folder with `--output`\n"
        )
