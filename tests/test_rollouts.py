"""The files that sampling leaves: whole lines, in order, and each step once however often a run goes on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner import rollouts
from runner.rollouts import COMPLETIONS, REWARDS, Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(Log(tmp_path)) as made:
        yield made


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_each_line_is_on_the_disk_at_once(tmp_path: Path, log: Log) -> None:
    log.completion({"step": 1, "completion": "ä\n\u2028 \x00 end", "total": None})
    log.told({"kind": "printed", "step": 1, "text": "a\nb"})
    assert lines(tmp_path / COMPLETIONS)[0]["total"] is None
    assert (tmp_path / COMPLETIONS).read_bytes().count(b"\n") == 1
    assert (tmp_path / REWARDS).read_text() == '{"kind": "printed", "step": 1, "text": "a\\nb"}\n'


def test_half_a_character_and_what_json_does_not_know(tmp_path: Path, log: Log) -> None:
    """A model samples halves of characters, and a reward may log anything."""
    log.completion({"step": 1, "completion": "\ud83d"})
    log.told({"kind": "logged", "step": 1, "metrics": {"path": tmp_path, "share": float("nan")}})
    assert len(lines(tmp_path / COMPLETIONS)) == 1
    assert lines(tmp_path / REWARDS)[0]["metrics"]["path"] == str(tmp_path)


def test_a_run_that_goes_on_keeps_what_was_before_it(tmp_path: Path) -> None:
    for steps in ((1, 2, 3), (3, 4)):
        rollouts.truncate(tmp_path, steps[0] - 1)
        with closing(Log(tmp_path)) as log:
            for step in steps:
                log.completion({"step": step, "text": str(steps)})
                log.told({"kind": "printed", "step": step})
    assert [line["step"] for line in lines(tmp_path / COMPLETIONS)] == [1, 2, 3, 4]
    assert [line["text"] for line in lines(tmp_path / COMPLETIONS)][2] == "(3, 4)"
    assert [line["step"] for line in lines(tmp_path / REWARDS)] == [1, 2, 3, 4]


def test_a_run_from_the_start_begins_its_files_anew(tmp_path: Path, log: Log) -> None:
    log.completion({"step": 1})
    log.told({"step": 9})
    rollouts.truncate(tmp_path, 0)
    assert (tmp_path / COMPLETIONS).read_bytes() == (tmp_path / REWARDS).read_bytes() == b""
    rollouts.truncate(tmp_path / "nothing here", 3)


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path, log: Log) -> None:
    log.completion({"step": 1})
    with (tmp_path / COMPLETIONS).open("ab") as file:
        file.write(b'{"step": 1, "completion": "\xc3')
    rollouts.truncate(tmp_path, 1)
    assert lines(tmp_path / COMPLETIONS) == [{"step": 1}]


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two", "one\x0btwo\x1cthree"])
def test_what_looks_like_the_end_of_a_line_is_kept(tmp_path: Path, log: Log, text: str) -> None:
    """These end a line for `str.splitlines`, and not in a file of JSON lines."""
    log.completion({"step": 1, "completion": text})
    log.completion({"step": 2, "completion": text})
    rollouts.truncate(tmp_path, 1)
    (kept,) = [json.loads(line) for line in (tmp_path / COMPLETIONS).read_bytes().decode().split("\n") if line]
    assert kept == {"step": 1, "completion": text}


def append(folder: Path, rank: int) -> None:
    with closing(Log(folder)) as log:
        for number in range(200):
            log.completion({"step": number, "rank": rank, "completion": "x" * 5000})


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append, args=(tmp_path, rank)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = lines(tmp_path / COMPLETIONS)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for rank in range(3):
        assert [line["step"] for line in found if line["rank"] == rank] == list(range(200))
