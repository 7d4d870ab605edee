"""Memory and disks: shared memory, folders that are full, read-only, not there, or that nothing may be run in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import disks
import pytest
from disks import remounted
from surroundings import needs, surroundings, told

from runner import machine
from runner.doctor import account, room
from runner.doctor.finding import Surroundings
from runner.doctor.room import Folder

MIB, GIB = 2**20, 2**30
CPU, H100 = machine.named("cpu:4:16"), machine.named("h100:2")


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, of 1 MiB."""
    with disks.small(tmp_path / "mounted", "1m") as folder:
        yield folder


def output(path: Path, needed: bool = True, runs_code: bool = False) -> Folder:
    return Folder("output", path, "output.directory", needed, runs_code)


# shared memory


@pytest.mark.parametrize(
    ("whole", "free", "processes", "status", "found"),
    [
        (64 * MIB, 64 * MIB, 2, "warning", "64 MiB in `/dev/shm`, little for 2 processes"),
        (64 * MIB, 64 * MIB, 1, "ok", "64 MiB in `/dev/shm`"),
        (8 * GIB, 8 * GIB, 8, "ok", "8.0 GiB in `/dev/shm`"),
        (8 * GIB, 10 * MIB, 2, "warning", "8.0 GiB in `/dev/shm`, 10 MiB free, little for 2 processes"),
    ],
)
def test_shared_memory(whole: int, free: int, processes: int, status: str, found: str) -> None:
    finding = room.judged_shared_memory(whole, free, processes)
    assert told(finding) == ("shared memory", status, found)
    if whole < GIB and status == "warning":
        assert finding.hint == "start the container with `--shm-size=8g` or `--ipc=host`"


def test_a_machine_without_shared_memory(tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    assert room.shared_memory(around, needs(tmp_path, processes=2)).status == "fault"
    assert room.shared_memory(around, needs(tmp_path)).status == "warning"


def test_the_small_shared_memory_of_a_container(tmp_path: Path, tmpfs: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/shm").symlink_to(tmpfs)
    found = room.shared_memory(surroundings(tmp_path), needs(tmp_path, processes=2))
    assert told(found)[1:] == ("warning", "1 MiB in `/dev/shm`, little for 2 processes")


# folders


def test_a_folder_that_is_still_to_be_made(tmp_path: Path) -> None:
    finding = room.writable(output(tmp_path / "a" / "b"))
    assert finding.status in ("ok", "warning") and finding.found.startswith(f"`{tmp_path / 'a' / 'b'}`, ")
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = room.writable(output(tmp_path / "file" / "below"))
    assert told(found)[1:] == ("fault", f"`{tmp_path / 'file'}` is no folder")
    assert room.writable(output(tmp_path / "file", needed=False)).status == "warning"


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert room.writable(output(tmp_path / "x")).status == "fault"


def test_a_folder_that_nobody_may_write_to() -> None:
    found = room.writable(output(Path("/proc/nothing")))
    assert found.status == "fault" and "the nearest folder that is there is `/proc`" in found.found
    assert found.hint is not None and "-v FOLDER:/proc/nothing" in found.hint


def test_a_full_disk(tmpfs: Path) -> None:
    little = room.writable(output(tmpfs))
    assert told(little)[1:] == ("warning", f"`{tmpfs}`, only 1 MiB free")
    assert (
        "its checkpoints take up to 8.0 GiB: free some space"
        in room.writable(replace(output(tmpfs), takes=8 * GIB)).hint
    )
    (tmpfs / "big").write_bytes(b"\0" * (MIB - 16384))
    finding = room.writable(output(tmpfs / "run"))
    where = f", the nearest folder that is there is `{tmpfs}`"
    assert told(finding)[1:] == ("fault", f"`{tmpfs / 'run'}`: no space left on device{where}")
    assert finding.hint is not None and finding.hint.startswith("free some space, or set `output.directory`")


def test_a_read_only_disk(tmpfs: Path) -> None:
    remounted(tmpfs, "ro")
    finding = room.writable(output(tmpfs))
    assert told(finding)[1:] == ("fault", f"`{tmpfs}`: read-only file system")
    assert room.writable(output(tmpfs, needed=False)).status == "warning"
    around = Surroundings({}, 0, "root", tmpfs)
    assert account.root(around).found == "read-only: only what is mounted can be written to"


def test_a_disk_that_nothing_may_be_run_from(tmpfs: Path) -> None:
    remounted(tmpfs, "noexec")
    assert room.writable(Folder("cache", tmpfs, "XDG_CACHE_HOME", needed=True)).status == "ok"
    finding = room.writable(Folder("torch extensions", tmpfs, "TORCH_EXTENSIONS_DIR", needed=True, runs_code=True))
    assert (finding.status, "is mounted noexec" in finding.found) == ("fault", True)
    assert finding.hint is not None and "TORCH_EXTENSIONS_DIR" in finding.hint


# where libraries keep things


def paths(around: Surroundings, where: machine.Machine = CPU) -> dict[str, str]:
    home = str(around.root)
    found = room.folders(around, needs(around.root), where)
    return {folder.name: str(folder.path).removeprefix(f"{home}/") for folder in found}


def test_caches_by_default(tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    assert paths(around) == {
        "temporary files": "/tmp", "Hub cache": "home/.cache/huggingface", "own cache": "home/.cache/tunesmith",
        "cache": "home/.cache", "torch extensions": "home/.cache/torch_extensions",
        "Inductor cache": "/tmp/torchinductor_someone", "Matplotlib": "home/.config/matplotlib",
    }  # fmt: skip
    assert paths(around, H100)["Triton cache"] == "home/.triton/cache"
    assert paths(surroundings(tmp_path, user_name=None))["Inductor cache"] == "/tmp/torchinductor_uid_1000"


def test_caches_that_variables_move(tmp_path: Path) -> None:
    around = surroundings(
        tmp_path, TMPDIR="/t", XDG_CACHE_HOME="/c", TRITON_CACHE_DIR="/triton", MPLCONFIGDIR="/m", HF_HOME="/hf",
        TUNESMITH_CACHE="/own",
    )  # fmt: skip
    found = paths(around, H100)
    assert found == {
        "temporary files": "/t", "Hub cache": "/hf", "own cache": "/own", "cache": "/c",
        "torch extensions": "/c/torch_extensions", "Inductor cache": "/t/torchinductor_someone", "Matplotlib": "/m",
        "Triton cache": "/triton",
    }  # fmt: skip
    assert paths(surroundings(tmp_path, HF_HUB_CACHE="/hub", HF_HOME="/hf"))["Hub cache"] == "/hub"


def test_what_a_run_needs_of_them(tmp_path: Path) -> None:
    for asks, name in (("reads_hub", "Hub cache"), ("gguf", "own cache")):
        found = {
            each.name: each for each in room.folders(surroundings(tmp_path), needs(tmp_path, **{asks: True}), H100)
        }
        assert [each.name for each in found.values() if each.needed] == ["temporary files", name]


def test_what_this_machine_gives() -> None:
    assert room.cores(machine.here()).found.startswith(str(machine.cores()))
    assert room.memory(machine.here()).status == "ok"
