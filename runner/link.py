"""A connection between the supervisors of two nodes: JSON lines both ways, and word that the other end still lives.

Node 0 listens, the others connect. Nothing that comes over it is run or opened: it is compared and shown.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

BEAT = 5.0  # seconds between two signs of life
LOST = 60.0  # seconds of silence after which the other end counts as lost
TICK = 0.25  # seconds between two looks
LONGEST_LINE = 2**22  # bytes; a longer one is no line of ours

Message = dict[str, Any]


class Peer:
    """The other end of a connection. What it says goes to `on_message` from a thread of its own; `None` is its loss."""

    def __init__(self, connection: socket.socket, on_message: Callable[[Message | None], None]) -> None:
        self.connection, self.on_message = connection, on_message
        self.lost = False
        self._heard = time.monotonic()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        connection.settimeout(None)  # silence is noticed below
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to listen, and to give signs of life."""
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message; where the other end is gone, its loss is told and nothing raised."""
        try:
            with self._writing:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._lose()

    def close(self) -> None:
        """End the connection; its end is no loss any more."""
        self._closed.set()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _listen(self) -> None:
        try:
            with self.connection.makefile("rb") as lines:
                while line := lines.readline(LONGEST_LINE):
                    message = json.loads(line)
                    self._heard = time.monotonic()
                    if isinstance(message, dict) and message.get("say") != "beat":
                        self.on_message(message)
        except (OSError, ValueError):
            pass
        self._lose()

    def _beat(self) -> None:
        said = last = time.monotonic()
        while not self._closed.wait(TICK):
            now = time.monotonic()
            if now - last > BEAT:  # this process was stopped for a while: nobody else was silent
                self._heard = now
            last = now
            if now - said > BEAT:
                said = now
                self.send({"say": "beat"})
            if now - self._heard > LOST:
                self._lose()

    def _lose(self) -> None:
        if not self._closed.is_set() and not self.lost:
            self.lost = True
            self.on_message(None)
        self.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that others connect to: on the loopback interface where that is named, else on all. Raises OSError.

    A node's own name may be its loopback address to itself, so that is not asked.
    """
    loopback = host == "localhost"
    with suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if loopback:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def connect(host: str, port: int, patience: float, give_up: Callable[[], bool]) -> socket.socket:
    """A connection to node 0, tried for so many seconds. Raises OSError with the last reason."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=min(patience, 10))
        except OSError:
            if time.monotonic() > deadline or give_up():
                raise
        time.sleep(TICK)
