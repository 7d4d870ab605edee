"""A recipe's trackers -> what their packages have to be told, and which of their runs an interrupted one goes on with.

The packages are told through the environment, since they have no other way, and before anything imports them: TRL
imports those that it finds, whatever a recipe says, and some read their settings while they are imported. Files go to
the run's directory unless the person's own environment says where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from runner import runfile
from runner.errors import Place, Problem, RecipeError
from runner.recipe import Tracking

NOTES = "tracking.json"  # in a run's directory: tracker -> its run, and where that is
# For every worker: what the packages tell their makers, which nobody asked them to.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow writes to itself, without a server
RETRIES = "3"  # of a message to MLflow, ten seconds in all; its own seven keep a run from its end for hours
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
AWAY_FROM_THE_NETWORK = ("offline", "disabled", "dryrun")
# What stands in front of the `@` of an address, which may be a password.
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")

Places = Callable[[tuple[str, ...]], Place | None]


def names(tracking: Tracking) -> list[str]:
    """The trackers that a recipe asks for, each by the name of its key and of its module."""
    return [field.name for field in fields(tracking) if getattr(tracking, field.name)]


def check(
    tracking: Tracking, outside: Mapping[str, str], folder: Path, importable: Callable[[str], bool], place: Places
) -> None:
    """Raise RecipeError where a tracker could not be started, for want of a key or of a part of its package.

    `outside` is the person's environment, `folder` the working directory; `importable` says whether a module can be
    imported, and `place` where a key of the recipe stands.
    """
    problems = []
    if tracking.wandb and _has_no_key(outside, folder):
        problems.append(
            Problem(
                "`tracking.wandb` needs a key of Weights & Biases, and there is none",
                place(("tracking", "wandb")),
                "set `WANDB_API_KEY` in the environment, or `WANDB_MODE=offline` to keep its files for later",
            )
        )
    address = outside.get("MLFLOW_TRACKING_URI") or "sqlite:"
    if tracking.mlflow and address.startswith(DATABASES) and not importable("sqlalchemy"):  # as with `mlflow-skinny`
        problems.append(
            Problem(
                "`tracking.mlflow` has no server to log to, and needs the package `sqlalchemy` to log to a file",
                place(("tracking", "mlflow")),
                "`pip install mlflow`, or set `MLFLOW_TRACKING_URI` to the address of a server",
            )
        )
    if problems:
        raise RecipeError(problems)


def environment(tracking: Tracking, directory: Path, outside: Mapping[str, str]) -> dict[str, str]:
    """What is to be put into the environment of a run that writes to `directory`, which is absolute.

    `outside` is the environment as the person made it. It says where files and runs are; what is logged, and to which
    project, is for the recipe to say. A run that was interrupted goes on with the trackers' runs that it had.
    """
    told: dict[str, str] = {}
    if tracking.tensorboard:
        told["TENSORBOARD_LOGGING_DIR"] = str(directory / "tensorboard")
    if tracking.wandb:
        told["WANDB_PROJECT"] = tracking.wandb
        told |= _unless_said(outside, WANDB_DIR=str(directory))
        if run := _earlier("wandb", tracking, directory, outside):
            told |= _unless_said(outside, WANDB_RUN_ID=run, WANDB_RESUME="allow")
    if tracking.mlflow:
        told["MLFLOW_EXPERIMENT_NAME"] = tracking.mlflow
        told["DISABLE_MLFLOW_INTEGRATION"] = "FALSE"
        told |= _unless_said(outside, MLFLOW_TRACKING_URI=_database(directory))
        told |= _unless_said(outside, MLFLOW_HTTP_REQUEST_MAX_RETRIES=RETRIES)
        if run := _earlier("mlflow", tracking, directory, outside):
            told |= _unless_said(outside, MLFLOW_RUN_ID=run)
    if tracking.trackio:
        told |= _unless_said(outside, TRACKIO_DIR=str(directory / "trackio"))
    return told


def note(tracking: Tracking, directory: Path, outside: Mapping[str, str], runs: Mapping[str, str]) -> None:
    """Write down the trackers' runs, so that this run goes on with them after an interruption."""
    noted = {name: {"run": run, "place": _place(name, tracking, directory, outside)} for name, run in runs.items()}
    runfile.write(directory / NOTES, json.dumps(noted, indent=1) + "\n")


def _has_no_key(outside: Mapping[str, str], folder: Path) -> bool:
    """Whether Weights & Biases would ask for a key. A file that may hold one is enough: the package will read it."""
    if outside.get("WANDB_MODE", "").lower() in AWAY_FROM_THE_NETWORK or any(outside.get(key) for key in KEYS):
        return False
    home = Path(outside.get("HOME") or "/")
    files = [
        Path(outside.get("NETRC") or home / ".netrc"),
        home / "_netrc",
        Path(outside.get("WANDB_CONFIG_DIR") or home / ".config" / "wandb") / "settings",
        Path(outside.get("WANDB_DIR") or folder) / "wandb" / "settings",
    ]
    return not any(file.is_file() for file in files)


def _unless_said(outside: Mapping[str, str], **told: str) -> dict[str, str]:
    return {name: value for name, value in told.items() if not outside.get(name)}


def _earlier(name: str, tracking: Tracking, directory: Path, outside: Mapping[str, str]) -> str | None:
    """The tracker's run that this run was logged to before, if that is still the place to log to."""
    try:
        noted = json.loads((directory / NOTES).read_text(encoding="utf-8"))[name]
        run, place = noted["run"], noted["place"]
    except (OSError, ValueError, TypeError, LookupError):  # there is none, or it was cut off
        return None
    return run if isinstance(run, str) and place == _place(name, tracking, directory, outside) else None


def _place(name: str, tracking: Tracking, directory: Path, outside: Mapping[str, str]) -> str:
    """Where a tracker's run is, without secrets: in another place its number means nothing, or another run."""
    if name == "wandb":
        parts = [outside.get("WANDB_BASE_URL", ""), outside.get("WANDB_ENTITY", ""), tracking.wandb or ""]
    else:
        address = outside.get("MLFLOW_TRACKING_URI", "")
        parts = ["" if address == _database(directory) else address, tracking.mlflow or ""]
    return " ".join(LOGIN.sub("", part).partition("?")[0] for part in parts).strip()


def _database(directory: Path) -> str:
    """Where MLflow's runs are unless the person says so."""
    return f"sqlite:///{directory / 'mlflow.db'}"
