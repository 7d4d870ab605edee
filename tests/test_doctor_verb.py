"""`tunesmith doctor`: its page, its JSON, its exit code, and its short form at the start of a run."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from runs import Command, tunesmith
from settled import plan_of
from surroundings import needs, surroundings

from runner import machine, show_findings, supervise
from runner.doctor import examination, finding
from runner.doctor.finding import Finding

FINDINGS = (
    Finding("packages", "torch", "ok", "2.13.0"),
    Finding("packages", "flash-attn", "missing", "not installed"),
    Finding("memory and disks", "shared memory", "warning", "64 MiB in `/dev/shm`, little for 2 processes",
            "start the container with `--shm-size=8g` or `--ipc=host`"),
    Finding("memory and disks", "output", "fault", "`/data/outputs`: read-only\x1b[2J file system"),
)  # fmt: skip
PAGE = """\
packages
  torch          ok       2.13.0
  flash-attn     –        not installed
memory and disks
  shared memory  warning  64 MiB in `/dev/shm`, little
                          for 2 processes
                          hint: start the container with
                          `--shm-size=8g` or `--ipc=host`
  output         fault    `/data/outputs`:
                          read-only\\x1b[2J file system
`it` cannot run here: 1 fault, 1 warning
"""
GROUPS = ["packages", "devices", "memory and disks", "user and limits", "container and job", "Hub", "rewards"]


def page(*findings: Finding, recipe: str | None = None, width: int = 57, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, force_terminal=terminal)
    show_findings.page(findings, recipe, console)
    return file.getvalue()


def test_the_page() -> None:
    assert page(*FINDINGS, recipe="it") == PAGE
    assert page(FINDINGS[0]).splitlines()[-1] == "training can run here"
    assert page(*FINDINGS[1:3]).splitlines()[-1] == "training can run here, 1 warning"


@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_page_on_other_terminals(width: int) -> None:
    lines = page(*FINDINGS, width=width).splitlines()
    assert all(len(line) <= max(width, 57) and line == line.rstrip() for line in lines)
    assert "\x1b[1;31m" in page(*FINDINGS, terminal=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "model").mkdir()
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = folder / "recipe.yaml"
    path.write_text(f"task: sft\nname: it\nmodel: {{name: {folder / 'model'}}}\ndataset: {{train: rows.jsonl}}\n")
    return path


@pytest.fixture(scope="module")
def examined(recipe: Path) -> Command:
    """The verb as JSON, with a token in the environment and a recipe that asks for what is not here."""
    changed = ("--set", "adapter.type=qlora", "--set", "output.directory=/proc/nowhere")
    return tunesmith("doctor", recipe, *changed, "--json", environment={"HF_TOKEN": "hf_" + "z" * 34})


def test_the_json(examined: Command) -> None:
    found = json.loads(examined.out)["findings"]
    assert all(set(each) == {"group", "name", "status", "found", "hint"} for each in found)
    assert list(dict.fromkeys(each["group"] for each in found)) == GROUPS
    assert {each["status"] for each in found} <= {"ok", "warning", "missing", "fault"}
    assert "zzzz" not in examined.out + examined.err and examined.err == ""


@pytest.mark.skipif(bool(machine.here().devices), reason="this machine has CUDA devices")
def test_what_a_recipe_needs_is_a_fault(examined: Command) -> None:
    faults = {each["name"] for each in json.loads(examined.out)["findings"] if each["status"] == "fault"}
    assert examined.code == 1 and {"devices", "output"} <= faults
    assert ("bitsandbytes" in faults) == (not machine.here().bitsandbytes)


def test_a_machine_that_can_train(recipe: Path, tmp_path: Path) -> None:
    done = tunesmith("doctor", environment={"COLUMNS": "80"})
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "packages" and lines[-1].startswith("training can run here")
    assert max(map(len, lines)) <= 80 or any(len(word) > 50 for word in done.out.split())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere.yaml"], "`nowhere.yaml` does not exist"),
        (["--set", "name=x"], "there is no recipe to lay values over"),
    ],
)
def test_what_cannot_be_examined(arguments: list[str], error: str) -> None:
    done = tunesmith("doctor", *arguments)
    assert (done.code, done.out) == (2, "") and done.err.startswith(f"error: {error}\n")


AS_NOBODY = """
import os, sys
import rich.console, runner.cli
from runner import show_findings, supervise
from runner.doctor import examination
os.setgroups([])
os.setresgid(54321, 54321, 54321)
os.setresuid(54321, 54321, 54321)
for name in ("HOME", "USER", "LOGNAME", "HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN"):
    os.environ.pop(name, None)
sys.exit(runner.cli.main(["doctor"]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_a_name_and_a_home(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], cwd=tmp_path, env={**os.environ, "COLUMNS": "300"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    lines = {line[2:20].strip(): line[20:].split(None, 1) for line in done.stdout.splitlines() if line.startswith("  ")}
    assert lines["user"][1].startswith("user id 54321, which has no entry in `/etc/passwd`")
    assert lines["home"][0] == "warning" and lines["output"][:1] == ["fault"]
    assert not list(tmp_path.iterdir())


# at the start of a run


def test_the_start_of_a_run(tmp_path: Path) -> None:
    around = surroundings(tmp_path, SLURM_JOB_ID="7", SLURM_JOB_END_TIME="1900000000", TMPDIR=str(tmp_path))
    (tmp_path / "dev/shm").mkdir(parents=True)
    (tmp_path / ".dockerenv").touch()
    lines, suffered = examination.at_start(around, machine.named("h100:2"), needs(tmp_path))
    assert lines[0].startswith(
        "machine: 2 × h100 (80.0 GiB), 32 cores, in a container (docker), SLURM job 7, ends 2030-"
    )
    assert lines[1].startswith("memory: 640.0 GiB; shared: ") and f"disk: `{tmp_path / 'outputs'}`, " in lines[1]
    assert lines[2].startswith("packages: torch 2.") and ", deepspeed 0." in lines[2]
    assert len(lines) == 3
    for_cpus = importlib.metadata.version("torch").endswith("+cpu")
    assert [each.name for each in suffered if each.group == "devices"] == ["torch"] * for_cpus
    assert not [each for each in suffered if each.name in ("shared memory", "temporary files")]


def test_what_a_run_will_suffer_from(tmp_path: Path) -> None:
    around = surroundings(tmp_path, TMPDIR="/proc/nowhere")
    _, suffered = examination.at_start(around, machine.named("cpu:1:1"), needs(Path("/proc"), processes=2))
    assert {"shared memory", "output", "temporary files"} <= {each.name for each in suffered}


def test_the_start_is_quick_and_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_spawn", None)
    monkeypatch.setattr("subprocess.Popen", None)
    around, where = finding.here(), machine.named("cpu:4:16")
    seconds = []
    for _ in range(5):
        started = time.process_time()
        examination.at_start(around, where, needs(tmp_path, processes=2))
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.05


def test_a_run_is_warned_in_full_sentences() -> None:
    lines = supervise._surroundings(plan_of("output.directory=/proc/nowhere", "name=it"), machine.named("cpu:4:16"))
    assert [line.partition(": ")[0] for line in lines[:3]] == ["machine", "memory", "packages"]
    assert (
        "warning: output: `/proc/nowhere/it`: no such file or directory, the nearest folder that is there is `/proc`; "
        "set `output.directory` to a folder that can be written to; in a container mount one there: "
        "`-v FOLDER:/proc/nowhere/it`"
    ) in lines[3:]
