"""A whole run with secrets planted wherever one can come from: none of them is in anything that it leaves or prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from grpo_runs import lines, write_grpo
from hub_server import TOKEN, HubServer
from runs import run_of, tunesmith

from runner.secrets import MASK

pytestmark = pytest.mark.slow

NAMED = {  # by the name of their variable
    "WANDB_API_KEY": "key-of-the-tracker-0123",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+of/ann0123456789",
    "MLFLOW_TRACKING_URI": "https://ann:flow-of-words@127.0.0.1:1/x",
}
SHAPED = ["ghp_" + "Ef3" * 12, "sk-" + "Cd2" * 12, "hf_" + "Zz9" * 12]
PLANTED = [TOKEN, "flow-of-words", *NAMED.values(), *SHAPED]
PRINTS = """
import os, sys
if "runner.worker" in sys.orig_argv:
    print("a library says", *[os.environ[name] for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY")], file=sys.stderr)
"""
REWARD = f"""
import os
from pathlib import Path

PLANTED = {PLANTED!r}


def leaks(prompt: str, completion: str, example: dict[str, str]) -> float:
    print("as it happens:", *PLANTED)
    for process in ("self", os.getppid(), *filter(str.isdecimal, os.listdir("/proc"))):
        try:
            environment = Path(f"/proc/{{process}}/environ").read_text(errors="replace")
        except OSError:
            continue
        assert not any(secret in environment for secret in PLANTED), "a secret is in an environment"
    return float(len(completion))


def fails(prompt: str, completion: str, example: dict[str, str]) -> float:
    raise ValueError(f"cannot reach {{PLANTED}}")
"""


def found_in(folder: Path) -> list[tuple[str, str]]:
    """Every planted secret in every byte below a folder, by file; the prepared rows are the person's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and "prepared" not in path.parts]
    assert files
    return [
        (str(path.relative_to(folder)), secret)
        for path in files
        for secret in PLANTED
        if secret.encode() in path.read_bytes()
    ]


def test_no_secret_is_in_anything_that_a_run_leaves(hub_server: HubServer, tiny_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "sitecustomize.py").write_text(PRINTS)
    (tmp_path / "leaks.py").write_text(REWARD)
    rewards = [{"file": "leaks.py", "function": "leaks"}, {"file": "leaks.py", "function": "fails"}]
    changes = {
        "dataset": {"evaluation": "evaluation.jsonl"},
        "training": {"max_steps": 1},
        "output": {"directory": "outputs", "hub": {"repository": "ann/adapter", "checkpoints": True}},
    }
    recipe = write_grpo(tmp_path, tiny_model, rewards, changes)
    recipe.write_text(f"# {' '.join(PLANTED)}\n{recipe.read_text()}")
    for name in ("train.jsonl", "evaluation.jsonl"):
        rows = [row | {"prompt": f"{row['prompt']} {SHAPED[0]} {TOKEN}"} for row in lines(tmp_path / name)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = tmp_path / "summary.md"
    environment = hub_server.environment | NAMED
    environment |= {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(library)}

    run = tunesmith("train", recipe, environment=environment)
    directory = run_of(recipe)
    assert run.code == 0, run.out + run.err
    assert found_in(directory) == []
    # each sink was met
    for name in ("completions.jsonl", "rewards.jsonl", "recipe.yaml", "report.html", "logs/train-0.log"):
        assert MASK in (directory / name).read_text(), name
    for line in lines(directory / "completions.jsonl"):
        assert line["scores"]["leaks"] == len(line["completion"]) or MASK in line["completion"]

    shown = [run.out, run.err, summary.read_text()]
    pushed = [
        content
        for branch in hub_server.repositories["ann/adapter"].branches.values()
        for commit in branch
        for content in commit.files.values()
    ]
    assert {"main", "checkpoints"} <= set(hub_server.repositories["ann/adapter"].branches)
    for secret in PLANTED:
        assert not any(secret in text for text in shown)
        assert not any(secret.encode() in content for content in pushed)

    # a fault that quotes what it met
    written = yaml.safe_load(recipe.read_text())
    (tmp_path / "broken.jinja").write_text(f"{{{{ raise_exception('{' '.join(PLANTED)}') }}}}")
    written["model"]["chat_template"] = "broken.jinja"
    written["name"] = "faulty"
    written["output"].pop("hub")
    rows = [{"prompt": [{"role": "user", "content": SHAPED[1]}], **NAMED}] * 4
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written["dataset"].pop("evaluation")
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text(yaml.safe_dump(written))
    failed = tunesmith("train", faulty, environment=environment)
    assert failed.code == 2 and MASK in failed.err and "Traceback" not in failed.err, failed.err
    assert found_in(directory.parent / "faulty") == []
    assert not any(secret in failed.out + failed.err + summary.read_text() for secret in PLANTED)
