"""Token rows on the disk: the tokens of a split in one file, and rows that are stretches of it.

    tokens.bin    ids, 32 bits each, document after document
    starts.bin    the token that each row begins with, 64 bits
    lengths.bin   the tokens of each row, 32 bits

Every token of a row but its first one is learned. A row begins with the last token of the one before wherever both are
of one text, so that no token goes unlearned for standing at a row's start. Files are mapped into memory and read where
a row is asked for, so that a process holds none of them.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

NOT_LEARNED = -100  # the label of a token whose loss does not count, as torch and transformers know it
Kind = Literal["I", "Q"]
TOKENS: tuple[str, Kind] = ("tokens.bin", "I")
STARTS: tuple[str, Kind] = ("starts.bin", "Q")
LENGTHS: tuple[str, Kind] = ("lengths.bin", "I")
AT_ONCE = 2**16  # numbers written at a time


class Writer:
    """Writes one split into a folder: first tokens, then the rows that they make."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.files = {name: (folder / name).open("wb") for name, _ in (TOKENS, STARTS, LENGTHS)}
        self.tokens = self.rows = self.longest = self.in_rows = 0

    def add(self, ids: Iterable[int]) -> None:
        """Put tokens behind those that are there."""
        numbers = array(TOKENS[1], ids)
        numbers.tofile(self.files[TOKENS[0]])
        self.tokens += len(numbers)

    def take_back(self, tokens: int) -> None:
        """Take the last tokens away again; no row may have them yet."""
        self.tokens -= tokens
        file = self.files[TOKENS[0]]
        file.seek(self.tokens * 4)
        file.truncate()

    def cut(self, begin: int, end: int, length: int) -> int:
        """Make rows of so many tokens of the stretch, the last one shorter; gives how many."""
        starts = range(begin, end - 1, length - 1)
        for first in range(0, len(starts), AT_ONCE):
            some = starts[first : first + AT_ONCE]
            sizes = array(LENGTHS[1], (min(length, end - start) for start in some))
            array(STARTS[1], some).tofile(self.files[STARTS[0]])
            sizes.tofile(self.files[LENGTHS[0]])
            self.longest, self.in_rows = max(self.longest, *sizes), self.in_rows + sum(sizes)
        self.rows += len(starts)
        return len(starts)

    def close(self) -> None:
        for file in self.files.values():
            file.close()


class TokenRows:
    """The rows of a folder, or some of them, as `datasets` would give them: by number, by column, one by one."""

    column_names = ("input_ids", "labels", "length", "learned")

    def __init__(self, folder: Path, picked: range | None = None) -> None:
        self.folder = folder
        self.tokens, self.starts, self.lengths = (_mapped(folder / name, kind) for name, kind in FILES)
        self.picked = range(len(self.starts)) if picked is None else picked

    def __len__(self) -> int:
        return len(self.picked)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, wanted: int | str) -> Any:
        """A row, or the column `length` or `learned` as an array."""
        if isinstance(wanted, str):
            less = {"length": 0, "learned": 1}[wanted]
            return array(LENGTHS[1], (self.lengths[number] - less for number in self.picked))
        number = self.picked[wanted]
        start, length = self.starts[number], self.lengths[number]
        ids = self.tokens[start : start + length].tolist()
        return {"input_ids": ids, "labels": [NOT_LEARNED, *ids[1:]], "length": length, "learned": length - 1}

    def select(self, numbers: range) -> TokenRows:
        """Some of the rows, by their numbers."""
        return TokenRows(self.folder, self.picked[numbers.start : numbers.stop : numbers.step])


FILES = (TOKENS, STARTS, LENGTHS)


def is_there(folder: Path) -> bool:
    """Whether a folder holds rows in this form."""
    return (folder / TOKENS[0]).is_file()


def _mapped(path: Path, kind: Kind) -> memoryview[int]:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast(kind)
