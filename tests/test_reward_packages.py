"""Packages of rewards: installed once, whole or not at all, and a clear word when pip fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import Place, UserError
from runner.rewards import packages
from runner.rewards.contract import Batch, Settings
from runner.rewards.pool import Pool


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that says what it saw of the environment while it was built, by a backend of its own."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    root = tmp_path / "package"
    root.mkdir()
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny_scores"\nversion = "1.0"\n'
    )
    (root / "backend.py").write_text(
        "import os, zipfile\n"
        "def build_wheel(folder, settings=None, metadata=None):\n"
        "    name = 'tiny_scores-1.0-py3-none-any.whl'\n"
        "    info = 'tiny_scores-1.0.dist-info/'\n"
        "    with zipfile.ZipFile(os.path.join(folder, name), 'w') as wheel:\n"
        "        wheel.writestr('tiny_scores.py', f'SCORE = 0.75\\nSEEN = {sorted(os.environ)!r}\\n')\n"
        "        wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny_scores\\nVersion: 1.0\\n')\n"
        "        wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    return root


def test_a_package_is_installed_once_and_a_reward_imports_it(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    folder = packages.install([str(package)], tmp_path / "packages")
    assert "HF_TOKEN" not in (folder / "tiny_scores.py").read_text()
    (folder / "mark").write_text("")
    (package / "backend.py").write_text("broken")
    assert packages.install([str(package)], tmp_path / "packages") == folder
    assert (folder / "mark").exists()
    assert list((tmp_path / "packages").iterdir()) == [folder]
    file = tmp_path / "reward.py"
    file.write_text("from tiny_scores import SCORE\ndef reward(prompt, completion, example):\n    return SCORE\n")
    with Pool([Settings("reward", file, packages=(folder,))], 1, tmp_path / "scratch", print) as pool:
        assert pool.score(Batch(1, 0.0, [{}], ["p"], ["c"]))["reward"].values == [0.75]


def test_a_requirements_file_is_known_by_its_text(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"{package}\n")
    first = packages.install(file, tmp_path / "packages")
    assert (first / "tiny_scores.py").is_file()
    (package / "backend.py").write_text("broken")
    file.write_text(f"# another\n{package}\n")
    with pytest.raises(UserError):
        packages.install(file, tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == [first]


def test_what_pip_cannot_install_is_told_with_its_last_lines(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        packages.install(["tunesmith-no-such-package"], tmp_path / "packages", Place("recipe.yaml", 3))
    problem = caught.value.problems[0]
    assert "its last lines:\n  | " in problem.message
    assert "  | ERROR: No matching distribution found for tunesmith-no-such-package" in problem.message
    assert problem.place == Place("recipe.yaml", 3)
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_folder_that_was_left_half_filled_is_not_taken(package: Path, tmp_path: Path) -> None:
    half = tmp_path / "packages" / "half-x"
    half.mkdir(parents=True)
    folder = packages.install([str(package)], tmp_path / "packages")
    assert folder != half
    assert (folder / "tiny_scores.py").is_file()


def test_all_wrong_requirements_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        packages.install(["--index-url=http://x", "", "fine"], tmp_path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_a_requirements_file_that_cannot_be_read_is_told(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "requirements.txt"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(UserError, match="requirements file"):
        packages.install(file, tmp_path / "packages")
