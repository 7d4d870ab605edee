"""Events: over a pipe to whoever listens, and into a file that can be gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import events


def step(number: int, **facts: Any) -> dict[str, Any]:
    return {"event": "step", "step": number, **facts}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> int:
    """The end of a pipe at which a supervisor listens."""
    reading, writing = os.pipe()
    monkeypatch.setenv(events.DESCRIPTOR, str(writing))
    return reading


def test_steps_and_evaluations_are_kept_and_all_is_told(tmp_path: Path, listening: int) -> None:
    teller = events.Teller(tmp_path / "metrics.jsonl", 0)
    told = [{"event": "start", "step": 0}, step(1, loss=0.5), {"event": "evaluation", "step": 1}, {"event": "saved"}]
    for event in told:
        teller(event)
    teller.file.close()
    assert lines(tmp_path / "metrics.jsonl") == told[1:3]
    assert [json.loads(line) for line in os.read(listening, 4096).splitlines()] == told
    os.close(listening)


def test_without_a_supervisor_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(events.DESCRIPTOR, raising=False)
    teller = events.Teller(tmp_path / "metrics.jsonl", 0)
    teller(step(1))
    teller.file.close()
    events.tell({"event": "prepared"})
    assert lines(tmp_path / "metrics.jsonl") == [step(1)]


def test_a_supervisor_that_is_gone_stops_nothing(tmp_path: Path, listening: int) -> None:
    teller = events.Teller(tmp_path / "metrics.jsonl", 0)
    os.close(listening)
    events.tell({"event": "prepared"})
    for number in (1, 2):
        teller(step(number))
    teller.file.close()
    assert lines(tmp_path / "metrics.jsonl") == [step(1), step(2)]


def test_more_than_a_pipe_holds_is_told_whole(listening: int) -> None:
    event = {"event": "prepared", "data": "x" * 300_000, "file": "caf\udce9\u2028"}
    child = os.fork()
    if child == 0:
        events.tell(event)
        os._exit(0)
    os.close(int(os.environ[events.DESCRIPTOR]))
    with os.fdopen(listening, encoding="utf-8") as pipe:
        assert [json.loads(line) for line in pipe] == [event]
    assert os.waitpid(child, 0)[1] == 0


def test_a_run_that_goes_on_logs_later_steps_again(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(step(number)) + "\n" for number in range(1, 6)))
    events.truncate(metrics, 3)
    assert lines(metrics) == [step(1), step(2), step(3)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    events.truncate(metrics, 0)
    assert metrics.read_text() == ""
    events.truncate(tmp_path / "nothing.jsonl", 3)
    assert not (tmp_path / "nothing.jsonl").exists()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60) | st.sampled_from([b"\0" * 20, b'{"step": "3"}', b"[1]\n5\nnull", b'{"step": 1, "x": "\xc3'])
)
def test_what_a_kill_cut_off_is_dropped(tmp_path: Path, rest: bytes) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes((json.dumps(step(1)) + "\n").encode() + rest)
    events.truncate(metrics, 1)
    found = lines(metrics)
    assert found[0] == step(1)
    assert all(isinstance(each, dict) and each.get("step", 0) <= 1 for each in found)
