"""The help texts of the recipe for text: made the same each time, none held out that is trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "recipes" / "python_topics"
FILES = ("train.jsonl", "evaluation.jsonl")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The files that this machine's Python gives."""
    subprocess.run([sys.executable, FOLDER / "make_data.py", tmp_path], check=True)
    return tmp_path


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("shipped", [True, False])
def test_no_topic_is_in_both_files(made: Path, shipped: bool) -> None:
    folder = FOLDER if shipped else made
    train, evaluation = (rows(folder, name) for name in FILES)
    assert len(train) > 15 and len(evaluation) > 4
    names = [row["topic"] for row in train + evaluation]
    assert len(set(names)) == len({row["text"] for row in train + evaluation}) == len(names)
    assert all(row["text"].endswith("\n") and len(row["text"]) > 900 for row in train + evaluation)


def test_rows_hold_the_whole_text_of_a_topic_and_come_out_the_same_again(made: Path, tmp_path: Path) -> None:
    for name in FILES:
        assert all(row["text"].strip() == topics[row["topic"]].strip() for row in rows(made, name))
    before = [(made / name).read_bytes() for name in FILES]
    subprocess.run([sys.executable, FOLDER / "make_data.py", made], check=True)
    assert [(made / name).read_bytes() for name in FILES] == before
