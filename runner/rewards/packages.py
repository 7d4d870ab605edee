"""The packages that a reward needs -> a folder that holds them, filled by pip once.

The folder's name is a hash of what was asked for, so that the same request finds it again. It appears under that name
only when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner import secrets
from runner.errors import Place, Problem, UserError

LAST_LINES = 12  # of what pip says, shown when it fails
TIMEOUT = 1800.0  # seconds


def install(
    requirements: Sequence[str] | Path, folder: Path, place: Place | None = None, timeout: float = TIMEOUT
) -> Path:
    """A folder below `folder` with the packages: requirements as pip writes them, or a requirements file.

    Nothing is run where they are there already. A path to a package counts by its text, not by what lies there.
    `place` is where the recipe asks for them, `timeout` is in seconds. Raises UserError, with pip's last lines.
    """
    wanted = _file_text(requirements) if isinstance(requirements, Path) else _listed(requirements, place)
    target = folder / _key(wanted)
    if target.is_dir():
        return target
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-warn-conflicts",
    ]
    asked = ["--requirement", str(requirements)] if isinstance(requirements, Path) else list(requirements)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix="half-", dir=folder))
    except OSError as error:
        raise UserError(Problem(f"packages cannot be written into `{folder}`: {error.strerror}", place)) from None
    try:
        _run([*command, "--target", str(beside), *asked], timeout, place)
        _take_its_name(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _run(command: list[str], timeout: float, place: Place | None) -> None:
    try:
        ended = subprocess.run(
            command,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        message = f"pip did not install the packages of a reward within {timeout:g} s"
        raise UserError(Problem(message, place, "see whether the package index can be reached from here")) from None
    if ended.returncode != 0:
        said = [line.rstrip() for line in ended.stdout.splitlines() if line.strip()][-LAST_LINES:]
        shown = "\n".join(f"  | {secrets.hide(line)}" for line in said)
        message = f"pip could not install the packages of a reward; its last lines:\n{shown}"
        raise UserError(Problem(message, place, "try the same requirements with `python -m pip install`"))


def _take_its_name(beside: Path, target: Path) -> None:
    try:
        beside.chmod(0o755)  # a folder that is made for a moment lets nobody else in
        beside.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster, and its folder is as good
            raise


def _listed(requirements: Sequence[str], place: Place | None) -> str:
    problems = [
        Problem(
            f"requirement `{each}` is no package", place, "options for pip go into a requirements file, or into `PIP_…`"
        )
        for each in requirements
        if not each.strip() or each.lstrip().startswith("-")
    ]
    if problems:
        raise UserError(problems)
    return json.dumps(sorted(set(requirements)))


def _file_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        message = f"the requirements file cannot be read: {error.strerror}"
        raise UserError(Problem(message, Place(str(file)))) from None
    except ValueError:
        raise UserError(Problem("the requirements file is not UTF-8", Place(str(file)), "save it as UTF-8")) from None


def _key(wanted: str) -> str:
    """The same for the same request and the same interpreter: what is compiled fits no other one."""
    return hashlib.sha256(f"{sys.implementation.cache_tag}\n{sys.platform}\n{wanted}".encode()).hexdigest()[:16]


def _environment(outside: Mapping[str, str]) -> dict[str, str]:
    """The environment without tokens: a package that is built runs code of its own. What pip is told stays."""
    return {
        name: value
        for name, value in outside.items()
        if name.startswith("PIP_") or not (secrets.names_secret(name) or secrets.holds_secret(value))
    }
