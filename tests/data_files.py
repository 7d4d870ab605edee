"""The rows and faults of one small data file in the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.data import readers
from runner.data.rows import Fault, Row


def items(name: str, content: bytes | None = None) -> list[Row | Fault]:
    path = Path(name).absolute()
    if content is not None:
        path.write_bytes(content)
    return list(readers.read(str(path)))


def values(name: str, content: bytes | None = None) -> list[Any]:
    found = items(name, content)
    assert all(isinstance(item, Row) for item in found), found
    return [item.values for item in found if isinstance(item, Row)]
