"""Text and Markdown files in, each one document, out; and the text files of a folder.

A file comes in rows of at most `PIECE` bytes, so that one of many gigabytes is never held. All rows of a file have its
place, and every one but the last says that more follows.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import NoReturn

from runner.data.rows import BYTE_ORDER_MARK, TEXT_SUFFIXES, Row, shown, suffix
from runner.errors import DataError, Place, Problem

PIECE = 2**20  # bytes
SAVED = ("dataset_dict.json", "state.json")  # what tells a directory that `datasets` saved


def text(path: str, name: str) -> Iterator[Row]:
    """A file's text in its pieces, without a byte order mark; line ends stay as they are.

    Raises DataError with line and byte for what is not UTF-8, and for a NUL byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    place = Place(name, 1)
    line, start, read = 1, 0, 0  # the line that `read` lies in, where it starts, and the bytes read before this piece
    with open(path, "rb") as file:
        raw = file.read(PIECE)
        skipped = len(BYTE_ORDER_MARK) if raw.startswith(BYTE_ORDER_MARK) else 0
        raw, read = raw[skipped:], skipped
        while True:
            following = file.read(PIECE)
            pending = len(decoder.getstate()[0])  # bytes of a character that began in the piece before
            try:
                piece = decoder.decode(raw, final=not following)
            except UnicodeDecodeError as error:
                _refuse(error.object, error.start, (name, line, start, read - pending), "is not UTF-8")
            if "\0" in piece:
                _refuse(raw, raw.index(0), (name, line, start, read), "has a NUL byte")
            yield Row({"text": piece}, place, more=bool(following))
            if not following:
                return
            line += raw.count(b"\n")
            start = read + raw.rindex(b"\n") + 1 if b"\n" in raw else start
            read += len(raw)
            raw = following


def folder(path: str) -> list[str]:
    """The text files below a directory, sorted by their paths; none where it holds none, or `datasets` saved it.

    Hidden files and folders are passed over. Raises DataError where files of other types lie among them.
    """
    if any(os.path.exists(os.path.join(path, name)) for name in SAVED):
        return []
    found: list[str] = []
    for directory, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(directory, name) for name in names if not name.startswith(".")]
    texts = sorted(file for file in found if suffix(file) in TEXT_SUFFIXES)
    others = sorted(set(found) - set(texts))
    if texts and others:
        name = shown(path)
        message = f"`{name}` holds `{os.path.relpath(others[0], path)}` beside its text files"
        hint = f"move it away, or name the files with a pattern such as `{name}/**/*{suffix(texts[0])}`"
        raise DataError(Problem(message, Place(name), hint))
    return texts


def _refuse(raw: bytes, at: int, where: tuple[str, int, int, int], wrong: str) -> NoReturn:
    """Raise the fault of the byte `at` in `raw`; `where` is the file, and line, its start, and where `raw` begins."""
    name, line, start, read = where
    line += raw.count(b"\n", 0, at)
    before = raw.rfind(b"\n", 0, at) + 1
    begin = read + before if before else start
    end = raw.find(b"\n", at)
    shown_line = raw[before : end if end >= 0 else len(raw)][:200].decode("utf-8", "replace")
    column = len(raw[before:at].decode("utf-8", "replace")) + 1
    place = Place(name, line, column, 1, shown_line)
    byte = f" at its byte {read + at - begin + 1}, 0x{raw[at]:02X}" if raw[at] else ""
    hint = "save the file as UTF-8" if raw[at] else "the file is not UTF-8 text"
    raise DataError(Problem(f"line {line} {wrong}{byte}", place, hint))
