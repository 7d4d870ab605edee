"""What a run was made by: versions, the recipe's commit, the time."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path

import runner

PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "datasets", "huggingface-hub")


def versions() -> dict[str, str]:
    """The versions of what computes, by name; a package that is not installed is not among them."""
    found = {"tunesmith": runner.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(recipe: Path) -> str | None:
    """The git commit that the recipe's folder is at, if it is in a repository and git is installed."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(recipe.resolve().parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
