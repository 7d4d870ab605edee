"""A run on a disk that is too small for it: it ends before it writes, or lives with fewer checkpoints."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import events, run_of, tunesmith, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes, two checkpoints and a half of the small model."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_too_small(tiny_model: Path, tmp_path: Path, disk: Path) -> None:
    recipe = write_recipe(disk, tiny_model, {"training": {"max_steps": 8, "checkpoints": {"every": 1, "keep": 9}}})
    ended = tunesmith("train", recipe)
    assert ended.code == 1, ended.out + ended.err
    assert "its checkpoints take up to " in ended.out
    assert "error: a checkpoint takes 16 MiB, and the disk has " in ended.err
    assert "Traceback" not in ended.out + ended.err
    subprocess.run(["mount", "-o", "remount,size=24m", str(disk)], check=True)
    again = tunesmith("train", recipe)
    assert again.code == 0, again.out + again.err
    assert [event["step"] for event in events(run_of(recipe))] == list(range(1, 9))
    kept = sorted(path.name for path in (run_of(recipe) / "checkpoints").iterdir())
    assert 1 < len(kept) < 8 and kept[-1] == "step-8"
