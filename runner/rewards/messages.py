"""Values through a socket: each is JSON behind its length, and whatever else arrives is noticed."""

from __future__ import annotations

import json
import struct
from typing import Any

HEADER = struct.Struct("!I")
LARGEST = 0xFFFFFFFF  # bytes of a message that the pool sends
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes of a message that a reward process sends

# Taken before a user's code is loaded, which can put something else in their place.
_encode = json.JSONEncoder(allow_nan=True).encode
_decode = json.JSONDecoder().decode


class Broken(ValueError):
    """What came is no message."""


def pack(value: Any) -> bytes:
    """The bytes of one message. Raises Broken for one that is too long, TypeError for a value that JSON lacks."""
    body = _encode(value).encode("ascii")
    if len(body) > LARGEST:
        raise Broken(f"a message of {len(body)} bytes is too long")
    return HEADER.pack(len(body)) + body


class Reader:
    """Collects bytes and gives the messages that are whole."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._bytes = bytearray()

    def take(self, data: bytes) -> list[Any]:
        """The messages that these bytes complete. Raises Broken."""
        self._bytes += data
        messages = []
        while len(self._bytes) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._bytes)
            if length > self._largest:
                raise Broken(f"a message of {length} bytes was announced")
            end = HEADER.size + length
            if len(self._bytes) < end:
                break
            try:
                messages.append(_decode(self._bytes[HEADER.size : end].decode("utf-8")))
            except (ValueError, RecursionError):
                raise Broken("what came is not JSON") from None
            del self._bytes[:end]
        return messages
