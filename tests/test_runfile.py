"""The state of a run: read whatever is there, written in one piece."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from runner import runfile
from runner.errors import DataError, Place, Problem


def test_changes_are_laid_over_what_is_there(tmp_path: Path) -> None:
    assert runfile.read(tmp_path) == {}
    runfile.update(tmp_path, status="preparing", name="a")
    state = runfile.update(tmp_path, status="training", exit_code=None)
    assert runfile.read(tmp_path) == state
    assert (state["status"], state["name"], state["exit_code"]) == ("training", "a", None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", state["updated"])
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_fault_is_kept_whole_until_the_run_goes_on(tmp_path: Path) -> None:
    problem = Problem("the row is no object", Place("a.jsonl", 3, 1, 2, "[]"), "write `{}`")
    runfile.end(tmp_path, "failed", DataError([problem], 9))
    found = runfile.fault(runfile.read(tmp_path))
    assert type(found) is DataError and (found.problems, found.total) == ((problem,), 9)
    assert runfile.read(tmp_path)["exit_code"] == found.exit_code
    assert runfile.fault(runfile.update(tmp_path, status="training")) is None
    assert runfile.fault(runfile.update(tmp_path, status="failed")) is None


@pytest.mark.parametrize("status", ["failed", "interrupted", "not_pushed"])
def test_a_fault_of_an_earlier_version_is_its_sentences(status: str) -> None:
    found = runfile.fault({"status": status, "problems": ["stopped by SIGTERM", "b"]})
    assert found is not None and [problem.message for problem in found.problems] == ["stopped by SIGTERM", "b"]
    for code in (1, 2, 3, 4, 75):
        old = runfile.fault({"status": status, "exit_code": code, "problems": ["a"]})
        assert old is not None and old.exit_code == code
    assert runfile.fault({"status": "done", "problems": ["stopped by SIGTERM"]}) is None
    assert runfile.fault({"status": status, "problems": []}) is None


TORN = {
    "kind": "RunError",
    "total": 1,
    "problems": [{"message": "a", "hint": None, "place": {"file": "a", "line": "x"}}],
}


@pytest.mark.parametrize("fault", [5, [], {}, {"kind": "RunError"}, {"kind": "RunError", "problems": [{}]}, TORN])
def test_what_is_no_fault_is_none(fault: object) -> None:
    assert runfile.fault({"status": "failed", "fault": fault}) is None


def test_a_status_is_one_of_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        runfile.update(tmp_path, status="finished")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff", b"\0" * 100, b"[" * 100_000])
def test_what_is_no_state_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / runfile.NAME).write_bytes(content)
    assert runfile.read(tmp_path) == {}
    assert runfile.update(tmp_path, status="done")["status"] == "done"


def test_any_text_can_be_written(tmp_path: Path) -> None:
    runfile.update(tmp_path, file="é \u2028 caf\udce9")
    assert runfile.read(tmp_path)["file"] == "é \u2028 caf\udce9"
    assert "é" in (tmp_path / runfile.NAME).read_text()


def test_whoever_reads_sees_a_whole_state(tmp_path: Path) -> None:
    runfile.update(tmp_path, round=0, more="x" * 100_000)
    ended = threading.Event()
    torn: list[str] = []

    def watch() -> None:
        while not ended.is_set():
            text = (tmp_path / runfile.NAME).read_text()
            try:
                json.loads(text)
            except ValueError:
                torn.append(text)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(30):
        runfile.update(tmp_path, round=number)
    ended.set()
    watcher.join()
    assert not torn


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()  # a file cannot be renamed onto it
    with pytest.raises(OSError):
        runfile.write(tmp_path / "run.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
