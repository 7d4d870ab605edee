"""Checkpoints on the Hub while training goes on: in order, the newest first where pushes lag, and never in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from pushes import ours

from runner import checkpoint, publishing, runfile
from runner.checkpoint import Manifest
from runner.errors import Interrupted, Problem, RunError
from runner.hub.shelf import Shelf
from runner.recipe import Hub
from runner.signals import Signals

HERE = Hub("ann/adapter", False, "main", checkpoints=True)
COMMIT = "POST .*/commit/checkpoints"
ALIKE = {"tokenizer.json": b"{}", "adapter_config.json": b'{"peft_type": "LORA"}'}


class NoSignals(Signals):
    """What a run that nobody signals is told by; the test's own handlers stay."""

    def __init__(self) -> None:
        self.reason = None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "support" / "checkpoints").mkdir(parents=True)
    (tmp_path / "support" / "logs").mkdir()
    return tmp_path / "support"


@pytest.fixture
def on_hub(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    for name, value in hub_server.environment.items():
        monkeypatch.setenv(name, value)
    return hub_server


def publish(run: Path, step: int, keep: int = 9) -> None:
    """A checkpoint as training publishes one, and what is kept of the earlier ones."""
    written = run / "checkpoints" / f"checkpoint-{step}"
    (written / "global_step").mkdir(parents=True)
    for name, content in ALIKE.items():
        (written / name).write_bytes(content)
    (written / "adapter_model.safetensors").write_bytes(weights(step))
    for name in ("README.md", "training_args.bin", "rng_state.pth", "zero_to_fp32.py", "global_step/optimizer.pt"):
        (written / name).write_bytes(b"base_model: /home/ann/secret-place")
    manifest = Manifest(step, 0.5, {"total_steps": 8}, checkpoint.hashes(written))
    checkpoint.publish(written, run / "checkpoints" / f"step-{step}", manifest)
    checkpoint.keep(run / "checkpoints", keep, None)


def weights(step: int) -> bytes:
    return bytes([step]) * 3000


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def titles(hub: HubServer) -> list[str]:
    if "ann/adapter" not in hub.repositories or "checkpoints" not in hub.repositories["ann/adapter"].branches:
        return []
    return hub.history("ann/adapter", "checkpoints")[1:]


def test_checkpoints_go_up_in_order_and_a_run_that_goes_on_pushes_none_again(on_hub: HubServer, run: Path) -> None:
    said: list[str] = []
    with publishing.beside(HERE, run, said.append, NoSignals()):
        for step in (2, 4):
            publish(run, step, keep=1)
            until(lambda step=step: len(titles(on_hub)) == step / 2)
    assert titles(on_hub) == ["Checkpoint of step 2 of support", "Checkpoint of step 4 of support"]
    files = on_hub.files("ann/adapter", "checkpoints")
    assert set(files) == {*ALIKE, "adapter_model.safetensors", "manifest.json", "README.md"}
    assert files["adapter_model.safetensors"] == weights(4)
    manifest = json.loads(files["manifest.json"])
    assert manifest["step"] == 4 and set(manifest["files"]) == {*ALIKE, "adapter_model.safetensors"}
    assert b"step 4 of 8" in files["README.md"] and b"not the result" in files["README.md"]
    assert on_hub.files("ann/adapter", "main") == {}
    assert not (run / "checkpoints_to_push").exists()
    state = runfile.read(run)["checkpoints_on_hub"]
    assert (state["branch"], state["step"], state["cut_off"]) == ("checkpoints", 4, False)

    asked = on_hub.count("")
    with publishing.beside(HERE, run, said.append, NoSignals()):
        pass
    assert on_hub.count("") == asked
    assert runfile.read(run)["checkpoints_on_hub"]["step"] == 4
    with publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 6)
    assert titles(on_hub)[2:] == ["Checkpoint of step 6 of support"]
    assert not any("warning" in line for line in said)


def test_the_newest_wins_where_pushes_lag_and_the_run_may_delete_what_is_being_pushed(
    on_hub: HubServer, run: Path
) -> None:
    on_hub.fail("PUT /lfs/", "status", status=503, Retry_After="3")
    said: list[str] = []
    with publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 1, keep=1)
        until(lambda: on_hub.count("PUT /lfs/"))
        for step in (2, 3, 4):
            publish(run, step, keep=1)
            until(lambda step=step: (run / "checkpoints_to_push" / f"step-{step}" / "README.md").exists())
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-4"]
    assert titles(on_hub) == ["Checkpoint of step 1 of support", "Checkpoint of step 4 of support"]
    commits = on_hub.repositories["ann/adapter"].branches["checkpoints"]
    assert [commit.files["adapter_model.safetensors"] for commit in commits[1:]] == [weights(1), weights(4)]
    assert any("checkpoints of the steps 2, 3 are not on `checkpoints` of `ann/adapter`" in line for line in said)


@pytest.mark.parametrize(
    ("request_line", "kind", "status"),
    [("/commit/", "status", 403), ("/commit/", "status", 413), ("PUT /lfs/", "status", 401), ("/tree/", "status", 404)],
)
def test_a_refused_push_is_a_warning_and_the_next_one_is_tried(
    on_hub: HubServer, run: Path, request_line: str, kind: str, status: int
) -> None:
    on_hub.fail(request_line, kind, status=status, X_Error_Message=f"no room for {TOKEN}")
    said: list[str] = []
    with publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 1)
        until(lambda: on_hub.count(request_line))
        time.sleep(0.5)
        publish(run, 2)
    assert titles(on_hub) == ["Checkpoint of step 2 of support"]
    warnings = [line for line in said if "warning" in line]
    assert len(warnings) == 1 and "step 1 was not pushed" in warnings[0] and "[redacted]" in warnings[0]
    assert TOKEN not in (run / "run.json").read_text() + "".join(said)


@pytest.mark.parametrize("kind", ["hang", "drip", "sip"])
def test_a_run_that_is_told_to_stop_does_not_wait_for_the_hub(
    on_hub: HubServer, run: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "AT_A_STOP", 0.5)
    on_hub.fail("PUT /lfs/", kind, times=99)
    said: list[str] = []
    with pytest.raises(Interrupted), publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 1)
        until(lambda: on_hub.count("PUT /lfs/"))
        began = time.monotonic()
        raise Interrupted(Problem("told to stop"))
    assert time.monotonic() - began < 5
    assert any("still being pushed" in line and "same command" in line for line in said)
    assert runfile.read(run)["checkpoints_on_hub"]["cut_off"]
    on_hub.faults.clear()
    with publishing.beside(HERE, run, said.append, NoSignals()):
        pass
    assert titles(on_hub) == ["Checkpoint of step 1 of support"]


def test_a_hub_that_is_away_ends_no_run(on_hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "AT_THE_END", 1.0)
    on_hub.stop()
    said: list[str] = []
    with publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 1)
    assert any("warning" in line for line in said)
    with pytest.raises(RunError), publishing.beside(HERE, run, said.append, NoSignals()):
        raise RunError(Problem("another fault is the one that is shown"))


def test_the_process_ends_with_its_supervisor(on_hub: HubServer, run: Path) -> None:
    on_hub.fail("PUT /lfs/", "hang", times=99)
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from runner import publishing
from test_hub_checkpoints import HERE, NoSignals
with publishing.beside(HERE, Path({str(run)!r}), print, NoSignals()) as pushes:
    print(pushes.process.pid, flush=True)
    time.sleep(600)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    child = int(supervisor.stdout.readline())
    publish(run, 1)
    until(lambda: on_hub.count("PUT /lfs/"))
    supervisor.send_signal(signal.SIGKILL)
    supervisor.communicate()
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


def test_a_process_that_breaks_off_ends_no_run(on_hub: HubServer, run: Path) -> None:
    said: list[str] = []
    with publishing.beside(HERE, run, said.append, NoSignals()) as pushes:
        assert pushes.process is not None
        os.kill(pushes.process.pid, signal.SIGKILL)
        pushes.process.wait()
        publish(run, 1)
    assert not titles(on_hub)
    assert any("broke off" in line for line in said)
    (run / "logs" / "checkpoints.log").unlink()
    (run / "logs" / "checkpoints.log").mkdir()
    with publishing.beside(HERE, run, said.append, NoSignals()):
        publish(run, 2)
    assert any("checkpoints are not pushed: Is a directory" in line for line in said)


def test_another_branch_has_checkpoints_of_its_own(on_hub: HubServer, run: Path) -> None:
    hub = Hub("acme/adapter", True, "next", checkpoints=True)
    publish(run, 1)
    with publishing.beside(hub, run, print, NoSignals()):
        pass
    assert set(on_hub.repositories["acme/adapter"].branches) == {"main", "next-checkpoints"}
    assert on_hub.repositories["acme/adapter"].private


def test_nothing_runs_beside_where_the_recipe_does_not_want_it(run: Path) -> None:
    for hub in (None, ours()):
        with publishing.beside(hub, run, print, NoSignals()) as pushes:
            assert pushes.process is None
            pushes.finish()


@pytest.fixture(params=["links", "copies"])
def shelf(run: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    if request.param == "copies":

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    yield Shelf(run, 1, {})


def test_a_checkpoint_on_the_shelf_outlives_its_folder(run: Path, shelf: Shelf) -> None:
    for step in (1, 2):
        publish(run, step)
    shelf.look()
    publish(run, 3, keep=1)
    staged = shelf.take()
    assert staged is not None and staged.step == 2
    assert (staged.folder / "adapter_model.safetensors").read_bytes() == weights(2)
    shelf.look()
    shelf.give_back(staged)
    assert not staged.folder.exists() and shelf.passed_over == [2]
    assert shelf.waiting is not None and shelf.waiting.step == 3


def test_a_damaged_checkpoint_is_passed_over(run: Path, shelf: Shelf) -> None:
    publish(run, 2)
    (run / "checkpoints/step-2/adapter_model.safetensors").write_bytes(b"torn")
    publish(run, 3)
    (run / "checkpoints/step-3/manifest.json").write_text('{"step": 3, "files": {"../../outside": "x"}}')
    publish(run, 4)
    (run / "checkpoints/step-4/tokenizer.json").unlink()
    shelf.look()
    assert shelf.take() is None and shelf.passed_over == [2, 3, 4]
    assert not any(shelf.room.rglob("*"))
