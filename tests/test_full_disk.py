"""A run on a disk that is too small for it: it ends before it writes, or lives with fewer checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from runs import events, run_of, tunesmith, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes, two checkpoints and a half of the small model."""
    with disks.small(tmp_path / "disk", "8m") as folder:
        yield folder


def test_a_disk_that_is_too_small(tiny_model: Path, tmp_path: Path, disk: Path) -> None:
    recipe = write_recipe(disk, tiny_model, {"training": {"max_steps": 8, "checkpoints": {"every": 1, "keep": 9}}})
    ended = tunesmith("train", recipe)
    assert ended.code == 1, ended.out + ended.err
    assert "its checkpoints take up to " in ended.out
    assert re.search("error: a checkpoint takes 16 MiB, and the disk has [78] MiB left\n", ended.err), ended.err
    assert "Traceback" not in ended.out + ended.err
    disks.remounted(disk, "size=24m")
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err
    assert [event["step"] for event in events(run_of(recipe))] == list(range(1, 9))
    kept = sorted(path.name for path in (run_of(recipe) / "checkpoints").iterdir())
    assert 1 < len(kept) < 8 and kept[-1] == "step-8"
