"""The rules of the house: layers, the torch line, file sizes, versions, locks, and what no file may say."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import runner

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"accelerate", "datasets", "deepspeed", "peft", "torch", "transformers", "trl"}
MOST_LINES = 400
NOT_OURS = {"build", "dist", "models", "outputs", "shared", "__pycache__"}
HIDDEN_BUT_OURS = {".ci", ".github"}

# Written so that this file does not say them either.
UNSAID = {
    "a path of one machine": r"/wor[k]/(main|shared)|/tmp/[l]ab|/opt/(wheels|pypi)|/User[s]/\w+|\.pyen[v]/",
    "work put off": r"\bTO[D]O\b|\bFIX[M]E\b|\bX[X]X\b",
    "a line hidden from the coverage": r"pragma: n[o] cover",
}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def our_files() -> Iterator[Path]:
    for directory, below, names in os.walk(ROOT):
        below[:] = [
            name
            for name in below
            if name not in NOT_OURS and not name.endswith(".egg-info") and (name[0] != "." or name in HIDDEN_BUT_OURS)
        ]
        yield from (Path(directory, name) for name in names if not name.endswith((".pyc", ".lock", ".jsonl", ".whl")))


def python_files() -> list[Path]:
    files = sorted((ROOT / "runner").rglob("*.py"))
    assert len(files) > 10
    return files


def pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """Of a lock: package -> version and hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = re.findall(r"^([a-z0-9-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})*)\s*$", text, re.MULTILINE)
    assert len(found) == len([line for line in text.splitlines() if line.strip() and not line.startswith("#")])
    return {package: (version, hashes.split()) for package, version, hashes in found}


def test_each_file_imports_only_what_stands_below_it() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_after(statements: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after these statements."""
    program = f"import sys, json\n{statements}\nprint()\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert loaded_after("import runner.cli") == set()


@pytest.mark.parametrize("verb", ["validate", "plan", "doctor"])
def test_a_recipe_is_checked_and_planned_without_anything_heavy(verb: str) -> None:
    run = f"""
import contextlib
import runner.cli
sys.argv = ["tunesmith", {verb!r}, "recipes/sft_instruction.yaml"]
with contextlib.suppress(SystemExit):
    runner.cli.main()
assert "runner.reading.check" in sys.modules
"""
    assert loaded_after(run) == set()


def test_the_probe_for_heavy_packages_sees_one() -> None:
    assert loaded_after("sys.modules['trl'] = sys") == {"trl"}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_opens_with_what_it_is_for(path: Path) -> None:
    assert re.match(r'"""\S', path.read_text())


@pytest.mark.parametrize("what", UNSAID)
def test_no_file_says(what: str) -> None:
    files = list(our_files())
    assert ROOT / ".ci" / "run" in files and Path(__file__) in files
    said = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(UNSAID[what], line)
    ]
    assert not said, "\n".join(said)


def test_the_versions_agree() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert project()["project"]["version"] == runner.__version__ == newest[1]


def test_the_files_that_may_be_heavy_are_named_alike_by_both_linters() -> None:
    settings = project()["tool"]
    ruff = {
        name.removesuffix(".py").removesuffix("/*").replace("/", ".")
        for name, rules in settings["ruff"]["lint"]["per-file-ignores"].items()
        if name.startswith("runner/") and "TID253" in rules
    }
    (light,) = (contract for contract in settings["importlinter"]["contracts"] if contract["id"] == "light")
    linter = {
        edge.removesuffix(" -> *").removesuffix(".**") for edge in light["ignore_imports"] if edge.endswith(" -> *")
    }
    assert ruff == linter
    assert set(light["forbidden_modules"]) == HEAVY
    assert set(settings["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]) >= HEAVY


def test_what_is_imported_is_declared() -> None:
    asked = project()["project"]
    wanted = asked["dependencies"] + [name for extra in asked["optional-dependencies"].values() for name in extra]
    declared = {canonicalize_name(Requirement(name).name) for name in wanted}
    homes = importlib.metadata.packages_distributions()
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"runner"}:
                assert declared & {canonicalize_name(home) for home in homes.get(name, [name])}, f"`{name}` in {path}"


def test_the_locks_hold_what_the_project_asks_for() -> None:
    asked = project()["project"]
    extras = asked["optional-dependencies"]
    run = asked["dependencies"] + extras["train"] + extras["tracking"] + extras["qlora"]
    for wanted, locks in ((run, ("", "-cuda")), (extras["dev"], ("-dev",)), (extras["flash"], ("-flash",))):
        locked = {package: pin for lock in locks for package, pin in pins(f"requirements{lock}.lock").items()}
        for requirement in map(Requirement, wanted):
            version, _ = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: `make lock`"


def test_the_locks_agree_on_torch_and_hash_everything() -> None:
    cpu, cuda, rest = (pins(f"requirements{name}.lock") for name in ("-cpu", "-cuda", ""))
    assert cpu["torch"][0].removesuffix("+cpu") == cuda["torch"][0]
    development = pins("requirements-dev.lock")
    assert not (cpu.keys() | cuda.keys()) & (rest.keys() | development.keys())
    assert not rest.keys() & development.keys()
    others = pins("requirements-model.lock"), pins("requirements-flash.lock")
    assert all(hashes for lock in (cpu, cuda, rest, development, *others) for _, hashes in lock.values())


def test_make_help_names_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make ([\w-]+)", done.stdout, re.MULTILINE) == phony[1].split()


def test_make_says_what_is_wrong_with_an_interpreter() -> None:
    done = subprocess.run(
        ["make", "--always-make", "setup", "PYTHON=no-such-python", "ACCELERATOR=cpu"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, and `no-such-python` is not that\nhint: ")
