"""Pushes to a Hub over real HTTP, well and with every fault that a network and a server can have."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer

from runner import recipe
from runner.errors import PushError, UserError, report
from runner.hub import repository as hub
from runner.hub.client import Patience
from runner.hub.repository import Pushed

QUICK = Patience(silence=2.0, first_wait=0.02, longest_wait=0.1, deadline=5.0)
SHORT = Patience(silence=0.5, first_wait=0.02, longest_wait=0.05, deadline=0.6)
FILES = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": bytes(range(256)) * 300,
    "README.md": b"---\nlibrary_name: peft\n---\n# a card\n",
    "empty.txt": b"",
    "deep/er/tokenizer.json": b'{"a": 1}',
}
COMMIT = "POST .*/commit/"


def ours(repository: str = "ann/adapter", private: bool = False, revision: str = "main") -> recipe.Hub:
    return recipe.Hub(repository, private, revision)


def shown(error: UserError) -> str:
    """Everything of an error that a person can see, and a check that the token is not in it."""
    text = "".join(report(error, style) for style in ("text", "json", "github")) + str(error) + repr(error)
    assert TOKEN not in text
    return report(error)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """The directory of a finished run."""
    directory = tmp_path / "outputs" / "support"
    for path, content in FILES.items():
        file = directory / "adapter" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "optimizer.pt").write_bytes(b"not to be pushed")
    (directory / "run.json").write_text('{"status": "not_pushed"}')
    return directory


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def pushed(hub_server: HubServer, run_directory: Path, lines: list[str]):
    """Push as a test asks, gather what is announced, and see that no token is in it."""

    def push(where: recipe.Hub | None = None, patience: Patience = QUICK, **options: bool) -> Pushed:
        try:
            return hub.push(
                run_directory, where or ours(), hub_server.environment, lines.append, patience=patience, **options
            )
        finally:
            assert TOKEN not in "".join(lines)

    return push


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


@pytest.mark.parametrize("request_line", ["POST .*/commit/", "POST .*/preupload/", "PUT /lfs/", "objects/verify"])
@pytest.mark.parametrize("kind", ["status", "close", "reset", "lost"])
def test_passing_faults_are_waited_out_and_leave_one_commit(
    hub_server: HubServer, pushed, lines: list[str], request_line: str, kind: str
) -> None:
    hub_server.fail(request_line, kind, times=2)
    assert not pushed().unchanged
    assert hub_server.files("ann/adapter") == FILES
    assert hub_server.history("ann/adapter") == ["initial commit", "Push support with Tunesmith"]
    assert sum("trying again" in line for line in lines) in {1, 2}


@pytest.mark.parametrize("request_line", ["/commit/", "/preupload/", "/objects/batch", "/tree/", "validate-yaml"])
def test_a_web_page_in_place_of_an_answer_is_waited_out(hub_server: HubServer, pushed, request_line: str) -> None:
    hub_server.fail(request_line, "garbage")
    pushed()
    assert hub_server.files("ann/adapter") == FILES
    assert len(hub_server.history("ann/adapter")) == 2


def test_a_web_page_in_place_of_the_storage_is_found_out(hub_server: HubServer, pushed) -> None:
    hub_server.fail("PUT /lfs/", "garbage")
    with pytest.raises(PushError, match=r"the storage of the Hub refused a file with 404 \(Object does not exist\)"):
        pushed()
    assert hub_server.files("ann/adapter") == {}


def test_a_lost_answer_to_the_commit_makes_no_second_commit(hub_server: HubServer, pushed) -> None:
    hub_server.fail(COMMIT, "lost")
    assert not pushed().unchanged
    assert hub_server.count(COMMIT) == 1
    assert len(hub_server.history("ann/adapter")) == 2


def test_a_commit_that_is_still_under_way_is_not_made_twice(hub_server: HubServer, pushed) -> None:
    hub_server.fail(COMMIT, "late", seconds=1.0)
    hub_server.fail(COMMIT, "late", seconds=0.5)
    result = pushed(patience=Patience(silence=0.4, first_wait=0.02, longest_wait=0.02, deadline=5))
    time.sleep(0.7)
    assert not result.unchanged
    assert hub_server.count(COMMIT) >= 2
    assert len(hub_server.history("ann/adapter")) == 2


def test_a_commit_of_somebody_else_meanwhile_is_built_upon(hub_server: HubServer, pushed, lines: list[str]) -> None:
    hub_server.create("ann/adapter")
    hub_server.fail(COMMIT, status=412)
    hub_server.fail(COMMIT, status=409)
    pushed()
    assert sum("the branch has moved" in line for line in lines) == 2
    assert hub_server.files("ann/adapter") == FILES


@pytest.mark.parametrize("headers", [{"Retry_After": "1"}, {"RateLimit": '"api";r=0;t=1'}, {"Retry_After": "date"}])
def test_the_wait_that_the_hub_asks_for_is_kept(
    hub_server: HubServer, pushed, lines: list[str], headers: dict[str, str]
) -> None:
    if headers == {"Retry_After": "date"}:
        headers = {"Retry_After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))}
    hub_server.fail(COMMIT, status=429, **headers)
    started = time.monotonic()
    pushed()
    assert 0.9 < time.monotonic() - started < 4
    assert any("answered 429" in line for line in lines)


def test_a_wait_past_the_deadline_ends_at_once(hub_server: HubServer, pushed) -> None:
    hub_server.fail(COMMIT, times=9, status=429, Retry_After="3600")
    started = time.monotonic()
    with pytest.raises(PushError, match="asks to wait 3600 s; gave up") as raised:
        pushed()
    assert time.monotonic() - started < 2
    shown(raised.value)


@pytest.mark.parametrize("asked", ["-1", "soon", "1e9", "٣", "", "Wed, 99 Foo 2026"])
def test_a_wait_that_makes_no_sense_is_not_kept(hub_server: HubServer, pushed, asked: str) -> None:
    hub_server.fail(COMMIT, status=503, Retry_After=asked.encode().decode("latin-1"))
    pushed()
    assert hub_server.files("ann/adapter") == FILES


@pytest.mark.parametrize("request_line", ["/commit/", "PUT /lfs/", "/tree/", "POST /api/repos/create"])
def test_a_hub_that_stays_broken_costs_the_push_and_not_the_adapter(
    hub_server: HubServer, pushed, run_directory: Path, request_line: str
) -> None:
    hub_server.fail(request_line, times=1000)
    started = time.monotonic()
    with pytest.raises(PushError, match="answered 500") as raised:
        pushed(patience=SHORT)
    assert time.monotonic() - started < 3
    assert raised.value.exit_code == 3
    text = shown(raised.value)
    assert f"the adapter is safe at `{run_directory}/adapter`" in text
    assert f"`tunesmith push {run_directory}`" in text
    hub_server.faults.clear()
    pushed()
    assert hub_server.files("ann/adapter") == FILES


@pytest.mark.parametrize("request_line", ["/commit/", "PUT /lfs/", "GET /api/models/ann/adapter$"])
def test_a_hub_that_hangs_is_left_after_the_time_limit(hub_server: HubServer, pushed, request_line: str) -> None:
    hub_server.fail(request_line, "hang", times=1000)
    started = time.monotonic()
    with pytest.raises(PushError, match=r"was silent for 0.5 s; gave up"):
        pushed(patience=SHORT)
    assert time.monotonic() - started < 4


def test_a_push_that_cannot_be_taken_is_not_begun(hub_server: HubServer, pushed) -> None:
    hub_server.create("ann/adapter")
    with pytest.raises(PushError, match="is public, and the recipe asks for a private repository"):
        pushed(ours(private=True))
    assert hub_server.files("ann/adapter") == {}
    hub_server.environment["HF_HUB_OFFLINE"] = "1"
    with pytest.raises(PushError, match="`HF_HUB_OFFLINE` is set"):
        pushed()


def test_a_hub_that_is_down(hub_server: HubServer, pushed) -> None:
    hub_server.stop()
    with pytest.raises(PushError, match="cannot be reached") as raised:
        pushed(patience=SHORT)
    shown(raised.value)


@pytest.mark.parametrize("request_line", ["/commit/", "PUT /lfs/", "/tree/", "/preupload/"])
@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "does not accept the token"),
        (402, "refused with 402"),
        (403, "may not write to `ann/adapter`"),
        (404, "is not there, or the token cannot see it"),
        (413, "larger than the Hub takes"),
        (422, "refused with 422"),
    ],
)
def test_a_refusal_is_final_and_quotes_the_hub(
    hub_server: HubServer, pushed, request_line: str, status: int, sentence: str
) -> None:
    words = f"your storage is\x1b full, {TOKEN} " + "x" * 1000
    hub_server.fail(request_line, times=1000, status=status, X_Error_Message=words)
    if request_line == "PUT /lfs/" and status in {403, 404}:
        sentence = f"the storage of the Hub refused a file with {status}"
    with pytest.raises(PushError, match=sentence) as raised:
        pushed()
    assert hub_server.count(request_line) == 1
    text = shown(raised.value)
    assert "your storage is" in text
    assert "[redacted]" in text
    assert "\x1b" not in text
    assert len(text) < 1500


def test_a_token_in_the_words_of_a_passing_fault_is_masked(hub_server: HubServer, pushed, lines: list[str]) -> None:
    hub_server.fail(COMMIT, status=500, X_Error_Message=f"bad {TOKEN}")
    pushed()
    assert any("[redacted]" in line for line in lines)


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
