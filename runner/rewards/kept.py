"""A reward file as it was when it was last right, and whether it has become another one since."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from runner.errors import Problem, UserError
from runner.rewards import signature
from runner.rewards.contract import Settings
from runner.rewards.signature import Source


class Kept:
    """Holds the source that processes are started from. Raises UserError if there is none to begin with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._seen = _stamp(settings.file)
        self.source: Source = signature.source(settings.file, settings.function)
        self._refused = ""

    def look(self, columns: Collection[str]) -> tuple[bool, list[Problem], str]:
        """Whether the file has changed for the better, or what is wrong with it, and the hash of what was found.

        Each content is refused once: later looks say nothing until the file changes again.
        """
        stamp = _stamp(self.settings.file)
        if stamp == self._seen:
            return False, [], ""
        self._seen = stamp
        found = _hash(self.settings.file)
        if found in (self.source.sha256, self._refused):
            return False, [], ""
        try:
            # the name it was found by at first: another function that is added must not change which one is meant
            source = signature.source(self.settings.file, self.source.function.name)
            problems = signature.check_options(source.function, self.settings.options, columns)
            problems += signature.check_columns(source.function, columns)
        except UserError as error:
            problems = list(error.problems)
        if problems:
            self._refused = found
            return False, problems, found
        self.source, self._refused = source, ""
        return True, [], source.sha256


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _hash(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.sha256(stream.read(signature.LARGEST_FILE + 1)).hexdigest()
    except OSError:
        return "missing"
