"""Changes files that are not its own, and fills its own folder."""

import os
from pathlib import Path


def writes_outside(prompt, completion, example):
    changed = 0
    for path in example["paths"]:
        for act in (
            lambda path: Path(path).write_text("changed"),
            lambda path: os.open(path, os.O_WRONLY | os.O_APPEND),
            os.unlink,
            lambda path: os.rename(path, path + ".moved"),
            lambda path: os.truncate(path, 0),
            lambda path: Path(path + ".new").write_text("new"),
            lambda path: os.symlink("/etc/passwd", path + ".link"),
            lambda path: os.mkdir(path + ".folder"),
        ):
            try:
                act(path)
                changed += 1
            except OSError:
                pass
        os.chmod(path, 0)
    Path("mine.txt").write_text("its own folder is writable")
    return float(changed)
