"""Machines, containers and accounts that tests make up: a root with the files that the kernel would show there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.doctor.finding import Finding, Surroundings
from runner.doctor.needs import Needs


def files(root: Path, contents: Mapping[str, str]) -> Path:
    """The root with these files below it, each by its path."""
    for path, content in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def surroundings(root: Path, user_name: str | None = "someone", **environment: str) -> Surroundings:
    """Those of a user with a home below the root, and nothing else in the environment."""
    (root / "home").mkdir(exist_ok=True)
    return Surroundings({"HOME": str(root / "home"), **environment}, 1000, user_name, root)


def needs(folder: Path, **more: object) -> Needs:
    """Those of a run of one process that writes below a folder."""
    return Needs(**{"output": folder / "outputs", "processes": 1, **more})  # type: ignore[arg-type]


def told(finding: Finding) -> tuple[str, str, str]:
    """What a test compares: name, status, what was found."""
    return finding.name, finding.status, finding.found
