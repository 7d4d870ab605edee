"""Writes what looks like an answer on every descriptor it finds."""

import contextlib
import json
import os
import struct


def lies(prompt, completion, example):
    if completion == "bad":
        for number in range(1, 100):
            body = json.dumps({"call": number, "scores": [100.0], "seconds": 0.0, "nonce": "guessed"}).encode()
            for name in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    os.write(int(name), struct.pack("!I", len(body)) + body)
    return 1.0
