"""A run watched from its files: as it begins, goes on, is cut off and begins again, and however it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report_runs import a_run, lines, rewarded, step
from rich.console import Console

from runner import cli, errors, holding, runfile, watch
from runner.errors import Interrupted, OutOfMemory, Place, Problem, UserError
from runner.show import Watcher

PREPARED = {
    "train": {"rows": 8, "tokens": 900, "learned_tokens": 300, "longest": 40},
    "evaluation": {"rows": 0, "tokens": 0, "learned_tokens": 0, "longest": 0},
}


def prepared(directory: Path) -> None:
    (directory / "prepared").mkdir(parents=True)
    (directory / "prepared" / "prepared.json").write_text(json.dumps(PREPARED))
    (directory / "plan.json").write_text(json.dumps({"steps": {"total": 9}}))


def add(directory: Path, text: str) -> None:
    with (directory / "metrics.jsonl").open("a") as file:
        file.write(text)


def watched(directory: Path, *happens: Callable[[], object], terminal: bool = False) -> tuple[str, UserError | None]:
    """What is shown while one thing after another happens, and the fault at the end."""
    out = io.StringIO()
    left: Iterator[Callable[[], object]] = iter(happens)
    watcher = Watcher(Console(file=out, width=200, force_terminal=terminal))

    def wait() -> None:
        watcher.shown_at = 0.0  # as if time had passed
        next(left)()

    fault = None
    try:
        watch.follow(directory, watcher, wait)
    except UserError as error:
        fault = error
    assert next(left, None) is None, "it ended too early"
    return out.getvalue(), fault


def test_a_run_from_before_its_beginning_to_its_end(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    held = holding.alone(directory)
    line = json.dumps(step(3))

    def stage(status: str) -> Callable[[], object]:
        return lambda: runfile.update(directory, status=status)

    def end() -> None:
        runfile.update(directory, status="done", result={"event": None, "step": 4, "loss": 0.5, "training_loss": 0.5})

    out, fault = watched(
        directory,
        held.__enter__,
        stage("preparing"),
        lambda: prepared(directory),
        stage("training"),
        lambda: lines(directory / "metrics.jsonl", [step(1)]),
        lambda: add(directory, line[:30]),  # half a line
        lambda: add(directory, line[30:] + "\n"),
        lambda: add(directory, '{"step": 3, "event": "evaluation", "epoch": 1, "evaluation_loss": 0.25}\n'),
        stage("evaluating"),
        stage("pushing"),
        end,
        lambda: held.__exit__(None, None, None),
    )
    assert fault is None
    said = out.splitlines()
    assert said[0] == f"there is no run in `{directory}` yet: waiting for it to begin; Ctrl-C ends this"
    assert said[1:4] == [
        watch.STAGES["preparing"],
        "train: 8 rows, 900 tokens, 300 learned (33 %), longest 40",
        watch.STAGES["training"],
    ]
    assert said[4].startswith("step 1/9  epoch 0.33  loss 3.0000  150 learned tokens/s")
    assert said[5].startswith("step 3/9  ") and said[6] == "step 3/9  held-out loss 0.2500"
    assert said[7:] == [
        watch.STAGES["evaluating"],
        watch.STAGES["pushing"],
        "adapter of step 4 read back with PEFT: loss 0.5000, in training 0.5000",
    ]


def test_a_run_that_is_killed_and_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    first, second = holding.alone(directory), holding.alone(directory)
    prepared(directory)
    logged = [step(number) for number in range(1, 6)]

    def goes_on() -> None:
        kept = directory / "beside"
        lines(kept, [*logged[:2], step(3, loss=0.125)])  # what came after the checkpoint of step 2 is logged again
        kept.replace(directory / "metrics.jsonl")

    out, _ = watched(
        directory,
        first.__enter__,
        lambda: runfile.update(directory, status="training"),
        lambda: lines(directory / "metrics.jsonl", logged),
        lambda: first.__exit__(None, None, None),  # and says nothing of its end
        lambda: None,
        second.__enter__,
        goes_on,
        lambda: runfile.update(directory, status="done"),
        lambda: second.__exit__(None, None, None),
    )
    said = out.splitlines()
    assert sum("no process is at work" in line for line in said) == 1
    assert "whose run was training: waiting for it to go on" in out
    after = said[said.index("going on from step 2 of 9") + 1 :]
    assert [line.split("  ")[0] for line in after] == ["step 3/9"] and "loss 0.1250" in after[0]


def test_a_finished_run_is_told_in_short(tmp_path: Path) -> None:
    directory = a_run(tmp_path)
    lines(directory / "metrics.jsonl", [step(number) for number in range(1, 2000)])
    (directory / "plan.json").write_text('{"steps": {"total": 1999}}')
    out, fault = watched(directory)
    assert fault is None and [line.split("  ")[0] for line in out.splitlines()[:-1]] == ["step 1999/1999"]


def test_grpo_and_a_terminal(tmp_path: Path) -> None:
    directory = a_run(tmp_path, "grpo")
    out, _ = watched(directory, terminal=True)
    assert "3/3" in out and "reward 0.3000" in out and "warning: no completion ends by itself" in out
    assert "held-out reward 0.4" in out


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", OutOfMemory([Problem("no memory", Place("a.jsonl", 3), "take less")])),
        ("interrupted", Interrupted(Problem("stopped by SIGTERM"))),
    ],
)
def test_a_run_ends_as_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str, error: UserError
) -> None:
    directory = a_run(tmp_path)
    runfile.end(directory, status, error)
    assert cli.main(["watch", str(directory)]) == error.exit_code
    assert capsys.readouterr().err == errors.report(error) + "\n"


def test_a_run_that_does_not_say_why_it_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(a_run(tmp_path, status="failed"))]) == 1
    assert "does not say why" in capsys.readouterr().err


@pytest.mark.parametrize(
    "torn",
    [
        "5\n", "[]\n", "\n", '{"event": "step", "step": "x"}\n', '{"event": "step", "step": 1}\n', "\xff\n",
        '{"event": "step", "step": 2, "epoch": 1, "loss": null, "learned_tokens": 1, "seconds": 1, "elapsed": 1}\n',
        '{"event": "evaluation", "step": 2, "evaluation_loss": "x", "measured": 5}\n', "[" * 10_000 + "\n",
    ],
)  # fmt: skip
def test_lines_that_are_none(tmp_path: Path, torn: str) -> None:
    directory = a_run(tmp_path)
    (directory / "metrics.jsonl").write_bytes(torn.encode("latin-1") + (json.dumps(rewarded(3)) + "\n").encode())
    (directory / "prepared").mkdir()
    (directory / "prepared" / "prepared.json").write_text('{"train": 5}')
    out, _ = watched(directory)
    assert "step 3/3  epoch 1.00  reward 0.3000" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [("outputs", "name one of the runs in it: `outputs/demo`"), ("outputs/demo/adapter", "the run is `outputs/demo`"),
     ("a-file", "holds no run"), ("x" * 5000, "holds no run")],
)  # fmt: skip
@pytest.mark.parametrize("options", [[], ["--serve"]])
def test_nothing_is_waited_for_that_cannot_come(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, told: str, options: list[str]
) -> None:
    a_run(here)
    Path("a-file").write_text("text")
    assert cli.main(["watch", name, *options]) == 2
    assert told in capsys.readouterr().err


def test_whoever_asks_is_in_nobodys_way(tmp_path: Path) -> None:
    assert not holding.is_held(tmp_path / "nowhere")
    with holding.alone(tmp_path):
        assert holding.is_held(tmp_path)
        with pytest.raises(errors.RunError), holding.alone(tmp_path):
            pass
    assert not holding.is_held(tmp_path)
    with holding.alone(tmp_path, shared=True):
        assert not holding.is_held(tmp_path)


def test_ctrl_c_leaves_the_run_alone(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with holding.alone(directory):
        runfile.update(directory, status="preparing")
        before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
        program = "from runner.start import main; raise SystemExit(main())"
        command = [sys.executable, "-c", program, "watch", str(directory)]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline().decode() == watch.STAGES["preparing"] + "\n"
            time.sleep(0.5)  # a signal within a print would have the line printed again
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == b"no longer watched; the run goes on\n"
        assert process.returncode == 130
        assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before
