"""No hostile reward function hurts the run: the others keep their scores, nothing is left, and no token is seen."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reward_pools import MEBIBYTE, hostile, pool, processes_of

from runner.rewards import confinement, landlock, seccomp
from runner.rewards.contract import Settings

TOKEN = "hf_" + "Zq7" * 12
NEEDS_LANDLOCK = pytest.mark.skipif(
    landlock.version() < landlock.WITH_SIGNALS, reason="this kernel's Landlock is older"
)


@pytest.fixture
def good(tmp_path: Path) -> Settings:
    file = tmp_path / "good.py"
    file.write_text("def good(prompt, completion, example):\n    return len(completion)\n")
    return Settings("good", file)


@pytest.fixture
def victims() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield started
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize(
    ("name", "said", "settings", "columns"),
    [
        ("hang", "took longer than 0.5 s", {}, {}),
        ("hang_deaf", "took longer than 0.5 s", {}, {}),
        ("raises", "raised `ValueError: invalid literal for int() with base 10: 'four'`, at line 11", {}, {}),
        ("leaves", "ended its process with code 7", {}, {}),
        ("segfault", "had its process killed by SIGSEGV", {}, {}),
        ("forks", "took longer than 0.5 s", {}, {}),
        ("fork_bomb", "processes and threads at once, and may run 20", {"tasks": 20, "timeout": 5.0}, {"forks": 6}),
        ("threads", "processes and threads at once, and may run 50", {"timeout": 5.0, "tasks": 50}, {}),
        ("memory", "raised `MemoryError`", {}, {}),
        ("prints", "printed more than 1 MiB", {"timeout": 5.0}, {}),
        ("closes_descriptors", "ended its process", {}, {}),
        ("lies", "wrote on the connection that its scores come through", {}, {}),
        ("floods_folder", "made more than 500 files", {"timeout": 5.0, "files": 500}, {}),
    ],
)
def test_one_bad_call_loses_one_score(
    tmp_path: Path, good: Settings, name: str, said: str, settings: dict[str, Any], columns: dict[str, Any]
) -> None:
    with pool(tmp_path / "scratch", hostile(name, **settings), good) as run:
        scores = run.score("fine", "bad", "fine", "fine", **columns)
        assert scores[name].values == [1.0, 0.0, 1.0, 1.0]
        assert said in scores[name].faults[1]
        assert scores[name].faults.count(None) == 3
        assert scores["good"].values == [4, 3, 4, 4]
        assert [event["row"] for event in run.told("fault")] == [1]
        again = run.score("fine", "fine", **columns)
        assert again[name].values == [1.0, 1.0]


@pytest.mark.parametrize("way", ["shared", "unnamed"])
def test_memory_that_no_limit_of_the_kernel_counts_is_counted(tmp_path: Path, way: str) -> None:
    with pool(tmp_path / "scratch", hostile("memory", timeout=20.0)) as run:
        found = run.score("fine", way)["memory"]
    assert found.values == [1.0, 0.0]
    assert "MiB of memory, and may use 256 MiB" in found.faults[1]


def test_memory_between_the_limit_and_what_may_be_reserved_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "grows.py"
    file.write_text(
        "import time\ndef grows(prompt, completion, example):\n"
        "    kept = bytearray(600 * 2**20)\n    kept[::4096] = b'x' * len(kept[::4096])\n    time.sleep(5)\n"
    )
    with pool(tmp_path / "scratch", Settings("grows", file, memory=256 * MEBIBYTE)) as run:
        assert "of memory, and may use 256 MiB" in run.score("x")["grows"].faults[0]


def test_a_copy_of_the_process_does_not_answer(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("returns_twice"), workers=1) as run:
        assert run.score("bad", "fine", "bad", "fine")["returns_twice"].values == [1.0] * 4


def test_what_a_thread_prints_later_fools_nobody(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("late_thread"), workers=1) as run:
        assert run.score("bad", "fine", "fine")["late_thread"].values == [1.0] * 3
        assert "still here" in run.printed()


def test_a_library_that_is_replaced_changes_no_score(tmp_path: Path, good: Settings) -> None:
    with pool(tmp_path / "scratch", hostile("replaces_library"), good, workers=1) as run:
        for _ in range(2):
            scores = run.score("a", "bb")
            assert scores["replaces_library"].values == [0.25, 0.25]
            assert scores["good"].values == [1, 2]


def test_without_its_folder_it_goes_on(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("deletes_folder")) as run:
        assert run.score("a", "b", "c")["deletes_folder"].values == [1.0] * 3


def test_no_token_is_found_in_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a process of the same user that holds the token, as the trainer does, and this one
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("JUDGE_KEY", "judge-key-value")
    holder = subprocess.Popen(["sleep", "60"])
    try:
        with pool(tmp_path / "scratch", hostile("reads_environment", timeout=10.0)) as run:
            assert run.score("x")["reads_environment"].values == [1.0]
        assert TOKEN not in str(run.events)
        # hidden text would have stars in its place; there is nothing to hide
        assert "HF_TOKEN" not in str(run.events)
        assert "JUDGE_KEY" not in str(run.events)
        if landlock.version():
            assert f"{holder.pid} mem" not in run.printed()
            assert f"{os.getpid()} environ" not in run.printed()
    finally:
        holder.kill()
        holder.wait()


def test_a_secret_that_the_recipe_names_arrives_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "judge-key-value")
    file = tmp_path / "judge.py"
    file.write_text(
        "import os\ndef judge(prompt, completion, example):\n    print(os.environ['JUDGE_KEY'])\n"
        "    if completion == 'bad':\n        raise ValueError(os.environ['JUDGE_KEY'])\n"
        "    return float(os.environ['JUDGE_KEY'] == 'judge-key-value')\n"
    )
    with pool(tmp_path / "scratch", Settings("judge", file, secrets=("JUDGE_KEY",))) as run:
        assert run.score("x", "bad")["judge"].values == [1.0, 0.0]
    assert "judge-key-value" not in str(run.events)
    assert "*" * len("judge-key-value") in run.printed()


@NEEDS_LANDLOCK
def test_token_files_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (tmp_path / "elsewhere").mkdir()
    files = [
        home / ".cache/huggingface/token",
        home / ".netrc",
        home / ".ssh/id",
        tmp_path / "elsewhere/token.txt",
        tmp_path / "linked-token",
    ]
    for file in files:
        file.write_text("the-secret-itself")
    (home / ".cache/huggingface/model.bin").write_text("weights")
    link = tmp_path / "link"
    link.symlink_to(files[4])
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN_PATH", str(files[3]))
    monkeypatch.setenv("JUDGE_API_KEY_FILE", str(link))
    with pool(tmp_path / "scratch", hostile("reads_token", timeout=5.0)) as run:
        assert run.score("x", paths=[str(file) for file in [*files, link]])["reads_token"].values == [0.0]
        assert "the-secret-itself" not in str(run.events)
        beside = run.score("x", paths=[str(home / ".cache/huggingface/model.bin")])["reads_token"]
    assert beside.values[0] >= 2.0


@NEEDS_LANDLOCK
@pytest.mark.parametrize("word", ["fine", "group", "everything"])
def test_no_other_process_can_be_killed(
    tmp_path: Path, victims: list[subprocess.Popen[bytes]], good: Settings, word: str
) -> None:
    with pool(tmp_path / "scratch", hostile("kills"), good) as run:
        found = run.score(word, "fine", processes=[each.pid for each in victims])
        assert found["kills"].values[1] == 0.0
        assert found["kills"].faults[1] is None
        if word != "fine":
            assert found["good"].values == [len(word), 4]
    time.sleep(0.1)
    assert [each.poll() for each in victims] == [None, None]


def test_no_other_process_can_be_starved(tmp_path: Path, victims: list[subprocess.Popen[bytes]]) -> None:
    before = [(os.getpriority(os.PRIO_PROCESS, each.pid), os.sched_getaffinity(each.pid)) for each in victims]
    with pool(tmp_path / "scratch", hostile("starves")) as run:
        assert run.score("x", processes=[each.pid for each in victims])["starves"].values == [0.0]
    after = [(os.getpriority(os.PRIO_PROCESS, each.pid), os.sched_getaffinity(each.pid)) for each in victims]
    assert after == before


@NEEDS_LANDLOCK
def test_nothing_outside_its_folder_can_be_changed(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    target.mkdir()
    file = target / "weights.bin"
    file.write_text("weights")
    mode = file.stat().st_mode
    with pool(tmp_path / "scratch", hostile("writes_outside")) as run:
        found = run.score("x", paths=[str(file)])["writes_outside"]
        assert (found.values, found.faults) == ([0.0], [None])
    assert [each.name for each in target.iterdir()] == ["weights.bin"]
    assert (file.read_text(), file.stat().st_mode) == ("weights", mode)


def test_when_the_trainer_is_killed_nothing_goes_on(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    trainer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
            "from reward_pools import hostile, pool\n"
            "with pool(Path(sys.argv[2]), hostile('forks', timeout=60.0)) as run:\n    run.score('bad')\n",
            str(Path(__file__).parent),
            str(scratch),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        deadline = time.monotonic() + 10
        while len(processes_of(scratch)) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(processes_of(scratch)) >= 8  # the trainer, a warden, its child, and those that left their session
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        while processes_of(scratch) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert processes_of(scratch) == []
    finally:
        trainer.kill()
        trainer.wait()


def test_what_may_not_be_read_is_told_by_the_environment(tmp_path: Path) -> None:
    for name in ("token", "stored_tokens", "models"):
        (tmp_path / name).write_text("")
    (tmp_path / ".aws").mkdir()
    environment = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "MODEL_PATH": str(tmp_path / "models")}
    found = confinement.hidden_paths(environment)
    assert [path.name for path in found if path.is_relative_to(tmp_path)] == [".aws", "stored_tokens", "token"]


def test_layers_are_told_by_name() -> None:
    found = confinement.layers()
    assert set(found) == {"environment", "limits", "warden", "capabilities", "landlock", "signals", "seccomp"}
    assert all(isinstance(used, bool) and sentence for used, sentence in found.values())
    assert found["landlock"][0] is (landlock.version() > 0)


@pytest.mark.skipif(seccomp.reason_against() is not None, reason="no filters here")
def test_without_landlock_older_processes_cannot_be_signalled(victims: list[subprocess.Popen[bytes]]) -> None:
    code = """
import ctypes, os, signal, subprocess, sys
from runner.rewards import seccomp
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert seccomp.restrict(with_signals=True)
refused = 0
for act in (lambda: os.kill(int(sys.argv[1]), 0), lambda: os.kill(-1, 0), lambda: os.killpg(os.getppid(), 0),
            lambda: signal.pidfd_send_signal(os.pidfd_open(int(sys.argv[1])), 0)):
    try:
        act()
    except PermissionError:
        refused += 1
os.kill(os.getpid(), 0)
os.kill(0, 0)
younger = subprocess.Popen(["sleep", "60"])
younger.kill()
print(refused, younger.wait())
"""
    command = [sys.executable, "-c", code, str(victims[0].pid)]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert found.stdout.split() == ["4", "-9"]
    assert victims[0].poll() is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("with_signals", [True, False])
def test_a_filter_decides_every_call(machine: str, with_signals: bool) -> None:
    code = seccomp.program(machine, 1000, with_signals)
    architecture = seccomp.ARCHITECTURES[machine]
    column = list(seccomp.ARCHITECTURES).index(machine)

    def decide(number: int, *values: int, architecture: int = architecture) -> int:
        at, loaded = 0, 0
        words = {0: number, 4: architecture} | {16 + 8 * place: value for place, value in enumerate(values)}
        while True:
            act, if_true, if_false, operand = code[at]
            at += 1
            if act == seccomp.RETURN:
                return operand
            if act == seccomp.LOAD:
                loaded = words.get(operand, 0)
            else:
                holds = loaded == operand if act == seccomp.EQUAL else loaded >= operand
                at += if_true if holds else if_false

    assert decide(seccomp.REFUSED["ptrace"][column]) == seccomp.REFUSE
    assert decide(seccomp.IGNORED["fchmodat"][column]) == seccomp.IGNORE
    prlimit = seccomp.ITSELF_ONLY["prlimit64"][column]
    assert (decide(prlimit, 0), decide(prlimit, 5)) == (seccomp.ALLOW, seccomp.REFUSE)
    kill = seccomp.SIGNALS_TO_YOUNGER["kill"][column]
    older, younger = decide(kill, 999, 9), decide(kill, 1000, 9)
    assert younger == decide(kill, 0, 9) == seccomp.ALLOW
    assert older == decide(kill, 0xFFFFFFFF, 9) == (seccomp.REFUSE if with_signals else seccomp.ALLOW)
    assert decide(kill, 1000, architecture=1) == seccomp.REFUSE
    assert decide(0x40000001) == seccomp.REFUSE
    assert {decide(number) for number in range(500)} == {seccomp.ALLOW, seccomp.REFUSE, seccomp.IGNORE}
    assert platform.machine() in seccomp.ARCHITECTURES or seccomp.reason_against()
