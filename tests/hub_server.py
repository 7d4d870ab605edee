"""A Hugging Face Hub on 127.0.0.1, with faults on demand: tests push to it and read from it over real HTTP.

It speaks the part of the Hub's protocol that huggingface_hub uses to ask who a token belongs to, to create
repositories and branches, to push through LFS (single and multipart) and to download. Everything is kept in memory.

By hand: `python tests/hub_server.py`, then run anything with the `HF_ENDPOINT` and `HF_TOKEN` that it prints.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hub_routes import Hub, Refused, Reply, Request, User, answered

TOKEN = "hf_" + "ann" * 12


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD /path` matches.

    Kinds: `status`, `garbage` (200 with a web page), `close` (no answer), `reset` (amid the upload), `hang` (silence
    for some seconds, then nothing), `lost` (done, and then no answer), `late` (as `lost`, after some seconds), `cut`
    (done, and reset in the middle of the answer), `long` and `short` (done, and an answer whose length is told too
    large or too small), `drip` (done, and the answer byte by byte), `sip` (64 KiB of the upload at a time), `gone` (the
    whole server ends in the middle of the upload). Drips and sips come every tenth of a second.
    """

    pattern: str
    kind: str
    times: float
    status: int
    seconds: float
    message: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Seen:
    """One request that came in."""

    line: str  # METHOD /path
    headers: dict[str, str]


class HubServer(Hub):
    """A `Hub` that is served at `url`, and the faults that its next requests meet."""

    def __init__(self, port: int = 0, certificate: Path | None = None) -> None:
        super().__init__()
        self.users[TOKEN] = User("ann", organisations={"acme": "admin", "readers": "read"})
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"hub": self}))
        self.http.daemon_threads, self.http.block_on_close = True, False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.http.server_port}"
        self.environment = {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN}

    def start(self) -> None:
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()

    def again(self) -> HubServer:
        """The same Hub after an outage, at the same address."""
        while self.http.fileno() >= 0:  # it is still closing
            time.sleep(0.01)
        back = HubServer(self.http.server_port)
        kept = ("users", "repositories", "objects", "parts", "_oids")
        vars(back).update({name: vars(self)[name] for name in kept})
        back.start()
        return back

    def fail(
        self,
        pattern: str,
        kind: str = "status",
        times: float = 1,
        status: int = 500,
        seconds: float = 60,
        message: str = "a fault on demand",
        **headers: str,
    ) -> None:
        """Let requests whose `METHOD /path` matches go wrong; `Retry_After="1"` is the header `Retry-After`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(pattern, kind, times, status, seconds, message, named))

    def count(self, pattern: str) -> int:
        """How many requests matched so far."""
        return sum(re.search(pattern, seen.line) is not None for seen in self.seen)

    def take_fault(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *values: object) -> None:
        pass

    def answer(self) -> None:
        hub, address = self.hub, urlsplit(self.path)
        line = f"{self.command} {address.path}"
        hub.seen.append(Seen(line, {name.lower(): value for name, value in self.headers.items()}))
        fault = hub.take_fault(line)
        if fault and fault.kind in {"reset", "gone"}:
            self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 0)))
            self.reset()
            if fault.kind == "gone":
                hub.stop()
            return
        if fault and fault.kind == "sip":
            while self.rfile.read(1 << 16) and not hub.stopped.wait(0.1):
                pass
            self.close_connection = True
            return
        body = self.body()
        if fault and fault.kind in {"hang", "late"}:
            hub.stopped.wait(fault.seconds)
        if fault and fault.kind in {"close", "hang"}:
            self.close_connection = True
            return
        if fault and fault.kind == "status":
            self.reply(Reply(fault.status, {"error": fault.message}, fault.headers))
            return
        if fault and fault.kind == "garbage":
            self.reply(Reply(200, b"<html>Sign in to the network</html>", {"Content-Type": "text/html"}))
            return
        try:
            with hub.lock:
                reply = self.route(address.path, {k: v[0] for k, v in parse_qs(address.query).items()}, body)
        except Refused as refused:
            reply = refused.reply
        if fault and fault.kind in {"lost", "late"}:
            self.close_connection = True
            return
        self.reply(reply, fault.kind if fault else "")

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def reply(self, reply: Reply, fault: str = "") -> None:
        raw = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **reply.headers}
        if fault in {"long", "short"}:
            headers["Content-Length"] = str(len(raw) + (5 if fault == "long" else -5))
            self.close_connection = True
        if fault == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nX-Patience: " + b"x" * 10_000:
                self.wfile.write(bytes([byte]))
                if self.hub.stopped.wait(0.1):
                    return
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw[: len(raw) // 2] if fault == "cut" else raw)
        if fault == "cut":
            self.wfile.flush()
            self.reset()

    def route(self, path: str, query: dict[str, str], body: bytes) -> Reply:
        request = Request(self.hub, self.headers.get("Authorization", ""), self.headers, query, body)
        return answered(request, self.command, path)


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    """A running Hub with one user, `ann`, who is in the organisation `acme` and may read in `readers`."""
    server = HubServer()
    server.start()
    yield server
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hugging Face Hub in memory, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    server = HubServer(parser.parse_args().port)
    print(f"HF_ENDPOINT={server.url} HF_TOKEN={TOKEN}", flush=True)
    try:
        server.http.serve_forever()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
