"""Trackers: what each is told, what is known before a run starts, and real runs with those that are installed here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import events, run_of, tunesmith, write_recipe

from runner import trackers, workers
from runner.errors import Place, RecipeError, report
from runner.recipe import Tracking
from runner.secrets import redact

NONE = Tracking(False, None, None, None)
ALL = Tracking(True, "birds", "songs", "wings")
RUN = Path("/runs/finch")
SECRET = "correct" + "-horse-battery"


def told(tracking: Tracking = ALL, directory: Path = RUN, **outside: str) -> dict[str, str]:
    return trackers.environment(tracking, directory, outside)


def test_a_recipe_without_trackers_tells_nothing() -> None:
    assert trackers.names(NONE) == [] and told(NONE) == {}
    assert trackers.names(ALL) == ["tensorboard", "wandb", "mlflow", "trackio"]


def test_files_go_to_the_directory_of_the_run() -> None:
    assert told() == {
        "TENSORBOARD_LOGGING_DIR": "/runs/finch/tensorboard",
        "WANDB_PROJECT": "birds",
        "WANDB_DIR": "/runs/finch",
        "MLFLOW_EXPERIMENT_NAME": "songs",
        "DISABLE_MLFLOW_INTEGRATION": "FALSE",
        "MLFLOW_TRACKING_URI": "sqlite:////runs/finch/mlflow.db",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": trackers.RETRIES,
        "TRACKIO_DIR": "/runs/finch/trackio",
    }


def test_the_persons_environment_says_where_and_the_recipe_what() -> None:
    places = {"WANDB_DIR": "/w", "MLFLOW_TRACKING_URI": "https://flow.example", "TRACKIO_DIR": "/t"}
    assert not set(places) & set(told(**places))
    assert set(places) <= set(told(**dict.fromkeys(places, "")))
    assert told(WANDB_PROJECT="other", MLFLOW_EXPERIMENT_NAME="other")["WANDB_PROJECT"] == "birds"


def test_a_run_goes_on_with_the_runs_that_it_had(tmp_path: Path) -> None:
    trackers.note(ALL, tmp_path, told(directory=tmp_path), {"wandb": "w1", "mlflow": "m1"})
    again = told(directory=tmp_path)
    assert (again["WANDB_RUN_ID"], again["WANDB_RESUME"], again["MLFLOW_RUN_ID"]) == ("w1", "allow", "m1")
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert told(directory=moved)["MLFLOW_RUN_ID"] == "m1"
    said = told(directory=moved, WANDB_RUN_ID="mine", WANDB_RESUME="must", MLFLOW_RUN_ID="mine")
    assert not {"WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID"} & set(said)


@pytest.mark.parametrize(
    ("tracking", "outside", "kept"),
    [
        (Tracking(False, "other", "songs", None), {}, {"MLFLOW_RUN_ID"}),
        (Tracking(False, "birds", "other", None), {}, {"WANDB_RUN_ID"}),
        (ALL, {"WANDB_ENTITY": "flock"}, {"MLFLOW_RUN_ID"}),
        (ALL, {"WANDB_BASE_URL": "https://birds.example"}, {"MLFLOW_RUN_ID"}),
        (ALL, {"MLFLOW_TRACKING_URI": "https://flow.example"}, {"WANDB_RUN_ID"}),
    ],
)
def test_in_another_place_a_run_is_begun_anew(
    tmp_path: Path, tracking: Tracking, outside: dict[str, str], kept: set[str]
) -> None:
    trackers.note(ALL, tmp_path, told(directory=tmp_path), {"wandb": "w1", "mlflow": "m1"})
    assert {name for name in told(tracking, tmp_path, **outside) if name.endswith("RUN_ID")} == kept


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"wandb": 7}', '{"wandb": {"run": 7, "place": "birds"}}', "\xff"]
)
def test_notes_that_were_cut_off_are_no_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / trackers.NOTES).write_bytes(text.encode("latin-1"))
    assert "WANDB_RUN_ID" not in told(directory=tmp_path)


def test_no_note_holds_a_password(tmp_path: Path) -> None:
    outside = {"MLFLOW_TRACKING_URI": f"https://ann:{SECRET}@flow.example/x?token={SECRET}"}
    trackers.note(ALL, tmp_path, outside, {"mlflow": "m1"})
    assert SECRET not in (tmp_path / trackers.NOTES).read_text()
    assert told(directory=tmp_path, **outside)["MLFLOW_RUN_ID"] == "m1"


def test_faults_are_told_without_secrets() -> None:
    outside = {"MLFLOW_TRACKING_TOKEN": SECRET, "TOKENIZERS_PARALLELISM": "false", "MY_TOKEN": "of"}
    text = f"no answer of https://ann:pass@flow.example to {SECRET}, false"
    assert redact(text, outside) == "no answer of https://[redacted]@flow.example to [redacted], false"


# before a run starts


def problems(
    tracking: Tracking, folder: Path, importable: Callable[[str], bool] = lambda module: True, **outside: str
) -> list[str]:
    try:
        trackers.check(tracking, outside, folder, importable, lambda path: Place("/recipe.yaml", 1))
    except RecipeError as error:
        assert all(problem.hint and problem.place for problem in error.problems) and report(error)
        return [problem.message for problem in error.problems]
    return []


def test_a_key_is_asked_for_before_anything_starts(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    (message,) = problems(ALL, tmp_path, **home)
    assert message == "`tracking.wandb` needs a key of Weights & Biases, and there is none"
    assert problems(ALL, tmp_path, WANDB_API_KEY="") == [message]
    assert problems(NONE, tmp_path, **home) == []
    for enough in ({"WANDB_API_KEY": "x"}, {"WANDB_IDENTITY_TOKEN_FILE": "x"}, {"WANDB_MODE": "Offline"}):
        assert problems(ALL, tmp_path, **home, **enough) == []


@pytest.mark.parametrize(
    ("file", "outside"),
    [
        ("home/.netrc", {}),
        ("home/_netrc", {}),
        ("keys", {"NETRC": "{}/keys"}),
        ("home/.config/wandb/settings", {}),
        ("settled/settings", {"WANDB_CONFIG_DIR": "{}/settled"}),
        ("wandb/settings", {}),
    ],
)
def test_a_file_that_may_hold_a_key_is_enough(tmp_path: Path, file: str, outside: dict[str, str]) -> None:
    outside = {name: value.format(tmp_path) for name, value in outside.items()} | {"HOME": str(tmp_path / "home")}
    assert problems(ALL, tmp_path, **outside)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("machine api.wandb.ai login user password x\n")
    assert problems(ALL, tmp_path, **outside) == []


def test_mlflow_needs_a_server_or_what_writes_to_a_file(tmp_path: Path) -> None:
    tracking = Tracking(False, None, "songs", None)

    def skinny(module: str) -> bool:
        return module != "sqlalchemy"

    (message,) = problems(tracking, tmp_path, skinny)
    assert "`sqlalchemy`" in message
    assert problems(tracking, tmp_path, skinny, MLFLOW_TRACKING_URI="postgresql+psycopg2://x/y")
    assert problems(tracking, tmp_path, skinny, MLFLOW_TRACKING_URI="https://flow.example") == []
    assert problems(tracking, tmp_path) == []
    assert len(problems(ALL, tmp_path, skinny)) == 2


def test_no_worker_tells_the_makers_of_packages_anything() -> None:
    assert trackers.QUIET.items() <= workers.QUIET.items()


# real runs


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, beside the home of whoever trains there."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def tracked(elsewhere: Path, model: Path, name: str, value: Any, **environment: str) -> Path:
    """The directory of a finished run with one tracker, which left nothing where the command was given."""
    recipe = write_recipe(elsewhere.parent, model, {"tracking": {name: value}})
    ended = tunesmith("train", recipe, environment=environment)
    assert ended.code == 0, ended.out + ended.err
    assert list(elsewhere.iterdir()) == []
    return run_of(recipe)


def losses(directory: Path) -> list[tuple[int, Any]]:
    """Step and loss, as the run's own files have them."""
    return [(event["step"], pytest.approx(event["loss"], abs=1e-3)) for event in events(directory)]


@pytest.mark.slow
def test_tensorboard_has_the_loss_of_each_step(tiny_model: Path, elsewhere: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    directory = tracked(elsewhere, tiny_model, "tensorboard", True)
    read = EventAccumulator(str(directory / "tensorboard"))
    read.Reload()
    assert [(point.step, point.value) for point in read.Scalars("train/loss")] == losses(directory)
    assert not (directory / trackers.NOTES).exists()


@pytest.mark.slow
def test_wandb_has_the_loss_of_each_step(tiny_model: Path, elsewhere: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    key = "0123456789abcdef" * 2 + "01234567"
    directory = tracked(elsewhere, tiny_model, "wandb", "birds", WANDB_MODE="offline", WANDB_API_KEY=key)
    (file,) = (directory / "wandb").glob("offline-run-*/run-*.wandb")
    assert key.encode() not in file.read_bytes()
    points, runs = [], []
    for record in leveldb(file.read_bytes()):
        read = wandb_internal_pb2.Record.FromString(record)
        if read.HasField("run"):
            runs.append((read.run.project, read.run.display_name, read.run.run_id))
        logged = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in read.history.item}
        if "train/loss" in logged:
            points.append((logged["train/global_step"], logged["train/loss"]))
    assert points == losses(directory)
    noted = json.loads((directory / trackers.NOTES).read_text())
    assert runs == [("birds", "recipe", noted["wandb"]["run"])]


def leveldb(data: bytes, start: int = 7, block: int = 32768) -> list[bytes]:
    """The records of a log in LevelDB's format, whose parts have headers of seven bytes, behind the file's own."""
    records, held, at = [], b"", start
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(held)
            held = b""
    return records


@pytest.mark.slow
def test_mlflow_has_the_loss_of_each_step(tiny_model: Path, elsewhere: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    directory = tracked(elsewhere, tiny_model, "mlflow", "songs")
    with sqlite3.connect(directory / "mlflow.db") as read:
        points = read.execute("select step, value from metrics where key = 'loss' order by step").fetchall()
        (run,) = read.execute(
            "select run_uuid, runs.name, experiments.name from runs join experiments using (experiment_id)"
        ).fetchall()
    assert points == losses(directory)
    noted = json.loads((directory / trackers.NOTES).read_text())
    assert run == (noted["mlflow"]["run"], "recipe", "songs")
    assert not list((elsewhere.parent / "home").rglob("telemetry.json"))


@pytest.mark.slow
def test_mlflow_that_cannot_be_reached_is_told_without_a_traceback(tiny_model: Path, elsewhere: Path) -> None:
    pytest.importorskip("mlflow")
    address = {"MLFLOW_TRACKING_URI": f"http://ann:{SECRET}@127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    recipe = write_recipe(elsewhere.parent, tiny_model, {"tracking": {"mlflow": "songs"}})
    ended = tunesmith("train", recipe, environment=address)
    assert ended.code == 1 and "Traceback" not in ended.out + ended.err
    assert ended.err.startswith("error: `tracking.mlflow` cannot log: ")
    assert not [path for path in elsewhere.parent.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_trackio_has_the_loss_of_each_step(tiny_model: Path, elsewhere: Path) -> None:
    pytest.importorskip("trackio")
    directory = tracked(elsewhere, tiny_model, "trackio", "wings")
    with sqlite3.connect(directory / "trackio" / "wings.db") as read:
        rows = read.execute("select run_name, metrics from metrics order by id").fetchall()
    logged = [json.loads(metrics) for _, metrics in rows]
    points = [(each["train/global_step"], each["train/loss"]) for each in logged if "train/loss" in each]
    assert points == losses(directory) and {name for name, _ in rows} == {"recipe"}
