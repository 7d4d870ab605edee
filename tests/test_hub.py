"""Pushes to a Hub over real HTTP: what is sent, what is kept, and what is not begun."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from pushes import FILES, ours, shown

from runner.errors import PushError, UserError
from runner.hub.repository import Pushed


def test_push_is_one_commit_of_the_adapter_and_again_is_none(
    hub_server: HubServer, pushed, run_directory: Path, lines: list[str]
) -> None:
    first = pushed()
    assert first.url == f"{hub_server.url}/ann/adapter"
    assert first.commit == hub_server.repositories["ann/adapter"].branches["main"][-1].oid
    assert hub_server.files("ann/adapter") == FILES
    assert not first.unchanged
    again = pushed()
    assert again == Pushed(first.url, first.commit, unchanged=True)
    assert lines[-1] == f"nothing to push: {first.url} has these files already"
    assert hub_server.history("ann/adapter") == ["initial commit", "Push support with Tunesmith"]
    assert hub_server.repositories["ann/adapter"].branches["main"][-1].large == {"adapter_model.safetensors"}
    assert {file.name for file in run_directory.iterdir()} == {"adapter", "checkpoints", "run.json", "pushed.json"}


def test_push_to_a_branch_of_a_private_repository_of_an_organisation(hub_server: HubServer, pushed) -> None:
    result = pushed(ours("acme/adapter", private=True, revision="next"))
    assert result.url == f"{hub_server.url}/acme/adapter/tree/next"
    assert hub_server.files("acme/adapter", "next") == FILES
    assert hub_server.files("acme/adapter", "main") == {}
    assert hub_server.repositories["acme/adapter"].private


def test_only_what_changed_is_sent(hub_server: HubServer, pushed, run_directory: Path) -> None:
    pushed()
    (run_directory / "adapter/README.md").write_bytes(b"# another card")
    uploads = hub_server.count("PUT /lfs/")
    assert not pushed().unchanged
    assert hub_server.files("ann/adapter") == FILES | {"README.md": b"# another card"}
    assert hub_server.count("PUT /lfs/") == uploads == 1
    (run_directory / "adapter/adapter_model.safetensors").write_bytes(b"other weights")
    pushed()
    assert hub_server.files("ann/adapter")["adapter_model.safetensors"] == b"other weights"
    assert len(hub_server.history("ann/adapter")) == 4


def test_our_files_that_went_away_are_removed_and_other_peoples_stay(
    hub_server: HubServer, pushed, run_directory: Path
) -> None:
    hub_server.create("ann/adapter")
    hub_server.commit("ann/adapter", {"LICENSE": b"theirs", "empty.txt": b"theirs too"})
    pushed()
    hub_server.commit("ann/adapter", {"deep/er/tokenizer.json": b"edited by hand"})
    for path in ("empty.txt", "deep/er/tokenizer.json"):
        (run_directory / "adapter" / path).unlink()
    pushed()
    expected = {path: content for path, content in FILES.items() if path != "empty.txt"}
    edited = {"deep/er/tokenizer.json": b"edited by hand"}
    assert hub_server.files("ann/adapter") == expected | {"LICENSE": b"theirs"} | edited


def test_files_of_a_push_that_was_cut_off_are_ours_too(hub_server: HubServer, pushed, run_directory: Path) -> None:
    hub_server.corrupted = {"README.md"}
    with pytest.raises(PushError):
        pushed()
    hub_server.corrupted.clear()
    assert "empty.txt" in hub_server.files("ann/adapter")
    (run_directory / "adapter/empty.txt").unlink()
    pushed()
    assert "empty.txt" not in hub_server.files("ann/adapter")


def test_a_record_that_is_broken_or_cannot_be_written_stops_no_push(
    hub_server: HubServer, pushed, run_directory: Path, lines: list[str]
) -> None:
    (run_directory / "pushed.json").write_text("[1,")
    pushed()
    (run_directory / "pushed.json").unlink()
    (run_directory / "pushed.json.part").mkdir()
    (run_directory / "adapter/empty.txt").write_text("no longer")
    pushed()
    assert hub_server.files("ann/adapter")["empty.txt"] == b"no longer"
    assert any("cannot write" in line for line in lines)


def test_large_files_go_up_in_parts_and_a_broken_part_is_sent_again(
    hub_server: HubServer, pushed, run_directory: Path
) -> None:
    hub_server.part_size = 1_000_000
    hub_server.largest_regular = 100_000
    weights, tokenizer = os.urandom(5_300_001), os.urandom(200_000)
    (run_directory / "adapter/adapter_model.safetensors").write_bytes(weights)
    (run_directory / "adapter/tokenizer.json").write_bytes(tokenizer)
    hub_server.fail(r"PUT /lfs/\w+/4", "reset")
    hub_server.fail(r"POST /lfs/\w+/complete", status=502)
    pushed()
    assert hub_server.files("ann/adapter")["adapter_model.safetensors"] == weights
    assert hub_server.files("ann/adapter")["tokenizer.json"] == tokenizer
    assert hub_server.count(r"PUT /lfs/\w+/6") == 2
    assert len(hub_server.history("ann/adapter")) == 2


def test_a_tree_of_several_pages_is_read_to_its_end(hub_server: HubServer, pushed) -> None:
    hub_server.page = 2
    pushed()
    assert pushed().unchanged


def test_a_push_that_cannot_be_taken_is_not_begun(hub_server: HubServer, pushed) -> None:
    hub_server.create("ann/adapter")
    with pytest.raises(PushError, match="is public, and the recipe asks for a private repository"):
        pushed(ours(private=True))
    assert hub_server.files("ann/adapter") == {}
    hub_server.environment["HF_HUB_OFFLINE"] = "1"
    with pytest.raises(PushError, match="`HF_HUB_OFFLINE` is set"):
        pushed()


def test_a_card_that_the_hub_does_not_take_is_final(hub_server: HubServer, pushed, run_directory: Path) -> None:
    (run_directory / "adapter/README.md").write_text("---\nbase_model: /home/ann/model\n---\n")
    with pytest.raises(PushError, match="Invalid metadata in README.md"):
        pushed()
    assert hub_server.count("validate-yaml") == 1


def test_what_was_pushed_is_read_back(hub_server: HubServer, pushed) -> None:
    for path in ("adapter_model.safetensors", "adapter_config.json"):
        hub_server.corrupted = {path}
        with pytest.raises(PushError, match=f"does not hold what was sent: `{path}`") as raised:
            pushed()
        shown(raised.value)


@pytest.mark.parametrize("status", ["running", "failed", "interrupted", None, 1, "DONE"])
def test_only_a_finished_run_is_pushed(hub_server: HubServer, pushed, run_directory: Path, status: object) -> None:
    (run_directory / "run.json").write_text(json.dumps({"status": status}))
    with pytest.raises(UserError, match="there is nothing to push") as raised:
        pushed()
    assert raised.value.exit_code == 2
    assert not hub_server.seen
    pushed(check_status=False)
    assert hub_server.files("ann/adapter") == FILES


@pytest.mark.parametrize("record", [None, "", "{", "[]", "{}", "null", "\xff"])
def test_a_directory_without_a_record_of_a_run(hub_server: HubServer, pushed, run_directory: Path, record) -> None:
    (run_directory / "run.json").unlink()
    if record is not None:
        (run_directory / "run.json").write_bytes(record.encode("latin-1"))
    with pytest.raises(UserError, match=re.escape(str(run_directory))):
        pushed()
    assert not hub_server.seen


def test_something_that_is_no_adapter_is_not_pushed(hub_server: HubServer, pushed, run_directory: Path) -> None:
    (run_directory / "adapter/adapter_model.safetensors").unlink()
    with pytest.raises(PushError, match="does not hold an adapter"):
        pushed()
    assert not hub_server.seen


def test_nothing_is_asked_of_any_other_address(hub_server: HubServer, run_directory: Path, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
import httpx2, huggingface_hub
from huggingface_hub import constants
assert not constants.HF_HUB_DISABLE_TELEMETRY  # read by now, so too late to switch it off
from runner import recipe
from runner.hub import repository as hub
environment = {"HF_TOKEN": os.environ["HF_TOKEN"]}  # the endpoint has been read by now, too
print(hub.push(Path(sys.argv[1]), recipe.Hub("ann/adapter", False, "main"), environment, print))
assert type(huggingface_hub.get_session()) is httpx2.Client  # its own again
"""
    environment = {**hub_server.environment, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_DEBUG": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script, run_directory], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "unchanged=False" in result.stdout
    assert TOKEN not in result.stdout + result.stderr
    assert hub_server.files("ann/adapter") == FILES
    assert not [seen.line for seen in hub_server.seen if "agent-harnesses" in seen.line or "telemetry" in seen.line]
    assert [seen.headers.get("authorization") for seen in hub_server.seen if seen.line.startswith("PUT")] == [None]
