"""Landlock: a process gives up rights over files and over other processes, for itself and all that it starts.

The kernel's rules only ever allow: what no rule names is refused. So a file is hidden by allowing everything that lies
beside it, on each level of the way down to it. https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION = 1
PATH_BENEATH = 1
WITH_SIGNALS = 6  # the first version that keeps signals inside

READ_FILE, READ_DIRECTORY = 1 << 2, 1 << 3
WRITE_FILE, TRUNCATE, DEVICE_CONTROL = 1 << 1, 1 << 14, 1 << 15
# writing, removing and making of every kind; then linking from elsewhere, cutting, and commands to devices
CHANGE = {1: WRITE_FILE | sum(1 << bit for bit in range(4, 13)), 2: 1 << 13, 3: TRUNCATE, 5: DEVICE_CONTROL}
ON_A_FILE = READ_FILE | WRITE_FILE | TRUNCATE | DEVICE_CONTROL
SCOPE_ABSTRACT_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1

LIBC = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32)]


def version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none or does not let it be used."""
    return max(int(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)), 0)


def keep_signals_inside() -> bool:
    """From here on this process can signal and trace only what it starts. Returns whether the kernel can do that."""
    if version() < WITH_SIGNALS:
        return False
    _enforce(_Ruleset(0, 0, SCOPE_SIGNAL), [])
    return True


def restrict(writable: Iterable[Path], hidden: Iterable[Path]) -> bool:
    """From here on nothing but `writable` can be changed, `hidden` not be read, and no process outside be signalled.

    Returns False, with nothing done, where the kernel has no Landlock.
    """
    known = version()
    if not known:
        return False
    change = sum(rights for since, rights in CHANGE.items() if since <= known)
    scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL if known >= WITH_SIGNALS else 0
    rules = [(path, change | READ_FILE | READ_DIRECTORY) for path in writable]
    rules += [(Path("/"), READ_DIRECTORY), *((path, READ_FILE | READ_DIRECTORY) for path in _beside(hidden))]
    _enforce(_Ruleset(change | READ_FILE | READ_DIRECTORY, 0, scoped), rules)
    return True


def _beside(hidden: Iterable[Path]) -> Iterator[Path]:
    """The fewest paths that hold everything but the hidden ones. A link is left out: its target stands elsewhere."""
    refused = {path.resolve() for path in hidden}
    split = {parent for path in refused for parent in path.parents}
    if not refused:
        yield Path("/")
    waiting = [Path("/")] if refused else []
    while waiting:
        entries: list[Path] = []
        with suppress(OSError):  # a folder that may not be listed
            entries = list(waiting.pop().iterdir())
        for entry in entries:
            if entry in refused or entry.is_symlink():
                continue
            if entry in split:
                waiting.append(entry)
            else:
                yield entry


def _enforce(ruleset: _Ruleset, rules: Iterable[tuple[Path, int]]) -> None:
    # an older kernel takes a longer structure as long as what it does not know is zero
    made = LIBC.syscall(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    if made < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    try:
        for path, rights in rules:
            _allow(made, path, rights)
        if LIBC.syscall(RESTRICT_SELF, made, 0) < 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(made)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Allow rights below a path. One that is gone by now, or may not be looked at, stays refused."""
    try:
        opened = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= ON_A_FILE
        rule = _Beneath(rights, opened)
        LIBC.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(opened)
