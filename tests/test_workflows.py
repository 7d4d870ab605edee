"""The workflows and the action: what they may do, what they run, and what linters of GitHub's own rules say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / ".github" / "scripts").glob("*.sh")) + sorted((ROOT / "image").glob("*.sh"))
BIN = Path(sys.executable).parent


def read(path: Path) -> dict[str, Any]:
    found = yaml.load(path.read_text(), yaml.BaseLoader)  # `on` is no truth value here
    assert isinstance(found, dict)
    return found


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield from ((f"{path.name}:{name}", each) for each in job["steps"])
    yield from (("action.yml", each) for each in read(ROOT / "action.yml")["runs"]["steps"])


def test_there_are_workflows() -> None:
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "image.yml", "train.yml"}


def test_every_action_is_named_by_its_commit_and_release_and_alike_everywhere() -> None:
    text = "".join(path.read_text() for path in [*WORKFLOWS, ROOT / "action.yml"])
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", text, re.MULTILINE)
    pinned = [re.fullmatch(r"(actions/[\w-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used]
    assert used and all(pinned), used
    assert len(set(used)) == len({match[1] for match in pinned if match})


def test_no_input_is_part_of_a_script() -> None:
    assert [where for where, each in steps() if "${{" in each.get("run", "")] == []


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [each for _, each in steps() if each.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) > 3
    assert all(each["with"]["persist-credentials"] == "false" for each in checkouts)


def test_a_workflow_may_read_and_the_image_may_be_pushed() -> None:
    more = {
        path.name: job["permissions"]
        for path in WORKFLOWS
        for job in read(path)["jobs"].values()
        if "permissions" in job
    }
    assert all(read(path)["permissions"] == {"contents": "read"} for path in WORKFLOWS)
    assert more == {
        "image.yml": {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"}
    }
    assert not any("pull_request_target" in path.read_text() for path in WORKFLOWS)


def test_secrets_reach_the_one_step_that_needs_them() -> None:
    for path in WORKFLOWS:
        text = path.read_text()
        for line in (line.strip() for line in text.splitlines() if "${{ secrets." in line):
            assert path.name == "train.yml" and re.fullmatch(r"(\w+): \$\{\{ secrets\.\1 \}\}", line), line
    (trains,) = (each for where, each in steps() if where == "train.yml:train" and each.get("id") == "train")
    assert {"HF_TOKEN", "WANDB_API_KEY"} <= trains["env"].keys()


def test_a_recipe_is_trained_once_at_a_time_and_no_pull_request_is() -> None:
    train = read(ROOT / ".github/workflows/train.yml")["jobs"]["train"]
    assert train["concurrency"]["cancel-in-progress"] == "false"
    assert "inputs.recipe" in train["concurrency"]["group"]
    assert train["if"] == "github.event_name != 'pull_request'" and train["needs"] == "validate"


def test_both_ways_to_start_a_training_take_the_same_inputs() -> None:
    starts = read(ROOT / ".github/workflows/train.yml")["on"]
    assert starts["workflow_call"]["inputs"] == starts["workflow_dispatch"]["inputs"]
    assert len(starts["workflow_dispatch"]["inputs"]) <= 25  # as many as GitHub takes


def test_each_variable_that_a_step_sets_is_read_by_its_script() -> None:
    for where, each in steps():
        script = re.search(r"scripts/(\w+\.sh)", each.get("run", ""))
        if script is None:
            continue
        path = ROOT / ".github" / "scripts" / script[1]
        assert os.access(path, os.X_OK), path
        text = path.read_text() + (path.with_name("messages.sh")).read_text()
        unread = [name for name in each.get("env", {}) if name not in text]
        assert not unread, f"{where}: {unread}"


def test_scripts_stop_at_the_first_fault() -> None:
    assert len(SCRIPTS) > 3
    for path in SCRIPTS:
        if path.name not in {"messages.sh", "engine.sh", "labels.sh"}:  # which others source
            assert re.match(r"#!/usr/bin/env bash\n(#.*\n)+set -euo pipefail\n", path.read_text()), path


def linted(name: str, *words: object) -> None:
    program = shutil.which(name, path=str(BIN))
    if program is None:
        pytest.skip(f"{name} is not installed")
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}  # actionlint asks shellcheck
    done = subprocess.run(
        [program, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing() -> None:
    linted("actionlint", *WORKFLOWS)


def test_the_workflow_that_a_user_is_shown_is_a_good_one(tmp_path: Path) -> None:
    shown = re.findall(
        r"^ *```yaml\n(.*?)^ *```$", (ROOT / "docs/github_actions.md").read_text(), re.DOTALL | re.MULTILINE
    )
    workflow, one_step = (yaml.load(text, yaml.BaseLoader) for text in shown)
    (tmp_path / "adapter.yml").write_text(shown[0])
    linted("actionlint", tmp_path / "adapter.yml")
    called = read(ROOT / ".github/workflows/train.yml")["on"]["workflow_call"]
    (job,) = workflow["jobs"].values()
    assert job["with"].keys() <= called["inputs"].keys() and job["secrets"].keys() <= called["secrets"].keys()
    assert {name for name, about in called["inputs"].items() if about.get("required") == "true"} <= job["with"].keys()
    assert one_step[0]["with"].keys() <= read(ROOT / "action.yml")["inputs"].keys()


def test_the_documentation_names_each_input_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (.*?) ?\|$", (ROOT / "docs/github_actions.md").read_text(), re.MULTILINE)
    inputs = read(ROOT / ".github/workflows/train.yml")["on"]["workflow_call"]["inputs"]
    defaults = {name: about.get("default", "") or about["description"] for name, about in inputs.items()}
    assert [name for name, _ in rows] == list(inputs)
    assert all(told.strip("`") in defaults[name] for name, told in rows)


def test_zizmor_finds_nothing() -> None:
    linted("zizmor", "--offline", "--no-config", "--persona=pedantic", *WORKFLOWS, ROOT / "action.yml")


def test_shellcheck_finds_nothing() -> None:
    linted("shellcheck", "--external-sources", *SCRIPTS)
