"""The Hugging Face Hub as the environment has it: token, switches, address. It is reached only where that is wanted."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from runner.doctor.finding import Finding, wrong
from runner.doctor.needs import Needs
from runner.hub import client
from runner.secrets import redact

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
    told: list[int | str] = []
    started = time.monotonic()
    # In a thread: a time limit of the request does not hold for the look-up of the name.
    asking = threading.Thread(target=lambda: told.append(_answer(address, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    answer = told[0] if told else f"no answer within {seconds:g} seconds"
    if isinstance(answer, str):
        reason = redact(answer, environment)
        return Finding(GROUP, "address", wrong(needed), f"{shown} is not reached: {reason}", hint)
    if answer >= 500:
        return Finding(GROUP, "address", wrong(needed), f"{shown} answers with {answer}", "try again later")
    milliseconds = 1000 * (time.monotonic() - started)
    return Finding(GROUP, "address", "ok", f"{shown} answers, after {milliseconds:.0f} ms")


def _answer(address: str, seconds: float) -> int | str:
    """The status that the server answers with, or why it gives none."""
    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "tunesmith"})
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, http.client.HTTPException) as error:  # a URLError is an OSError
        reason = getattr(error, "reason", error)
        return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
