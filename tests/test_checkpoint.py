"""Checkpoints: whole or not there, read only when every byte is the one that was written, and of the same run."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import disks
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settled import plan_of

from runner import checkpoint
from runner.checkpoint import MANIFEST, Manifest
from runner.choices import Rows
from runner.errors import RunError
from runner.plan import Plan

FILES = {"adapter.safetensors": b"weights" * 100, "global_step/rank_0.pt": b"\x00\x01", "empty": b""}
SETTINGS: dict[str, Any] = {"task": "sft", "training": {"seed": 1, "rate": 1e-4}, "data": "abc"}
ROWS = Rows(100, 10, 50)


def write(folder: Path, step: int) -> Path:
    written = folder / f"checkpoint-{step}"
    for name, content in FILES.items():
        (written / name).parent.mkdir(parents=True, exist_ok=True)
        (written / name).write_bytes(content + str(step).encode())
    return written


def publish(folder: Path, step: int, wanted: dict[str, Any] = SETTINGS) -> Path:
    written, target = write(folder, step), folder / f"step-{step}"
    checkpoint.publish(written, target, Manifest(step, 0.1 * step, wanted, checkpoint.hashes(written)))
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def settings_of(*overrides: str, data: str = "abc") -> dict[str, Any]:
    return checkpoint.settings(plan_of(*overrides, rows=ROWS), data)


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    target = publish(tmp_path, 3)
    manifest = checkpoint.read(target)
    assert manifest == Manifest(3, 0.1 * 3, SETTINGS, checkpoint.hashes(target))
    assert manifest is not None and set(manifest.files) == set(FILES)
    assert names(tmp_path) == ["step-3"]
    for name, content in FILES.items():
        assert (target / name).read_bytes() == content + b"3"


def test_a_checkpoint_takes_the_place_of_one_of_the_same_step(tmp_path: Path) -> None:
    old = publish(tmp_path, 3)
    (old / "left over").touch()
    assert checkpoint.read(publish(tmp_path, 3)) is not None
    assert names(tmp_path) == ["step-3"]


def test_a_loss_that_is_no_number_does_not_make_a_checkpoint_unsound(tmp_path: Path) -> None:
    written = write(tmp_path, 1)
    checkpoint.publish(written, tmp_path / "step-1", Manifest(1, math.nan, {}, checkpoint.hashes(written)))
    assert checkpoint.read(tmp_path / "step-1") is not None


def flip(folder: Path) -> None:
    path = folder / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)


def change_manifest(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


DAMAGES = {
    "a flipped bit": flip,
    "a missing file": lambda folder: (folder / "global_step" / "rank_0.pt").unlink(),
    "a shorter file": lambda folder: os.truncate(folder / "adapter.safetensors", 5),
    "an added file": lambda folder: (folder / "pickle.bin").touch(),
    "an added file that is called a manifest": lambda folder: (folder / "global_step" / MANIFEST).touch(),
    "a renamed file": lambda folder: (folder / "empty").rename(folder / "void"),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "an empty manifest": lambda folder: (folder / MANIFEST).write_text(""),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, 40),
    "a manifest that is a list": lambda folder: (folder / MANIFEST).write_text("[1, 2, 3, 4]"),
    "a manifest of another form": lambda folder: (folder / MANIFEST).write_text('{"step": 1}'),
    "a manifest of brackets": lambda folder: (folder / MANIFEST).write_text("[" * 100_000),
    "a manifest that is no text": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
    "a manifest with one more key": change_manifest(more=1),
    "files that are a number": change_manifest(files=5),
    "files that are none": change_manifest(files=None),
    "files that are a list": change_manifest(files=[["empty", "x"]]),
    "settings that are a list": change_manifest(settings=[1]),
    "a step that is text": change_manifest(step="3"),
    "a loss that is text": change_manifest(loss="0.5"),
    "nothing left": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_sound_and_the_one_before_it_is_taken(tmp_path: Path, damage: str) -> None:
    before, damaged = publish(tmp_path, 2), publish(tmp_path, 10)
    DAMAGES[damage](damaged)
    assert checkpoint.read(damaged) is None
    passed_over: list[Path] = []
    found = checkpoint.newest(tmp_path, SETTINGS, (), passed_over)
    assert found is not None and found[0] == before and found[1].step == 2
    assert passed_over == ([damaged] if damaged.exists() else [])


JSON = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=4), st.lists, max_leaves=3) | (
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["step", "loss", "settings", "files", "other"]), JSON))
def test_no_manifest_that_somebody_made_up_is_sound(tmp_path: Path, manifest: dict[str, Any]) -> None:
    folder = tmp_path / "step-1"
    folder.mkdir(exist_ok=True)
    (folder / "file").touch()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert checkpoint.read(folder) is None
    assert checkpoint.newest(tmp_path, {}, (), []) is None


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (9, 100, 10):
        publish(tmp_path, step)
    write(tmp_path, 200)
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-7").touch()
    assert [path.name for path in checkpoint.all_of(tmp_path)] == ["step-9", "step-10", "step-100"]
    found = checkpoint.newest(tmp_path, SETTINGS, (), [])
    assert found is not None and found[1].step == 100


def test_there_may_be_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path, SETTINGS, (), []) is None
    assert checkpoint.newest(tmp_path / "nowhere", SETTINGS, (), []) is None
    checkpoint.discard_unfinished(tmp_path / "nowhere")


def test_a_write_that_ended_before_the_rename_leaves_nothing_published(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    target = publish(tmp_path, 2)
    target.rename(tmp_path / "checkpoint-2")  # sealed, and not renamed yet
    write(tmp_path, 3)  # not even sealed
    found = checkpoint.newest(tmp_path, SETTINGS, (), [])
    assert found is not None and found[1].step == 1
    checkpoint.discard_unfinished(tmp_path)
    assert names(tmp_path) == ["step-1"]


KILLED = """
import os, signal, sys
from pathlib import Path
from runner import checkpoint
folder = Path(sys.argv[1])
stop_at = int(sys.argv[2])
def note(event, arguments):
    global stop_at
    if event in ("os.rename", "open", "shutil.rmtree") and str(folder) in str(arguments):
        stop_at -= 1
        if stop_at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
written = folder / "checkpoint-2"
manifest = checkpoint.Manifest(2, 0.0, {}, checkpoint.hashes(written))
sys.addaudithook(note)
checkpoint.publish(written, folder / "step-2", manifest)
checkpoint.keep(folder, 1, None)
print(stop_at)
"""


def test_a_kill_at_any_moment_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    ended = False
    for moment in range(1, 40):
        folder = tmp_path / str(moment)
        publish(folder, 1, {})
        write(folder, 2)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(moment)], capture_output=True, check=False
        )  # fmt: skip
        assert done.returncode in (0, -9), done.stderr
        found = checkpoint.newest(folder, {}, (), [])
        assert found is not None
        published = [path for path in checkpoint.all_of(folder) if checkpoint.read(path) is None]
        assert all(path.name == "step-1" for path in published)  # which was being deleted
        checkpoint.discard_unfinished(folder)
        assert all(checkpoint.read(folder / name) for name in names(folder))
        if done.returncode == 0:
            ended = True
            break
    assert ended and moment > 5
    assert names(folder) == ["step-2"]


# settings


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    publish(tmp_path, 1, settings_of())
    assert checkpoint.newest(tmp_path, settings_of(), (), []) is not None
    assert checkpoint.newest(tmp_path, settings_of("training.log_every=7", "name=other"), (), []) is not None


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (("training.learning_rate=1e-3",), ["training.learning_rate"]),
        (("training.seed=5", "adapter.rank=4", "adapter.alpha=32"), ["adapter.rank", "training.seed"]),
        (("adapter.target_modules=[q_proj]",), ["adapter.target_modules"]),
        (("adapter.type=dora",), ["adapter.type"]),
        (("training.epochs=9",), ["total_steps"]),
        (("training.batch_size=8", "training.max_steps=21", "training.epochs=null"),
         ["training.batch_size", "training.micro_batch_size"]),
        (("training.packing=bfd",), ["training.packing"]),
        (("deepspeed.zero_stage=2", "deepspeed.processes=2", "training.micro_batch_size=8"),
         ["deepspeed.processes", "deepspeed.zero_stage", "training.micro_batch_size"]),
        (("model.dtype=float32",), ["precision"]),
        (("model.name=another/model",), ["model.name"]),
        (("model.revision=v2",), ["model.revision"]),
        (("dataset.shuffle=false",), ["shuffle"]),
    ],
)  # fmt: skip
def test_a_run_with_other_settings_is_refused_by_name(
    tmp_path: Path, overrides: tuple[str, ...], changed: list[str]
) -> None:
    publish(tmp_path, 1, settings_of())
    with pytest.raises(RunError) as caught:
        checkpoint.newest(tmp_path, settings_of(*overrides), (), [])
    (problem,) = caught.value.problems
    listed = ", ".join(f"`{name}`" for name in changed)
    assert problem.message == f"`{tmp_path / 'step-1'}` belongs to a run with other settings: {listed}"
    assert problem.hint is not None


def test_other_rows_are_another_run(tmp_path: Path) -> None:
    publish(tmp_path, 1, settings_of())
    with pytest.raises(RunError, match="`data`"):
        checkpoint.newest(tmp_path, settings_of(data="other"), (), [])


def test_a_model_on_disk_may_be_mounted_elsewhere() -> None:
    def named(name: str) -> dict[str, Any]:
        base: Plan = plan_of(rows=ROWS)
        model = replace(base.recipe.model, name=name)
        return checkpoint.settings(replace(base, recipe=replace(base.recipe, model=model)), "abc")

    assert named("/models/one") == named("/mnt/one") != named("/models/two")
    assert checkpoint.differences(named("owner/one"), named("other/one")) == ["model.name"]


def test_what_deepspeed_is_told_beside_belongs_to_the_run(tmp_path: Path) -> None:
    def told(text: str) -> dict[str, Any]:
        (tmp_path / "ds.json").write_text(text)
        return settings_of(f"deepspeed.config={tmp_path / 'ds.json'}")

    first = told('{"gradient_clipping": 1}')
    assert checkpoint.differences(first, told('{"gradient_clipping": 2}')) == ["deepspeed.config"]


def test_settings_are_the_same_after_json() -> None:
    found = settings_of("adapter.target_modules=[q_proj, v_proj]", "training.micro_batch_size=1")
    assert checkpoint.differences(json.loads(json.dumps(found)), found) == []


def test_differences_name_dotted_keys() -> None:
    one = {"a": 1, "b": {"c": {"d": 1, "e": 2}, "f": [1]}, "g": {"h": 1}}
    other = {"a": 1, "b": {"c": {"d": 1, "e": 3}, "f": [2], "i": 0}, "g": 1}
    assert checkpoint.differences(one, other) == ["b.c.e", "b.f", "b.i", "g"]


NESTED = st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=5)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED)


@given(MAPPINGS, MAPPINGS)
def test_no_difference_means_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (checkpoint.differences(one, other) == []) == (one == other)
    assert checkpoint.differences(one, other) == checkpoint.differences(other, one)


# which ones stay


@pytest.mark.parametrize(
    ("count", "best", "left"),
    [(1, None, [5]), (2, None, [4, 5]), (2, 1, [1, 4, 5]), (2, 5, [4, 5]), (9, 3, [1, 2, 3, 4, 5]), (1, 99, [5])],
)
def test_the_newest_and_the_best_stay(tmp_path: Path, count: int, best: int | None, left: list[int]) -> None:
    for step in range(1, 6):
        publish(tmp_path, step)
    checkpoint.keep(tmp_path, count, best)
    assert names(tmp_path) == [f"step-{step}" for step in left]


def test_a_damaged_checkpoint_does_not_push_sound_ones_out(tmp_path: Path) -> None:
    publish(tmp_path, 5)
    flip(publish(tmp_path, 10))
    found = checkpoint.newest(tmp_path, SETTINGS, (), [])
    assert found is not None and found[1].step == 5
    checkpoint.discard_unfinished(tmp_path)
    publish(tmp_path, 6)
    checkpoint.keep(tmp_path, 1, None)
    found = checkpoint.newest(tmp_path, SETTINGS, (), [])
    assert found is not None and found[1].step == 6


@pytest.mark.parametrize(("best", "expected"), [(2, "step-2"), (4, "step-4"), (None, "step-4"), (1, "step-4")])
def test_the_best_checkpoint_is_chosen_by_the_files_alone(tmp_path: Path, best: int | None, expected: str) -> None:
    folder = tmp_path / "checkpoints"
    for step in (2, 3, 4):
        written = write(folder, step)
        (written / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
        manifest = Manifest(step, 1.0, SETTINGS, checkpoint.hashes(written))
        checkpoint.publish(written, folder / f"step-{step}", manifest)
    assert checkpoint.chosen(tmp_path) is None
    checkpoint.choose(tmp_path, SETTINGS)
    chosen = checkpoint.chosen(tmp_path, SETTINGS)
    assert chosen == folder / expected
    assert checkpoint.chosen(tmp_path, {**SETTINGS, "data": "other"}) is None
    flip(chosen)
    assert checkpoint.chosen(tmp_path, SETTINGS) is None


# room for the next one


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of two megabytes."""
    with disks.small(tmp_path / "disk", "2m") as folder:
        yield folder


def fill(folder: Path, step: int, size: int) -> Path:
    """A published checkpoint of so many bytes."""
    path = publish(folder, step)
    (path / "weights").write_bytes(b"\0" * size)
    return path


def test_the_oldest_make_room_and_the_best_stays(small_disk: Path) -> None:
    best, old, newest = (fill(small_disk, step, 600_000) for step in (1, 2, 3))
    checkpoint.make_room(small_disk, 0, best_step=1)
    assert best.exists() and newest.exists() and not old.exists()


def test_nothing_is_deleted_where_there_is_room(small_disk: Path) -> None:
    there = [fill(small_disk, step, 100_000) for step in (1, 2, 3)]
    checkpoint.make_room(small_disk, 5_000_000, best_step=None)
    assert all(path.exists() for path in there)


def test_a_disk_that_is_too_small_is_said_and_the_newest_stays(small_disk: Path) -> None:
    old, newest = fill(small_disk, 1, 100_000), fill(small_disk, 2, 1_600_000)
    with pytest.raises(RunError) as caught:
        checkpoint.make_room(small_disk, 0, best_step=None)
    (problem,) = caught.value.problems
    assert problem.message == f"a checkpoint takes 2 MiB, and the disk has 0 MiB left; `{newest}` is kept"
    assert newest.exists() and not old.exists()


def test_the_first_one_is_estimated(small_disk: Path) -> None:
    checkpoint.make_room(small_disk / "checkpoints", 1_000_000, best_step=None)
    with pytest.raises(RunError, match="^a checkpoint takes 3 MiB, and the disk has 2 MiB left$"):
        checkpoint.make_room(small_disk / "checkpoints", 3_000_000, best_step=None)
