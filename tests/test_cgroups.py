"""Control groups: the tightest limit on the way from the outermost group that is seen to one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surroundings import files

from runner import cgroups, machine

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
JOB = "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
UNLIMITED = "9223372036854771712"  # version 1's word for none


def test_nested_groups_of_version_2(tmp_path: Path) -> None:
    root = files(tmp_path, {
        "proc/self/mountinfo": V2, "proc/self/cgroup": f"0::/{JOB}\n",
        f"sys/fs/cgroup/{JOB}/cpu.max": "max 100000\n", f"sys/fs/cgroup/{JOB}/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/cpu.max": "350000 100000\n",
        "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/memory.max": "8589934592\n",
        "sys/fs/cgroup/system.slice/cpu.max": "800000 100000\n",
        "sys/fs/cgroup/system.slice/memory.max": "99999999999\n",
    })  # fmt: skip
    assert cgroups.cores(root) == 3.5
    assert cgroups.memory(root) == 8 * 2**30


def test_nested_groups_of_version_1(tmp_path: Path) -> None:
    own = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    root = files(tmp_path, {
        "proc/self/mountinfo": V1, "proc/self/cgroup": own,
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "75000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "50000\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{UNLIMITED}\n",
        "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": "1073741824\n",
    })  # fmt: skip
    assert (cgroups.cores(root), cgroups.memory(root)) == (1.5, 2**30)


def test_a_container_that_sees_only_its_own_group(tmp_path: Path) -> None:
    mounts = V2.replace(" / /sys", " /docker/abc /sys") + V1.replace(" / /sys", " /docker/abc /sys")
    below = {"sys/fs/cgroup/cpu.max": "50000 100000", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096"}
    for own in ("0::/docker/abc\n4:memory:/docker/abc\n", "0::/\n4:memory:/\n", "0::/../x\n4:memory:/elsewhere\n"):
        root = files(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": own, **below})
        assert (cgroups.cores(root), cgroups.memory(root)) == (0.5, 4096), own


def test_a_group_whose_mount_has_a_blank_in_its_name(tmp_path: Path) -> None:
    mounts = V2.replace("/sys/fs/cgroup", r"/my\040groups")
    contents = {"proc/self/mountinfo": mounts, "proc/self/cgroup": "0::/\n", "my groups/memory.max": "4096"}
    assert cgroups.memory(files(tmp_path, contents)) == 4096


@pytest.mark.parametrize("limit", ["", "max", "-1", "0", "²", "x", "max max", "1e9"])
def test_what_is_no_limit(tmp_path: Path, limit: str) -> None:
    root = files(tmp_path, {
        "proc/self/mountinfo": V2 + "\n- \nx - cgroup\n", "proc/self/cgroup": "0::/\nx\n:\n4:memory\n",
        "sys/fs/cgroup/cpu.max": limit, "sys/fs/cgroup/memory.max": limit,
    })  # fmt: skip
    assert (cgroups.cores(root), cgroups.memory(root)) == (None, None)
    assert (cgroups.cores(tmp_path / "nothing"), cgroups.memory(tmp_path / "nothing")) == (None, None)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.integers(1, 2**40), min_size=1, max_size=5))
def test_the_tightest_limit_of_the_path_holds(tmp_path: Path, limits: list[int | None]) -> None:
    path = "/".join("abcde"[: len(limits)])
    contents = {"proc/self/mountinfo": V2, "proc/self/cgroup": f"0::/{path}\n"}
    for depth, limit in enumerate(limits):
        folder = "/".join("abcde"[: depth + 1])
        contents[f"sys/fs/cgroup/{folder}/memory.max"] = "max" if limit is None else str(limit)
        contents[f"sys/fs/cgroup/{folder}/cpu.max"] = "max 10" if limit is None else f"{limit} 10"
    root = files(tmp_path, contents)
    found = [limit for limit in limits if limit is not None]
    assert cgroups.memory(root) == min(found, default=None)
    assert cgroups.cores(root) == (min(found) / 10 if found else None)


@pytest.mark.parametrize(("quota", "cores"), [(1, 1), (50_000, 1), (199_999, 1), (10**9, None), ("max", None)])
def test_cores_are_whole_and_at_least_one(tmp_path: Path, quota: int | str, cores: int | None) -> None:
    contents = {"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000"}
    assert machine.cores({}, files(tmp_path, contents)) == (cores or len(os.sched_getaffinity(0)))


def group(name: str, limit: str, value: str) -> Path:
    """A real control group of version 1 with a limit, where this process may make one."""
    folder = Path("/sys/fs/cgroup") / name
    if not (folder / limit).parent.is_dir() or not os.access(folder, os.W_OK):
        pytest.skip(f"no control group can be made below {folder}")
    made = folder / f"tunesmith-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / limit).write_text(value)
    except OSError as error:
        if made.is_dir():
            made.rmdir()
        pytest.skip(f"no control group can be made below {folder}: {error.strerror}")
    return made


@pytest.mark.parametrize(
    ("name", "limit", "value", "told"),
    [
        ("cpu", "cpu.cfs_quota_us", "150000", "1.5 None"),
        ("memory", "memory.limit_in_bytes", str(512 * 2**20), f"None {512 * 2**20}"),
    ],
)
def test_a_real_control_group(name: str, limit: str, value: str, told: str) -> None:
    made = group(name, limit, value)
    program = (
        "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()));"
        "from runner import cgroups; controller = sys.argv[1].split('/')[4];"
        "print(cgroups.cores() if controller == 'cpu' else None, cgroups.memory() if controller == 'memory' else None)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(made / "cgroup.procs")], capture_output=True, text=True, check=False
        )
    finally:
        made.rmdir()
    assert (done.stdout.strip(), done.stderr) == (told, "")
