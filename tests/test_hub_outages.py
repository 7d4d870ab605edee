"""A run from the command line while its Hub is away, refuses or dies: what is kept, what is said, what finishes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from runs import run_of, tunesmith, write_recipe

pytestmark = pytest.mark.slow


def begin(*words: object, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner.cli", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def wait_for(hub: HubServer, request: str, count: int = 1) -> None:
    until = time.monotonic() + 300
    while hub.count(request) < count:
        assert time.monotonic() < until, f"no {request}"
        time.sleep(0.02)


def test_a_hub_that_comes_and_goes(hub_server: HubServer, tiny_model: Path, tmp_path: Path) -> None:
    where = {"output": {"hub": {"repository": "ann/adapter"}}, "training": {"max_steps": 1}}
    recipe = write_recipe(tmp_path, tiny_model, where)
    directory, environment = run_of(recipe), hub_server.environment

    def state() -> str:
        return str(json.loads((directory / "run.json").read_text())["status"])

    # a Hub that refuses before training costs no training
    hub_server.fail("whoami", status=401)
    refused = tunesmith("train", recipe, environment=environment)
    assert refused.code == 2 and "does not accept the token" in refused.err
    assert not directory.joinpath("prepared").exists()

    # one that refuses after it costs the push
    hub_server.fail("/commit/", status=413)
    trained = tunesmith("train", recipe, environment=environment)
    assert trained.code == 3, trained.err
    assert "the files are larger than the Hub takes" in trained.err
    assert f"the adapter is safe at `{directory}/adapter`; to push it, run `tunesmith push {directory}`" in trained.err
    assert state() == "not_pushed"
    weights = (directory / "adapter/adapter_model.safetensors").read_bytes()

    # the same command again trains nothing, and says the same, whatever the Hub has against it by now
    hub_server.fail("GET /api/models/ann/adapter$", status=403)
    again = tunesmith("train", recipe, environment=environment)
    assert again.code == 3 and "training" not in again.out and f"`tunesmith push {directory}`" in again.err, again.err

    # a push that dies is finished by the next
    hub_server.fail("/commit/", "hang")
    dying = begin("push", directory, environment=environment)
    wait_for(hub_server, "/commit/", 2)
    dying.kill()
    dying.communicate()
    dying = begin("train", recipe, environment=environment)
    hub_server.fail("/commit/", "hang")
    wait_for(hub_server, "/commit/", 3)
    dying.kill()
    dying.communicate()
    assert state() == "pushing"

    # a Hub that goes away in the middle of it and comes back is waited for
    hub_server.fail("/preupload/", "gone")
    waiting = begin("push", directory, environment=environment)
    hub_server.stopped.wait(300)
    back = hub_server.again()
    back.fail("/commit/", status=503, Retry_After="1")
    try:
        _, said = waiting.communicate(timeout=300)
        assert waiting.returncode == 0, said
        assert state() == "done"
        assert back.files("ann/adapter")["adapter_model.safetensors"] == weights
        assert len(back.history("ann/adapter")) == 2

        # and there is nothing left to do
        for command in (("push", directory), ("train", recipe)):
            last = tunesmith(*command, environment=environment)
            assert last.code == 0 and "nothing" in last.out + last.err
        assert len(back.history("ann/adapter")) == 2
    finally:
        back.stop()
    shown = "".join(each.out + each.err for each in (refused, trained, again, last)) + said
    assert TOKEN not in shown and "Traceback" not in shown


def test_a_push_that_is_told_to_stop_says_how_to_finish_it(hub_server: HubServer, run_directory: Path) -> None:
    hub = {"repository": "ann/adapter", "private": False, "revision": "main"}
    (run_directory / "run.json").write_text(json.dumps({"status": "not_pushed", "recipe": {"output": {"hub": hub}}}))
    hub_server.fail("/commit/", "hang")
    stopped = begin("push", run_directory, environment=hub_server.environment)
    wait_for(hub_server, "/commit/")
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate(timeout=60)
    assert "Traceback" not in said
    assert tunesmith("push", run_directory, environment=hub_server.environment).code == 0
