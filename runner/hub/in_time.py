"""A request and its seconds in, the same request cut off when they are over, however little has moved until then.

A time limit for silence does not end a server that sends or takes a byte now and then. Here the connection itself is
closed from outside when the request has had its time; whoever reads or writes on it is told at once.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

CONNECTED = ("connect_tcp.complete", "start_tls.complete")  # after these, httpcore tells of a new stream


class InTime:
    """Around one request on a connection of its own. `late` says whether it was cut off."""

    def __init__(self, request: httpx2.Request, seconds: float) -> None:
        self.late = False
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        request.extensions["trace"] = self._trace

    def __enter__(self) -> InTime:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _trace(self, name: str, told: dict[str, Any]) -> None:
        if name.endswith(CONNECTED):
            self._stream = told["return_value"]
            if self.late:
                self._cut()

    def _cut(self) -> None:
        self.late = True
        stream = self._stream
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None:
            with suppress(OSError):
                # not the method of a TLS socket, which another thread is using: this one only tells the kernel
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
