"""A secret in a recipe is refused, and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipe import SMALLEST, faults, only, write

from runner import errors
from runner.reading import check


def token(shape: str) -> str:
    """A text that is shaped like a secret, put together here so that no scanner takes this file to hold one."""
    return {
        "hf": "hf_" + "Ab1" * 12,
        "sk": "sk-" + "Cd2" * 12,
        "aws": "AKIA" + "ABCD1234" * 2,
        "github": "ghp_" + "Ef3" * 12,
        "wandb": "0123456789abcdef" * 2 + "01234567",
    }[shape]


@pytest.mark.parametrize("shape", ["hf", "sk", "aws", "github", "wandb"])
@pytest.mark.parametrize(
    "key", ["tracking.wandb", "training.epochs", "model.name", "name", "dataset.train.0.path", "tokn"]
)
def test_no_fault_tells_a_secret(tmp_path: Path, shape: str, key: str) -> None:
    text = "task: sft\nmodel: {name: owner/model}\ndataset: {train: [{path: rows.jsonl}]}\n"
    with pytest.raises(errors.RecipeError) as caught:
        check.read(write(tmp_path, text), [f"{key}={token(shape)}"])
    assert any("looks like a secret" in problem.message for problem in caught.value.problems)
    for style in ("text", "json", "github"):
        assert token(shape) not in errors.report(caught.value, style)


def test_a_secret_in_the_recipe_is_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + f"tracking: {{wandb: {token('wandb')}, mlflo: x}}\n")
    with pytest.raises(errors.RecipeError) as caught:
        check.read(path)
    report = errors.report(caught.value)
    assert token("wandb") not in report and "`tracking.wandb` looks like a secret" in report
    assert "mlflow" in report


def test_a_key_that_names_a_secret_shows_no_line(tmp_path: Path) -> None:
    problem = only(write(tmp_path, SMALLEST + "output: {hub: {repository: a/b, token: correct-horse}}\n"))
    assert problem.place is not None and problem.place.text is None
    assert "HF_TOKEN" in str(problem.hint)


def test_a_commit_is_no_secret(tmp_path: Path) -> None:
    assert check.read(write(tmp_path), [f"model.revision={token('wandb')}"]).model.revision == token("wandb")


def test_a_secret_of_the_environment_is_refused_whatever_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "correct-horse")
    problem = only(write(tmp_path, SMALLEST + "tracking: {wandb: the correct-horse}\n"))
    assert "`tracking.wandb` holds a secret of the environment" in problem.message
    assert "correct-horse" not in errors.report(errors.RecipeError(problem))


def test_a_login_in_an_address_is_refused(tmp_path: Path) -> None:
    text = SMALLEST.replace("rows.jsonl", '"https://ann:correct-horse@host/rows.jsonl"')
    found = faults(write(tmp_path, text))
    assert any("`dataset.train` looks like a secret" in problem.message for problem in found)
    assert "correct-horse" not in errors.report(errors.RecipeError(found))
