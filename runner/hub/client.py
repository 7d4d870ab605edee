"""A connection to the Hugging Face Hub that cannot hang, and whose faults are of two kinds.

In: the environment (token, endpoint) and a `Patience`. Out: a `Connection`, whose `api` is huggingface_hub's own
client. A fault that may pass is a `Trouble`, one that will not is a `Refusal`; `understood()` turns whatever the
client raises into one of these, and `persist` repeats a step for as long as its faults may pass.

The client repeats some of its requests by itself, for a time that depends on the path, and knows no time limit.
Here each request goes out once: `send` raises a `Trouble` that the client does not know, so it does not repeat.
"""

from __future__ import annotations

import email.utils
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from runner import __version__
from runner.hub.in_time import InTime
from runner.secrets import redact

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")

SET_TOKEN = "set `HF_TOKEN` to a token with write access, in a container with `docker run -e HF_TOKEN …`; "
SET_TOKEN += "tokens are made at https://huggingface.co/settings/tokens"

QUIET = ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK")  # read when huggingface_hub is first imported
TELEMETRY_PATHS = ("/api/telemetry", "/api/agent-harnesses")  # asked by a client that was imported without QUIET
BUSY = "another conflicting operation is in progress"  # the client asks again at once and for ever at these words
LONGEST_QUOTATION = 300  # characters of the server's own words in a message


@dataclass(frozen=True)
class Patience:
    """How long to wait for the Hub, in seconds, and how fast a line has to be, in bytes a second.

    A request fails when nothing moves for `silence`, and when it is not over after `answer` and the time that its
    bytes take at `slowest`. The wait before a new attempt starts at `first_wait`, doubles up to `longest_wait`, and is
    what the server asks for where it says so. No attempt starts after `deadline`; one that is under way and moves is
    left to end.
    """

    silence: float = 60.0
    answer: float = 180.0
    slowest: float = 20_000.0
    first_wait: float = 1.0
    longest_wait: float = 30.0
    deadline: float = 600.0


class Trouble(Exception):
    """A fault that may pass. `wait` is the number of seconds the server asks for, `None` where it does not."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(message)


class Refusal(Exception):
    """A fault that will not pass. `status` is the server's, or `None`; `hint` says what can be done."""

    def __init__(self, message: str, status: int | None = None, hint: str | None = None) -> None:
        self.status = status
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True)
class Connection:
    """huggingface_hub's client, tied to one endpoint and one token. `masked` takes the secrets out of a message."""

    api: HfApi
    endpoint: str
    patience: Patience
    masked: Callable[[str], str]


def find_token(environment: Mapping[str, str]) -> str:
    """The token in `HF_TOKEN`, else in the file `HF_TOKEN_PATH`, else in the file that `hf auth login` writes.

    Raises `Refusal` where there is none, or it cannot be one.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := environment.get(name, "").strip():
            return _checked(token, f"`{name}`")
    named = environment.get("HF_TOKEN_PATH")
    file = Path(named).expanduser() if named else _home(environment) / "token"
    try:
        token = file.read_text("utf-8").strip()
    except FileNotFoundError:
        token = ""
        if named:
            raise Refusal(f"`HF_TOKEN_PATH` names `{file}`, which is not there", hint=SET_TOKEN) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"the token file `{file}` cannot be read: {_reason(error)}", hint=SET_TOKEN) from error
    if token:
        return _checked(token, f"`{file}`")
    if "HF_TOKEN" in environment:
        raise Refusal("no Hugging Face token: `HF_TOKEN` is empty", hint=SET_TOKEN)
    raise Refusal(f"no Hugging Face token: `HF_TOKEN` is not set, and there is none in `{file}`", hint=SET_TOKEN)


@contextmanager
def connect(environment: Mapping[str, str], patience: Patience) -> Iterator[Connection]:
    """A connection for the length of a `with` block. Raises `Refusal` where there is no token or no usable endpoint.

    Every `Trouble` and `Refusal` that leaves the block has its secrets masked.
    """
    token = find_token(environment)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environment.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise Refusal(f"`{name}` is set, and a push needs the Hub", hint=f"unset `{name}`")
    for name in QUIET:
        os.environ.setdefault(name, "1")

    from huggingface_hub import HfApi, constants, set_client_factory
    from huggingface_hub.utils import logging

    # The one private name used here: there is no public way to put the client's own factory back.
    from huggingface_hub.utils._http import default_client_factory

    endpoint = _endpoint(environment.get("HF_ENDPOINT") or constants.ENDPOINT)
    api = HfApi(endpoint, token=token, library_name="tunesmith", library_version=__version__)
    secrets = {**environment, "HF_TOKEN": token}  # the token may come from a file
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    set_client_factory(lambda: _client(patience))
    try:
        yield Connection(api, endpoint, patience, lambda text: redact(text, secrets))
    except (Trouble, Refusal) as error:
        error.args = (redact(str(error), secrets),)
        raise
    finally:
        set_client_factory(default_client_factory)
        logging.set_verbosity(verbosity)


@contextmanager
def understood() -> Iterator[None]:
    """Around one call of the client: what it raises leaves as a `Trouble` or a `Refusal`."""
    import httpx2

    faults = (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError, ValueError, KeyError, TypeError, OSError)
    try:
        yield
    except faults as error:
        raise _meaning(error) from error


def persist(act: Callable[[], Result], patience: Patience, announce: Callable[[str], None]) -> Result:
    """Act until it works, and return what it returns.

    A `Trouble` is waited out: twice as long each time, a random part less so that runs that failed together do not
    come back together. Raises `Refusal` at once on one, and in place of the last `Trouble` when the time is up.
    """
    started = time.monotonic()
    step = patience.first_wait
    while True:
        try:
            return act()
        except Trouble as trouble:
            wait = step * random.uniform(0.5, 1.0) if trouble.wait is None else trouble.wait + random.uniform(0, step)
            if time.monotonic() - started + wait > patience.deadline:
                asked = f", and asks to wait {trouble.wait:.0f} s" if trouble.wait else ""
                message = f"{trouble}{asked}; gave up after {time.monotonic() - started:.0f} s"
                raise Refusal(message) from trouble
            announce(f"{trouble}; trying again in {wait:.1f} s")
        time.sleep(wait)
        step = min(step * 2, patience.longest_wait)


def _client(patience: Patience) -> Any:
    """The HTTP client for huggingface_hub's factory: time limits, and a `Trouble` for each fault that may pass."""
    import httpx2

    limits = httpx2.Timeout(patience.silence, connect=min(patience.silence, 15.0))

    class OnceOnly(httpx2.Client):
        def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            if request.url.path.startswith(TELEMETRY_PATHS):
                raise Refusal(f"`{request.url.path}` collects usage data and is not asked")
            request.extensions["timeout"] = limits.as_dict()  # some calls of huggingface_hub ask for no limit at all
            size = request.headers.get("Content-Length", "")
            seconds = patience.answer + (int(size) / patience.slowest if size.isdecimal() else 0.0)
            with InTime(request, seconds) as clock:
                try:
                    response = super().send(request, **options)
                    if response.status_code >= 400:
                        response.read()
                except (httpx2.TransportError, httpx2.DecodingError) as error:
                    if clock.late:
                        raise Trouble(f"the Hub at `{request.url.host}` was not done in {seconds:.0f} s") from error
                    raise _broken(error, request.url.host, patience) from error
            status = response.status_code
            if status in {408, 425, 429} or status >= 500 or (status == 409 and BUSY in response.text):
                where = f"{request.method} {request.url.path}"
                raise Trouble(f"the Hub answered {status} to `{where}`{_quotation(response)}", _asked_wait(response))
            return response

    # A connection that is kept would be told of to the first of its requests alone.
    return OnceOnly(follow_redirects=True, limits=httpx2.Limits(max_keepalive_connections=0))


def _broken(error: Exception, host: str, patience: Patience) -> Trouble | Refusal:
    """What a request without an answer means."""
    import ssl

    import httpx2

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = "name the certificates to trust in `SSL_CERT_FILE`"
            return Refusal(f"the certificate of `{host}` is not trusted: {cause.verify_message}", hint=hint)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return Trouble(f"the Hub at `{host}` was silent for {patience.silence:g} s")
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Trouble(f"the Hub at `{host}` cannot be reached: {_reason(error)}")
    return Trouble(f"the connection to `{host}` broke: {_reason(error)}")


def _meaning(error: Exception) -> Trouble | Refusal:
    """What an exception of the client means. Those of file uploads come wrapped in a RuntimeError."""
    import json

    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException = error
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, Trouble | Refusal):
        return cause
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        if cause is not error and status in {403, 404}:  # about the storage, not the repository or the token
            return Refusal(f"the storage of the Hub refused a file with {status}{_quotation(cause.response)}")
        return Refusal(f"the Hub refused with {status}{_quotation(cause.response)}", status)
    if isinstance(cause, json.JSONDecodeError | UnicodeDecodeError | KeyError | TypeError):
        return Trouble("the answer is not one that a Hub gives")
    if isinstance(cause, httpx2.InvalidURL | httpx2.RequestError):
        return Refusal(f"the Hub sends on to a place that cannot be asked: {_reason(cause)}")
    return Refusal(_reason(cause))


def _quotation(response: Any) -> str:
    """The server's own words in brackets, on one line and not too long, or nothing."""
    words = response.headers.get("X-Error-Message")
    if not words and "json" in response.headers.get("Content-Type", ""):
        found = re.search(r'"(?:error|message)"\s*:\s*"((?:[^"\\]|\\.)*)"', response.text)
        words = found and found[1]
    words = " ".join((words or "").split())
    return f" ({words[:LONGEST_QUOTATION]})" if words else ""


def _asked_wait(response: Any) -> float | None:
    """Seconds that the server asks to wait: `Retry-After` as a number or a date, or `RateLimit: "api";r=0;t=33`."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    if asked:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    limit = re.search(r"\br\s*=\s*0\b.*?\bt\s*=\s*(\d{1,6})\b", response.headers.get("RateLimit", ""))
    return float(limit[1]) if limit and response.status_code == 429 else None


def _endpoint(address: str) -> str:
    try:
        parts = urlsplit(address.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        shown = redact(address, {})
        raise Refusal(f"`HF_ENDPOINT` is `{shown}`, which is not an address", hint="write it as `https://host`")
    return address.strip().rstrip("/")


def _checked(token: str, source: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise Refusal(f"what stands in {source} is not a token: it has spaces or other signs in it", hint=SET_TOKEN)
    return token


def _home(environment: Mapping[str, str]) -> Path:
    """The folder in which huggingface_hub keeps its token, for this environment."""
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser()
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME") or "~", ".cache")
    return Path(os.path.expanduser(cache)) / "huggingface"  # as the client does where there is no home


def _reason(error: BaseException) -> str:
    """An exception's own words on one line, or its name where it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:LONGEST_QUOTATION] or type(error).__name__
