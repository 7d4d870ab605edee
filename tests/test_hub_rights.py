"""Before training: whose token it is, what it may do, and what is created for the push to come."""

import subprocess
import time
from pathlib import Path

import pytest
from hub_routes import User
from hub_server import TOKEN, HubServer
from pushes import QUICK, SHORT, ours, shown

from runner.errors import RecipeError, RunError
from runner.hub import repository as hub


def test_preflight_creates_a_private_repository(hub_server: HubServer) -> None:
    hub.preflight(ours(private=True), hub_server.environment, QUICK)
    assert hub_server.repositories["ann/adapter"].private
    hub.preflight(ours(private=True), hub_server.environment, QUICK)
    assert hub_server.count("POST /api/repos/create") == 1
    assert hub_server.count("GET .*/auth-check/write") == 1


def test_preflight_creates_a_public_repository_of_an_organisation_and_a_branch(hub_server: HubServer) -> None:
    where = ours("acme/adapter", revision="v1/a b")
    hub.preflight(where, hub_server.environment, QUICK)
    hub.preflight(where, hub_server.environment, QUICK)
    assert not hub_server.repositories["acme/adapter"].private
    assert set(hub_server.repositories["acme/adapter"].branches) == {"main", "v1/a b"}
    assert hub_server.count("POST .*/branch/") == 1


def test_no_token_says_how_to_give_one(hub_server: HubServer, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub_server.url, "HOME": str(tmp_path)}
    for extra in ({}, {"HF_TOKEN": ""}, {"HF_TOKEN": " \n"}, {"HF_TOKEN_PATH": str(tmp_path / "none")}):
        with pytest.raises(RecipeError) as raised:
            hub.preflight(ours(), environment | extra, QUICK)
        assert "docker run -e HF_TOKEN" in shown(raised.value)
        assert raised.value.exit_code == 2
    assert not hub_server.seen


@pytest.mark.parametrize("place", ["HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_the_token_is_found_in_files(hub_server: HubServer, tmp_path: Path, place: str) -> None:
    inside = {"HF_TOKEN_PATH": "token", "HF_HOME": "token", "XDG_CACHE_HOME": "huggingface/token"}
    file = tmp_path / inside.get(place, ".cache/huggingface/token")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{TOKEN}\r\n")
    value = str(file if place == "HF_TOKEN_PATH" else tmp_path)
    hub.preflight(ours(), {"HF_ENDPOINT": hub_server.url, place: value}, QUICK)
    hub_server.users.clear()
    with pytest.raises(RecipeError) as raised:
        hub.preflight(ours(), {"HF_ENDPOINT": hub_server.url, place: value}, QUICK)
    shown(raised.value)


@pytest.mark.parametrize("token", ["hf_" + "x" * 34, "hf two words", "hf_ünïcode", "hf_\x00"])
def test_a_wrong_token_is_refused_and_not_shown(hub_server: HubServer, token: str) -> None:
    with pytest.raises(RecipeError) as raised:
        hub.preflight(ours(), hub_server.environment | {"HF_TOKEN": token}, QUICK)
    assert "token" in shown(raised.value)
    assert token not in shown(raised.value)
    assert not hub_server.repositories


def test_a_token_that_only_reads_is_refused_even_where_the_repository_is_there(hub_server: HubServer) -> None:
    hub_server.create("ann/adapter")
    hub_server.users[TOKEN].role = "read"
    with pytest.raises(RecipeError, match="the token of `ann` can only read") as raised:
        hub.preflight(ours(), hub_server.environment, QUICK)
    assert "write access" in shown(raised.value)


@pytest.mark.parametrize(
    ("scopes", "there", "sentence"),
    [
        ({"ann": ["repo.content.read", "inference.serverless.write"]}, False, "may write to no repository"),
        ({"acme": ["repo.content.read", "repo.write"]}, False, "may not write to `ann/adapter`"),
        ({"acme": ["repo.write"], "ann": ["repo.content.read"]}, True, "may not write to `ann/adapter`"),
        ({"ann": ["repo.content.read", "repo.write"]}, False, None),
        ({"ann/adapter": ["repo.write"]}, True, None),
    ],
)
def test_rights_of_a_fine_grained_token(
    hub_server: HubServer, scopes: dict[str, list[str]], there: bool, sentence: str | None
) -> None:
    if there:
        hub_server.create("ann/adapter")
    hub_server.users[TOKEN] = User("ann", "fineGrained", scopes=scopes)
    if sentence is None:
        hub.preflight(ours(), hub_server.environment, QUICK)
        assert "ann/adapter" in hub_server.repositories
    else:
        with pytest.raises(RecipeError, match=sentence) as raised:
            hub.preflight(ours(), hub_server.environment, QUICK)
        shown(raised.value)


@pytest.mark.parametrize(
    ("repository", "there", "sentence"),
    [
        ("stranger/adapter", False, "`stranger` is neither `ann` nor an organisation of theirs"),
        ("stranger/adapter", True, "may not write to `stranger/adapter`"),
        ("readers/adapter", False, "may only read in the organisation `readers`"),
        ("readers/adapter", True, "may not write to `readers/adapter`"),
    ],
)
def test_the_owner_must_be_one_who_may_write(
    hub_server: HubServer, repository: str, there: bool, sentence: str
) -> None:
    if there:
        hub_server.create(repository)
    with pytest.raises(RecipeError, match=sentence) as raised:
        hub.preflight(ours(repository), hub_server.environment, QUICK)
    shown(raised.value)


def test_a_branch_that_cannot_be_one_is_the_recipes_fault(hub_server: HubServer) -> None:
    with pytest.raises(RecipeError, match="`refs/x` is not a branch") as raised:
        hub.preflight(ours(revision="refs/x"), hub_server.environment, QUICK)
    assert "output.hub.revision" in shown(raised.value)


def test_preflight_waits_out_passing_faults(hub_server: HubServer) -> None:
    hub_server.fail("GET /api/whoami-v2", status=503)
    hub_server.fail("GET /api/models/ann/adapter", "close")
    hub_server.fail("POST /api/repos/create", "lost")
    hub.preflight(ours(revision="next"), hub_server.environment, QUICK)
    assert set(hub_server.repositories["ann/adapter"].branches) == {"main", "next"}


def test_a_repository_that_somebody_else_makes_meanwhile_is_taken(hub_server: HubServer) -> None:
    hub_server.create("ann/adapter")
    hub_server.fail("GET /api/models/ann/adapter$", status=404)
    hub.preflight(ours(), hub_server.environment, QUICK)
    assert hub_server.count("POST /api/repos/create") == 1


def test_a_busy_account_is_asked_again_with_pauses(hub_server: HubServer) -> None:
    busy = "Cannot create repo: another conflicting operation is in progress"
    hub_server.fail("POST /api/repos/create", times=1000, status=409, message=busy)
    with pytest.raises(RunError, match="another conflicting operation is in progress"):
        hub.preflight(ours(), hub_server.environment, SHORT)
    assert 2 <= hub_server.count("POST /api/repos/create") < 40


@pytest.mark.parametrize("fault", ["down", "hang", "status", "garbage"])
def test_a_hub_that_cannot_be_asked_is_not_the_recipes_fault(hub_server: HubServer, fault: str) -> None:
    if fault == "down":
        hub_server.stop()
    else:
        hub_server.fail("whoami", fault, times=1000)
    started = time.monotonic()
    with pytest.raises(RunError, match="cannot check the push") as raised:
        hub.preflight(ours(), hub_server.environment, SHORT)
    assert time.monotonic() - started < 3
    assert raised.value.exit_code == 1
    assert "tunesmith push" in shown(raised.value)


@pytest.mark.parametrize("address", ["localhost:1", "ftp://host", "http://", "http://[", "http://host:99999999"])
def test_an_endpoint_that_is_no_address(address: str) -> None:
    with pytest.raises(RecipeError, match="is not an address"):
        hub.preflight(ours(), {"HF_TOKEN": TOKEN, "HF_ENDPOINT": address}, QUICK)


def test_a_certificate_that_is_not_trusted_is_final(tmp_path: Path) -> None:
    both = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
        + ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "leaf.pem"],
        check=True,
        capture_output=True,
    )
    both.write_text((tmp_path / "leaf.pem").read_text() + (tmp_path / "key.pem").read_text())
    server = HubServer(certificate=both)
    server.start()
    try:
        with pytest.raises(RecipeError, match="the certificate of `127.0.0.1` is not trusted") as raised:
            hub.preflight(ours(), server.environment, QUICK)
        assert "SSL_CERT_FILE" in shown(raised.value)
    finally:
        server.stop()


def test_a_public_repository_is_not_taken_for_a_private_one(hub_server: HubServer) -> None:
    hub_server.create("ann/adapter")
    with pytest.raises(RecipeError, match="is public, and the recipe asks for a private repository") as raised:
        hub.preflight(ours(private=True), hub_server.environment, QUICK)
    assert "output.hub.private: false" in shown(raised.value)


def test_offline_mode_and_a_push_exclude_each_other(hub_server: HubServer) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        with pytest.raises(RecipeError, match=f"`{name}` is set"):
            hub.preflight(ours(), hub_server.environment | {name: "yes"}, QUICK)
    assert not hub_server.seen
