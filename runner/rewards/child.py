"""The process that runs a user's reward function: it confines itself, loads the file, and answers calls.

Messages come and go over a socket on a high descriptor; what the function prints goes elsewhere. Everything that is
needed after the user's code is loaded is taken before, so that nothing it puts in place of `json` or `os` is used.
"""

from __future__ import annotations

import fcntl
import linecache
import os
import socket
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.rewards import answers, confinement, messages

FIRST_HIGH_DESCRIPTOR = 200
CHUNK = 1 << 16

_getpid, _exit, _clock, _BaseException = os.getpid, os._exit, time.perf_counter, BaseException


class Link:
    """The connection to the pool. Answers carry the secret that came with the first message."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.reader = messages.Reader()
        self.waiting: list[Any] = []
        self.nonce = ""
        self.process = _getpid()
        # found in the class at every call otherwise, where a user's code could put another
        self._receive, self._send = self.socket.recv, self.socket.sendall
        self._take, self._pack = self.reader.take, messages.pack

    def receive(self) -> Any:
        """The next message. Ends the process when there is no more, or when this is a copy that a `fork` made."""
        while not self.waiting:
            if _getpid() != self.process:
                _exit(0)
            data = self._receive(CHUNK)
            if not data:
                _exit(0)
            self.waiting += self._take(data)
        return self.waiting.pop(0)

    def send(self, answer: dict[str, Any]) -> None:
        if _getpid() != self.process:
            _exit(0)
        answer["nonce"] = self.nonce
        self._send(self._pack(answer))


def main(given: dict[str, Any]) -> None:
    """Confine this process, then answer calls until the pool hangs up."""
    link = _settle(given["link"], given["output"], Path(given["scratch"]))
    hidden, packages = ([Path(path) for path in given[name]] for name in ("hidden", "packages"))
    confinement.confine(Path(given["scratch"]), given["memory"], hidden, packages)
    order = link.receive()
    link.nonce = order["nonce"]
    serve = _serve
    if order["is_async"]:
        from runner.rewards import concurrent

        serve = concurrent.serve
    flush = _flusher()
    try:
        function = _load(order)
    except _BaseException as error:
        link.send({"failed": answers.explained(error, order["file"]), "line": answers.line_of(error, order["file"])})
        _exit(0)
    flush()
    link.send({"ready": True})
    serve(link, function, order, flush)


def _settle(link: int, output: int, scratch: Path) -> Link:
    """Leave nothing open but the connection, and let what is printed go into `output`."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    high = fcntl.fcntl(link, fcntl.F_DUPFD_CLOEXEC, FIRST_HIGH_DESCRIPTOR)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, high)
    os.closerange(high + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < CHUNK else CHUNK)
    os.chdir(scratch)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.argv = [""]
    return Link(high)


def _load(order: dict[str, Any]) -> Callable[..., Any]:
    """The function that the kept source defines. Its file is read by nobody: it may be another one by now."""
    file, text = order["file"], order["text"]
    sys.path[:0] = order["packages"]
    module = types.ModuleType(f"reward_{Path(file).stem}")
    module.__file__ = file
    sys.modules[module.__name__] = module
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    function = module.__dict__.get(order["function"])
    if not callable(function):
        raise TypeError(f"`{order['function']}` is no function once the file has run")
    return function  # type: ignore[no-any-return]


def _serve(link: Link, function: Callable[..., Any], order: dict[str, Any], flush: Callable[[], None]) -> None:
    file, options = order["file"], order["options"]
    explained, line_of = answers.explained, answers.line_of
    one, many, arguments_of = answers.one, answers.many, answers.arguments
    while True:
        call = link.receive()
        arguments, named, told = arguments_of(call, options)
        started = _clock()
        try:
            result = function(*arguments, **named)
            answer = one(result) if "each" in call else many(result, call["count"])
        except _BaseException as error:
            answer = {"fault": explained(error, file), "line": line_of(error, file)}
        seconds = _clock() - started
        with suppress(_BaseException):
            flush()
        link.send({"call": call["call"], "seconds": seconds, "told": told(), **answer})


def _flusher() -> Callable[[], None]:
    """A function that sends on what is printed and still held back, by Python or by a C library."""
    import ctypes

    flush_all = ctypes.CDLL(None).fflush
    system = sys

    def flush() -> None:
        for stream in (system.stdout, system.stderr):
            with suppress(_BaseException):
                stream.flush()
        flush_all(None)

    return flush
