"""The Hugging Face Hub as the environment has it: token, switches, address. It is reached only where that is wanted."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from runner.doctor.finding import Finding, wrong
from runner.doctor.needs import Needs
from runner.hub import client
from runner.hub.redaction import redact

GROUP = "Hub"
ADDRESS = "https://huggingface.co"
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
ON = ("1", "ON", "YES", "TRUE")
SECONDS = 5.0


def findings(environment: Mapping[str, str], needs: Needs, reach: bool, seconds: float = SECONDS) -> list[Finding]:
    """What a run finds of the Hub; `reach` tries its address once, for `seconds` at most."""
    found = [token(environment, needs), offline(environment, needs)]
    address = environment.get("HF_ENDPOINT") or ADDRESS
    if reach:
        return [*found, reached(address, environment, needs, seconds)]
    return [*found, Finding(GROUP, "address", "ok", f"{redact(address, environment)}, not tried without `--network`")]


def token(environment: Mapping[str, str], needs: Needs) -> Finding:
    """Whether there is a token, and where; never the token."""
    try:
        client.find_token(environment)
    except client.Refusal as refusal:
        if needs.pushes:
            return Finding(GROUP, "token", "fault", str(refusal), refusal.hint)
        return Finding(GROUP, "token", "missing", "none; gated models and pushing need one")
    where = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if environment.get(name, "").strip()), None)
    return Finding(GROUP, "token", "ok", f"set in `{where}`" if where else "in a file")


def offline(environment: Mapping[str, str], needs: Needs) -> Finding:
    """Whether the Hub is switched off."""
    switched = [name for name in SWITCHES if environment.get(name, "").upper() in ON]
    if not switched:
        return Finding(GROUP, "offline", "ok", "no variable switches the Hub off")
    names = " and ".join(f"`{name}`" for name in switched)
    if needs.pushes:
        return Finding(GROUP, "offline", "fault", f"{names} set, and the adapter is to be pushed", f"unset {names}")
    if needs.reads_hub:
        text = f"{names} set: the model and the data have to be in the Hub cache"
        return Finding(GROUP, "offline", "warning", text, f"unset {names} unless they are there")
    return Finding(GROUP, "offline", "ok", f"{names} set: the Hub is not asked")


def reached(address: str, environment: Mapping[str, str], needs: Needs, seconds: float = SECONDS) -> Finding:
    """One request to the address; any answer of a server will do."""
    needed, shown = needs.pushes or needs.reads_hub, redact(address, environment)
    hint = "look at `HF_ENDPOINT`, `HTTPS_PROXY` and `SSL_CERT_FILE`; without a network fill the Hub cache beforehand"
    started = time.monotonic()
    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "tunesmith"})
        with urllib.request.urlopen(request, timeout=seconds):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding(GROUP, "address", wrong(needed), f"{shown} answers with {error.code}", "try again later")
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = redact(str(getattr(error, "reason", error)), environment)
        return Finding(GROUP, "address", wrong(needed), f"{shown} is not reached: {reason}", hint)
    return Finding(GROUP, "address", "ok", f"{shown} answers, after {1000 * (time.monotonic() - started):.0f} ms")
