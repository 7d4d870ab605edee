"""Secrets by their shape, their variable and their place in an address: found, masked, and nothing else."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN
from hypothesis import given
from hypothesis import strategies as st

from runner import secrets
from runner.secrets import MASK, cleaned, redact

WORDS = st.text("abcXYZ059_/+=\"'\\é -", min_size=8, max_size=20).filter(lambda word: len(word.strip()) >= 8)


@given(secrets=st.lists(WORDS, min_size=1, max_size=3), data=st.data())
def test_no_part_of_a_secret_is_left_by_redaction(secrets: list[str], data: st.DataObject) -> None:
    pieces = st.sampled_from([*secrets, *(secret[:5] for secret in secrets), " ", "{", "."])
    text = "".join(data.draw(st.lists(pieces, max_size=8)))
    environment = {f"S{number}_TOKEN": secret for number, secret in enumerate(secrets)}
    clean = redact(text, environment)
    kept = clean.split(MASK)
    assert not any(secret.strip() in part for secret in secrets for part in kept)
    if not any(secret.strip() in text for secret in secrets):
        assert clean == text


def test_redaction_knows_names_shapes_and_ways_of_writing() -> None:
    secret = 'pa"ss\\wörd/1'
    environment = {"DB_PASSWORD": secret, "MAX_TOKENS": "12345678", "A_TOKEN": "false", "hf_token": "lower-case"}
    text = f'{secret} pa\\"ss\\\\w\\u00f6rd/1 pa%22ss%5Cw%C3%B6rd%2F1 12345678 false lower-case {TOKEN}'
    assert redact(text, environment) == " ".join([MASK, MASK, MASK, "12345678", "false", MASK, MASK])
    assert redact("http://ann:pass-word@proxy:1/x?a=b:c@d", {}) == f"http://{MASK}@proxy:1/x?a=b:c@d"
    assert redact("abcdefgh-ijkl", {"A_TOKEN": "abcdefgh", "B_SECRET": "efgh-ijkl"}) == MASK


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("HF_TOKEN", True), ("WANDB_API_KEY", True), ("AWS_SECRET_ACCESS_KEY", True), ("PGPASSWORD", True),
        ("PGPASS", True), ("JENKINS_PAT", True), ("OPENAI_KEY", True), ("DB_PASSWD", True), ("SENTRY_DSN", True),
        ("HF_TOKEN_PATH", False), ("GOOGLE_APPLICATION_CREDENTIALS_FILE", False), ("TOKENIZERS_PARALLELISM", False),
        ("MAX_NEW_TOKENS", False), ("KEYBOARD", False), ("COMPASS_HOME", False), ("AWS_ACCESS_KEY_ID", False),
        ("SSH_AUTH_SOCK", False), ("PATH", False),
    ],
)  # fmt: skip
def test_names_of_variables(name: str, is_one: bool) -> None:
    assert secrets.names_a_secret(name) is is_one


def test_logins_in_addresses() -> None:
    environment = {"MLFLOW_TRACKING_URI": "https://ann:p%40ssw%2Frd-1@flow.example/x"}
    assert redact("no answer to ann with p@ssw/rd-1 or p%40ssw%2Frd-1", environment).count(MASK) == 2
    for address in ("http://ann:pa@ss:w@host/x", "http://:password@host/x", f"http://{'x' * 20}@host/x"):
        found = redact(address, {})
        assert found == f"http://{MASK}@host/x"
    for plain in ("ssh://git@host/x", "https://host/a@b", "https://host?a=b:c@d", "see http://a and b:c@d"):
        assert redact(plain, {}) == plain


def test_a_file_that_a_variable_names_is_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "the-key-file"
    file.write_text("")
    assert redact(f"{file} is missing", {"TLS_KEY": str(file)}) == f"{file} is missing"
    assert redact("/none/of/these", {"TLS_KEY": "/none/of/these"}) == MASK


def test_each_line_of_a_long_secret_is_one() -> None:
    key = "-----BEGIN KEY-----\n0123456789abcdefghij\nzyxwvutsrqponmlkjihg\n"
    assert redact("it said zyxwvutsrqponmlkjihg", {"SIGNING_KEY": key}) == f"it said {MASK}"


def test_values_of_json_are_cleaned_with_their_names() -> None:
    assert cleaned({"a": [TOKEN, 1, None], TOKEN: (True, "x")}, {}) == {"a": [MASK, 1, None], MASK: [True, "x"]}


def test_what_is_printed_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with secrets.masked_output({"A_TOKEN": "correct-horse"}):
        print("it is", "correct-horse")
        sys.stderr.writelines([f"{TOKEN}\n", "correct-", "horse"])
    assert sys.stdout is before
    captured = capsys.readouterr()
    assert captured.out == f"it is {MASK}\n" and captured.err == f"{MASK}\n{MASK}"


def test_a_traceback_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(KeyError), secrets.masked_output({"A_TOKEN": "correct-horse"}):
        raise KeyError("correct-horse")
    print("correct-horse", file=sys.stderr)
    monkeypatch.undo()
    assert stream.getvalue() == f"{MASK}\n"
