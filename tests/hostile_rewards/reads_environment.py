"""Looks for a token in its own environment and in that of every process it sees."""

import os
from pathlib import Path


def reads_environment(prompt, completion, example):
    print(dict(os.environ))
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for name in ("environ", "maps", "mem"):
                try:
                    with open(process / name, "rb") as file:
                        print(process.name, name, file.read(100_000) if name == "environ" else "opened")
                except OSError:
                    pass
    return 1.0
