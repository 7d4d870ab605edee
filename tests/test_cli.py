"""The command line: what the verbs print and where, and the code that each end has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from settled import recipe_of

import runner
from runner import cli, planfile, runfile

ROOT = Path(__file__).parent.parent
GOOD = "task: sft\nname: good\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"
BAD = GOOD + "training: {epoch: 2}\nadapter: {rank: 0}\n"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command line among some recipes: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as ended:  # argparse's own way out
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


# validate


def test_a_good_recipe(run: Run) -> None:
    assert run("validate", "good.yaml") == (0, "`good.yaml` is a good recipe for `sft`\n", "")
    assert run("validate", "good.yaml", "--format", "json") == (0, "", "")
    assert run("validate", "good.yaml", "--data") == (
        0, "`good.yaml` is a good recipe for `sft`: 3 training rows, 0 held out\n", "",
    )  # fmt: skip


def test_a_recipe_with_faults(run: Run) -> None:
    code, out, err = run("validate", "bad.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown key `epoch` in `training`\n --> bad.yaml:5:12\n")
    assert err.endswith("Found 2 problems\n")


def test_faults_as_json_and_for_github(run: Run) -> None:
    code, out, err = run("validate", "bad.yaml", "--format", "json")
    assert (code, err) == (2, "")
    assert [json.loads(line)["line"] for line in out.splitlines()] == [5, 6]
    code, out, err = run("validate", "bad.yaml", "--format", "github")
    assert (code, err) == (2, "")
    first, second = out.splitlines()
    assert first.startswith("::error file=bad.yaml,line=5,col=12,endColumn=17::unknown key `epoch`")


def test_the_faults_of_several_recipes_come_at_once(run: Run) -> None:
    shutil.copy("good.yaml", "also.yaml")
    code, out, err = run("validate", "good.yaml", "bad.yaml", "nowhere.yaml", "also.yaml")
    assert code == 2
    assert out == "`good.yaml` is a good recipe for `sft`\n`also.yaml` is a good recipe for `sft`\n"
    assert err.count("error: ") == 3 and "--> bad.yaml:5:12" in err and "`nowhere.yaml` does not exist" in err
    assert err.endswith("Found 3 problems\n")
    code, out, err = run("validate", "bad.yaml", "good.yaml", "bad.yaml", "--format", "json")
    assert (code, len(out.splitlines()), err) == (2, 4, "")
    assert run("validate", "good.yaml", "also.yaml")[0] == 0


def test_overrides_hold_for_every_recipe(run: Run) -> None:
    code, _, err = run("validate", "good.yaml", "good.yaml", "--set", "adapter.rank=0", "--set", "nonsense")
    assert code == 2 and err.count("the override has no `=`") == 2
    code, out, _ = run("validate", "good.yaml", "bad.yaml", "--set", "training=null", "--set", "adapter=null")
    assert (code, out.count("good recipe")) == (0, 2)


def test_the_recipes_of_this_repository_are_good(run: Run) -> None:
    recipes = [str(path) for path in (ROOT / "recipes").glob("*.yaml") if path.stem != "demo"]
    code, out, err = run("validate", "--data", *recipes)
    assert (code, len(out.splitlines()), err) == (0, len(recipes), "")


def test_data_that_is_wrong(run: Run) -> None:
    Path("rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": "a", "completion": "b"}\n[\n')
    code, out, err = run("validate", "good.yaml", "--data")
    assert (code, out) == (2, "")
    assert "rows.jsonl:1" in err and "rows.jsonl:3" in err
    assert run("plan", "good.yaml")[0] == 2


# plan


def test_a_plan(run: Run) -> None:
    code, out, err = run("plan", "good.yaml", "--machine", "h100:8", "--set", "training.batch_size=64")
    assert (code, err) == (0, "")
    assert "h100" in out and "training rows" in out and "good" in out


def test_a_plan_as_json_is_a_plan(run: Run) -> None:
    code, out, _ = run("plan", "good.yaml", "--json", "--machine", "cpu:4:16")
    settled = planfile.from_json(out)
    assert code == 0
    assert (settled.recipe.name, settled.processes, settled.rows and settled.rows.train) == ("good", 1, 3)


def test_a_machine_that_cannot_do_it(run: Run) -> None:
    code, out, err = run("plan", "good.yaml", "--machine", "h100:8", "--set", "training.batch_size=9")
    assert (code, out) == (2, "")
    assert "which 8 processes cannot share evenly" in err
    assert " --> --set:1:21" in err


@pytest.mark.parametrize("machine", ["nonsense", "h100:0", "cpu:1:2:3"])
def test_a_machine_that_is_none(run: Run, machine: str) -> None:
    code, out, err = run("plan", "good.yaml", "--machine", machine)
    assert (code, out) == (2, "")
    assert err.startswith("error: `") and "--> --machine" in err and "hint: known devices: b200" in err


def test_a_model_that_is_broken(run: Run) -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text("{")
    code, _, err = run("plan", "good.yaml", "--set", "model.name=model")
    assert code == 2 and "is not readable JSON" in err


# what is no command


@pytest.mark.parametrize(
    "arguments",
    [(), ("validat", "good.yaml"), ("validate",), ("plan",), ("plan", "good.yaml", "bad.yaml"), ("push",), ("train",),
     ("validate", "good.yaml", "--format", "xml"), ("preview", "good.yaml", "--row", "x"), ("plan", "--nonsense")],
)  # fmt: skip
def test_what_is_no_command(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: tunesmith") and "error: " in err


def test_help_and_version(run: Run) -> None:
    assert run("--version") == (0, f"tunesmith {runner.__version__}\n", "")
    for verb in ("validate", "plan", "doctor", "preview", "train", "push", "report", "schema"):
        code, out, _ = run(verb, "--help")
        assert code == 0 and out.startswith(f"usage: tunesmith {verb}")


@pytest.mark.parametrize("verb", ["validate", "plan", "doctor", "preview", "train"])
@pytest.mark.parametrize(
    "path", [".", "nowhere.yaml", "good.yaml/x", "", "\0", "x" * 5000, "caf\udce9.yaml", "/dev/null"]
)
def test_what_is_no_recipe(run: Run, verb: str, path: str) -> None:
    code, out, err = run(verb, path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_recipe_that_may_not_be_read(run: Run) -> None:
    Path("good.yaml").chmod(0)
    if os.access("good.yaml", os.R_OK):  # the superuser may
        pytest.skip("this user may read every file")
    assert "permission denied" in run("validate", "good.yaml")[2]


@pytest.mark.parametrize("row", ["0", "-1"])
def test_a_row_before_the_first(run: Run, row: str) -> None:
    code, _, err = run("preview", "good.yaml", "--row", row)
    assert code == 2
    assert err == f"error: there is no row {row}\n --> --row\nhint: rows are counted from 1\n"


# push


def test_a_folder_that_holds_no_run(run: Run) -> None:
    for name, content in (("nowhere", None), ("empty", None), ("torn", "{"), ("other", '{"recipe": 5}'),
                          ("half", '{"recipe": {"output": 1}}'), ("less", '{"recipe": {"output": {}}}')):  # fmt: skip
        if name != "nowhere":
            Path(name).mkdir()
        if content is not None:
            (Path(name) / runfile.NAME).write_text(content)
        code, out, err = run("push", name)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: `{name}` holds no run\nhint: name the directory that `train` wrote to")
    assert run("push", "good.yaml")[0] == 2
    assert not Path("nowhere").exists()


def test_a_run_without_a_repository(run: Run) -> None:
    runfile.update(Path("."), status="done", recipe=asdict(recipe_of()))
    code, _, err = run("push", ".", "--format", "github")
    assert (code, err) == (2, "")
    code, _, err = run("push", ".")
    assert "the recipe of `.` names no repository" in err


# schema, and what a shell makes of it


def test_the_schema_is_the_one_in_the_repository(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out) == json.loads((ROOT / "recipes" / "schema.json").read_text())


def tunesmith(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | more.pop("environment", {})
    return subprocess.run(
        [sys.executable, "-m", "runner.cli", *arguments], capture_output=True, text=True, env=environment, check=False,
        **more,
    )  # fmt: skip


def test_a_reader_that_stops_reading(tmp_path: Path) -> None:
    for count in (1, 100_000):
        command = f"{sys.executable} -m runner.cli schema | head -c {count} > /dev/null; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.stdout.strip() in ("0", "1"), done.stderr) == (True, "")


def test_a_terminal_that_knows_only_ascii(run: Run) -> None:
    done = tunesmith("plan", "good.yaml", "--machine", "h100", environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xd7" in done.stdout


def test_a_recipe_from_a_pipe(run: Run) -> None:
    done = tunesmith("validate", "-", input=GOOD)
    assert (done.returncode, done.stdout) == (0, "`-` is a good recipe for `sft`\n")


COLOURS = """
import os, pty, sys
code = pty.spawn([sys.executable, "-m", "runner.cli", "validate", "bad.yaml"])
sys.exit(os.waitstatus_to_exitcode(code))
"""


@pytest.mark.parametrize(("no_colour", "coloured"), [(None, True), ("", True), ("1", False)])
def test_colour_is_for_terminals_that_want_it(run: Run, no_colour: str | None, coloured: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    if no_colour is not None:
        environment["NO_COLOR"] = no_colour
    done = subprocess.run([sys.executable, "-c", COLOURS], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and "unknown key `epoch`" in done.stdout
    assert ("\x1b[1;31m" in done.stdout) == coloured
    assert "\x1b" not in run("validate", "bad.yaml")[2]
