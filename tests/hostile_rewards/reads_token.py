"""Reads token files by every way there is to them."""

import os
from pathlib import Path


def reads_token(prompt, completion, example):
    read = 0
    for path in example["paths"]:
        for way in (path, "/proc/self/root" + path, os.path.relpath(path)):
            try:
                print(Path(way).read_text())
                read += 1
            except OSError:
                pass
        try:
            os.link(path, "linked")
            print(Path("linked").read_text())
        except OSError:
            pass
    return float(read)
