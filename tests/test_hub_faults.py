"""Pushes to a Hub over real HTTP, with every fault that a network and a server can have."""

import time
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from pushes import COMMIT, FILES, SHORT, shown

from runner.errors import PushError
from runner.hub.client import Patience


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


@pytest.mark.parametrize(
    ("request_line", "kind"),
    [("/commit/", "drip"), ("GET /api/models/ann/adapter$", "drip"), ("PUT /lfs/", "sip"), ("PUT /lfs/", "drip")],
)
def test_a_hub_that_moves_a_byte_now_and_then_is_left_too(
    hub_server: HubServer, pushed, run_directory: Path, request_line: str, kind: str
) -> None:
    (run_directory / "adapter/adapter_model.safetensors").write_bytes(bytes(20_000_000))  # more than sockets hold
    hub_server.fail(request_line, kind, times=1000)
    started = time.monotonic()
    patience = Patience(silence=0.5, answer=1.0, slowest=1e9, first_wait=0.02, deadline=0.6)
    with pytest.raises(PushError, match=r"was not done in \d+ s; gave up"):
        pushed(patience=patience)
    assert time.monotonic() - started < 9


@pytest.mark.parametrize("request_line", ["/commit/", "/preupload/", "/objects/batch", "/tree/"])
@pytest.mark.parametrize("kind", ["long", "short", "cut"])
def test_an_answer_that_is_not_whole_is_asked_again(
    hub_server: HubServer, pushed, request_line: str, kind: str
) -> None:
    hub_server.fail(request_line, kind)
    pushed()
    assert hub_server.files("ann/adapter") == FILES
    assert len(hub_server.history("ann/adapter")) == 2


@pytest.mark.parametrize("request_line", ["POST /api/repos/create", "/preupload/", "PUT /lfs/", "/commit/"])
def test_a_hub_that_goes_away_amid_a_push_and_comes_back(hub_server: HubServer, pushed, request_line: str) -> None:
    hub_server.fail(request_line, "gone")
    with pytest.raises(PushError, match="cannot be reached"):
        pushed(patience=SHORT)
    back = hub_server.again()
    try:
        assert not pushed().unchanged
        assert back.files("ann/adapter") == FILES
        assert len(back.history("ann/adapter")) == 2
        assert pushed().unchanged
    finally:
        back.stop()


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
