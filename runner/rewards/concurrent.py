"""Calls of an `async` function: many of them wait at once in one process, each within its own time."""

from __future__ import annotations

import asyncio
import contextvars
import io
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

from runner.rewards import answers, messages

if TYPE_CHECKING:
    from runner.rewards.child import Link

KEPT = 80 * 1024  # characters of what one call prints; the pool keeps no more

_call: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("call", default=None)
_clock, _exit = time.perf_counter, os._exit


class Printed(io.TextIOBase):
    """A text stream that tells the calls apart: what a call prints goes to its own list, all else to the old stream."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        mine = _call.get()
        if mine is None:
            return int(self.outside.write(text))
        mine.append(text)
        if sum(map(len, mine[-64:])) > KEPT:  # a flood: let the pool count it
            self.outside.write("".join(mine))
            mine.clear()
        return len(text)

    def flush(self) -> None:
        self.outside.flush()

    def fileno(self) -> int:
        return int(self.outside.fileno())


def serve(link: Link, function: Callable[..., Any], order: dict[str, Any], flush: Callable[[], None]) -> NoReturn:
    """Answer calls until the pool hangs up, which ends the process."""
    sys.stdout, sys.stderr = Printed(sys.stdout), Printed(sys.stderr)
    asyncio.run(_serve(link, function, order, flush))
    raise SystemExit


async def _serve(link: Link, function: Callable[..., Any], order: dict[str, Any], flush: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    link.socket.setblocking(False)
    running: set[asyncio.Task[None]] = set()
    turn = asyncio.Lock()  # an answer that goes out in pieces is not to be mixed with another
    while True:
        data = await loop.sock_recv(link.socket, 1 << 16)
        if not data:
            _exit(0)
        for call in link.reader.take(data):
            task = loop.create_task(_answer(link, function, order, call, flush, turn))
            running.add(task)
            task.add_done_callback(running.discard)


async def _answer(
    link: Link,
    function: Callable[..., Any],
    order: dict[str, Any],
    call: dict[str, Any],
    flush: Callable[[], None],
    turn: asyncio.Lock,
) -> None:
    arguments, named, told = answers.arguments(call, order["options"])
    printed: list[str] = []
    _call.set(printed)
    started = _clock()
    answer: dict[str, Any]
    try:
        result, end = await asyncio.wait_for(_guarded(function(*arguments, **named)), order["timeout"])
        if end is not None:
            raise end
        answer = answers.one(result) if "each" in call else answers.many(result, call["count"])
    except TimeoutError:
        late = _clock() - started >= order["timeout"]
        answer = {"late": True} if late else {"fault": "raised `TimeoutError`", "line": 0}
    except BaseException as error:
        answer = {"fault": answers.explained(error, order["file"]), "line": answers.line_of(error, order["file"])}
    seconds = _clock() - started
    _call.set(None)
    flush()
    text = "".join(printed)[:KEPT]
    answer |= {"call": call["call"], "seconds": seconds, "told": told(), "printed": text, "nonce": link.nonce}
    async with turn:
        await asyncio.get_running_loop().sock_sendall(link.socket, messages.pack(answer))


async def _guarded(waiting: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """What comes of it. An exit that a task lets through would end the loop, and every other call with it."""
    try:
        return await waiting, None
    except (SystemExit, KeyboardInterrupt) as end:
        return None, end
