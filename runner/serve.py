"""The page of a run for a browser on this machine, made anew as the run goes on.

Only this machine can reach it, and only whoever knows its address, which holds a secret: others who work on the machine
do not see the run. A name that leads here from elsewhere is refused, so that no page of the Web can read it.
"""

from __future__ import annotations

import errno
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from runner import holding, watch
from runner.errors import Place, Problem, RecipeError, RunError
from runner.report import page
from runner.report.reading import KEPT_BY_A_RUN, is_run, no_run

HOST = "127.0.0.1"
SHOWN = (*KEPT_BY_A_RUN, "evaluation.json", "samples.jsonl", "ledger.json", "rejects.jsonl", "completions.jsonl",
         "rewards.jsonl", "recipe.yaml")  # fmt: skip
SHARE = 20  # a page that takes a second to make is made every twenty: the run has the machine to itself
PATIENCE = 30.0  # seconds that a request may take to arrive
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside that of the page
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Live:
    """The page of a run, and what tells that it is no longer the newest."""

    directory: Path
    _made: tuple[str, str] = ("", "")  # stamp and page
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def newest(self) -> tuple[str, str]:
        """A stamp and the page that it is of; the same ones while nothing has changed."""
        with self._lock:
            now = self._stamp()
            if now != self._made[0] and time.monotonic() >= self._next:
                began = time.monotonic()
                self._made = now, page.render(self.directory, os.environ, at_work=holding.is_held(self.directory))
                self._next = time.monotonic() + SHARE * (time.monotonic() - began)
            return self._made

    def _stamp(self) -> str:
        found = [f"{holding.is_held(self.directory)}"]
        for name in SHOWN:
            try:
                status = (self.directory / name).stat()
            except OSError:
                continue
            found.append(f"{name} {status.st_ino} {status.st_size} {status.st_mtime_ns}")
        return "; ".join(found)


def run(directory: Path, port: int, tell: Callable[[str], None]) -> None:
    """Serve the page of a run, which may not have begun, until Ctrl-C; `tell` is given its address.

    Port 0 is any that is free. Raises RecipeError for a directory or a port that cannot be meant, RunError for one that
    is taken.
    """
    if not 0 <= port < 2**16:
        raise RecipeError(Problem(f"there is no port {port}", Place("--serve"), "leave it out for one that is free"))
    if not is_run(directory) and watch.no_run_ever(directory):
        raise no_run(directory)
    with server(directory, port) as listening:
        tell(f"http://{HOST}:{listening.server_port}/{listening.secret}/")
        listening.serve_forever()


class Server(ThreadingHTTPServer):
    """What listens; `secret` is a part of its address."""

    daemon_threads = True

    def __init__(self, directory: Path, port: int) -> None:
        self.live = Live(directory)
        self.secret = secrets.token_urlsafe(16)
        super().__init__((HOST, port), _Answer)


def server(directory: Path, port: int) -> Server:
    """A server that listens and does not answer yet. Raises RunError where it cannot."""
    try:
        return Server(directory, port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else (error.strerror or str(error)).lower()
        hint = "name another port, or none for one that is free"
        raise RunError(Problem(f"cannot listen at `{HOST}:{port}`: {reason}", Place("--serve"), hint)) from error


class _Answer(BaseHTTPRequestHandler):
    """One request: the page, or its stamp, and nothing else that there is."""

    server: Server
    timeout = PATIENCE
    server_version = "tunesmith"
    sys_version = ""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "")
        if host not in (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}"):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "this is not the server of that name\n")
            return
        parts = urlsplit(self.path).path.split("/")
        if len(parts) != 3 or not hmac.compare_digest(parts[1].encode(), self.server.secret.encode()):
            self._send(HTTPStatus.NOT_FOUND, "the address that `tunesmith watch` printed is another one\n")
            return
        stamp, text = self.server.live.newest()
        if parts[2] == "stamp":
            self._send(HTTPStatus.OK, stamp)
        elif parts[2] in ("", "page"):
            self._send(HTTPStatus.OK, text, "text/html")
        else:
            self._send(HTTPStatus.NOT_FOUND, "there is no such page\n")

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # any other method
            return lambda: self._send(HTTPStatus.METHOD_NOT_ALLOWED, "this server answers GET alone\n")
        raise AttributeError(name)

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        content = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: who asks is whoever started it."""
