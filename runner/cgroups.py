"""What Linux control groups leave to this process: cores and memory, by version 1 and version 2.

In: the files below `/proc` and `/sys`, under a root that a test may choose. Out: the tightest limit on the whole path
from the outermost visible group to the one that this process is in, or None. Containers and batch jobs are such groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# What stands between a mount's own fields and those of its file system in `/proc/self/mountinfo`.
SEPARATOR = " - "


@dataclass(frozen=True)
class Mount:
    """A hierarchy of groups: the folder it is seen in, the group that this folder is, and what it controls."""

    folder: Path
    group: PurePosixPath
    controllers: frozenset[str]  # empty for version 2, which has all of them in one hierarchy


def cores(root: Path = Path("/")) -> float | None:
    """How many cores' time a quota leaves to this process, as a number that may be broken (`--cpus=1.5`)."""
    found = []
    for folder in _folders("cpu", root):
        quota, *rest = (_text(folder / "cpu.max") or "").split() or [""]
        period = rest[0] if rest else "100000"
        if not quota:
            quota = _text(folder / "cpu.cfs_quota_us") or ""
            period = _text(folder / "cpu.cfs_period_us") or ""
        if _is_count(quota) and _is_count(period):  # `max` and `-1` are no limits
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory(root: Path = Path("/")) -> int | None:
    """How many bytes of memory this process may use with all others of its groups."""
    found = []
    for folder in _folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(folder / name) or ""
            if _is_count(limit):
                found.append(int(limit))
    return min(found, default=None)


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """The folders of all groups that a controller counts this process in, the innermost first."""
    groups = _groups(root)
    for mount in _mounts(root):
        path = groups.get(controller if mount.controllers else "")
        if path is None or (mount.controllers and controller not in mount.controllers):
            continue
        # A container may see a hierarchy from its own group downwards, and its path as the host writes it.
        below = path.relative_to(mount.group) if path.is_relative_to(mount.group) else PurePosixPath()
        if ".." in below.parts:
            below = PurePosixPath()
        for inner in (below, *below.parents):
            yield mount.folder / inner


def _groups(root: Path) -> dict[str, PurePosixPath]:
    """Controller -> the group that this process is in; the one of version 2 has the empty name."""
    found: dict[str, PurePosixPath] = {}
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if path.startswith("/"):
            found |= dict.fromkeys([""] if number == "0" else names.split(","), PurePosixPath(path))
    return found


def _mounts(root: Path) -> list[Mount]:
    """Where the hierarchies are mounted, by `/proc/self/mountinfo`."""
    found = []
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        before, separator, after = line.partition(SEPARATOR)
        own, system = before.split(), after.split()
        if not separator or len(own) < 5 or len(system) < 3 or system[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = frozenset(system[2].split(",")) if system[0] == "cgroup" else frozenset()
        found.append(Mount(root / _plain(own[4]).lstrip("/"), PurePosixPath(_plain(own[3])), controllers))
    return found


def _plain(path: str) -> str:
    """A path as it is: blanks and the like stand as octal numbers in the kernel's tables."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0
