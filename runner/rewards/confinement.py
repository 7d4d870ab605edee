"""What a reward process gives up before a user's code is loaded, and what this machine lets it give up.

Each layer holds on its own, and is used where the kernel has it: limits, capabilities, Landlock, a filter of system
calls, and where the two last are missing and the process is root, another user id. The network stays open.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runner import secrets
from runner.rewards import landlock, seccomp

SET_DEATH_SIGNAL, SET_DUMPABLE, DROP_CAPABILITY, SET_SUBREAPER, SET_NO_NEW_PRIVILEGES = 1, 4, 24, 36, 38
CAPABILITIES_VERSION = 0x20080522
LARGEST_FILE = 256 * 1024 * 1024  # bytes that a reward process writes into one file
MOST_OPEN_FILES = 512
MOST_PROCESSES = 256  # of one user id; the kernel asks nobody whose id is 0
HEADROOM = 1024 * 1024 * 1024  # bytes that may be reserved and not used; libraries reserve more than they use
NOBODY = 65534
NICE = 5

# What holds tokens and keys beside the environment, below the home directory and elsewhere.
IN_HOME = (
    ".cache/huggingface/token .cache/huggingface/stored_tokens .huggingface .netrc .aws .ssh .gnupg .kube .azure "
    ".config/gcloud .config/gh .config/wandb .docker/config.json .git-credentials .pypirc"
).split()
ELSEWHERE = ("/run/secrets", "/var/run/secrets")

_LIBC = ctypes.CDLL(None, use_errno=True)


def hidden_paths(environment: Mapping[str, str]) -> list[Path]:
    """The files and folders that hold tokens, by this environment, and that exist."""
    home = Path(environment.get("HOME") or os.path.expanduser("~"))  # `~` where nobody has one
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    hub = Path(environment.get("HF_HOME") or cache / "huggingface")
    candidates = [*(home / name for name in IN_HOME), *map(Path, ELSEWHERE), hub / "token", hub / "stored_tokens"]
    for name, value in environment.items():
        stem, _, end = name.rpartition("_")
        if value and end in ("FILE", "PATH", "CREDENTIALS") and (secrets.names_secret(stem) or end == "CREDENTIALS"):
            candidates.append(Path(value).expanduser())
    if environment.get("NETRC"):
        candidates.append(Path(environment["NETRC"]))
    found = {path.resolve() for path in candidates if _is_there(path)}
    return sorted(path for path in found if path != Path("/") and not found.intersection(path.parents))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def confine(scratch: Path, memory: int, hidden: list[Path], packages: list[Path]) -> None:
    """Give up everything that a reward function does not need. Cannot be undone; children inherit it.

    `scratch` is the one folder that stays writable, `memory` is in bytes, `packages` are folders that must
    stay readable.
    """
    os.setsid()
    with suppress(OSError):  # the kernel ends this process before any other when memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError):
        os.nice(NICE)
    _limit(memory)
    signals_inside = landlock.version() >= landlock.WITH_SIGNALS
    if os.geteuid() == 0 and not signals_inside:
        _become_nobody(scratch, packages)
    _drop_capabilities()
    _LIBC.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    landlock.restrict([scratch, Path("/dev/null")], hidden)
    seccomp.restrict(with_signals=not signals_inside)
    _LIBC.prctl(SET_DEATH_SIGNAL, 9, 0, 0, 0)


def protect() -> None:
    """Close this process's environment and memory to others of the same user. For the trainer and the warden."""
    _LIBC.prctl(SET_DUMPABLE, 0, 0, 0, 0)


def protect_from_rewards() -> None:
    """As `protect`, where Landlock does not keep reward processes out of others anyway: it also keeps debuggers out."""
    if not landlock.version():
        protect()


def adopt_orphans() -> None:
    """Descendants that lose their parent become children of this process, so that none of them is out of reach."""
    _LIBC.prctl(SET_SUBREAPER, 1, 0, 0, 0)


def keep_signals_inside() -> bool:
    """From here on `kill(-1)` by this process reaches its own descendants and nothing else; False if it does not.

    Not taken on trust: a parent of the same user that cannot be signalled is the proof.
    """
    parent = os.getppid()
    if parent <= 1 and os.getpid() != 1:
        return False
    _LIBC.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    try:
        os.kill(parent, 0)
    except OSError:
        return False  # it could not be signalled before: nothing is proved by that
    if not landlock.keep_signals_inside():
        return False
    try:
        os.kill(parent, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def layers() -> dict[str, tuple[bool, str]]:
    """What this machine lets a reward process give up: name -> whether it is used, and a sentence about it."""
    known, root, against = landlock.version(), os.geteuid() == 0, seccomp.reason_against()
    signals_inside = known >= landlock.WITH_SIGNALS
    numbered = "" if root else "; the kernel counts its processes"
    found: dict[str, tuple[bool, str]] = {
        "environment": (True, "built from nothing, and the secrets that the recipe names"),
        "limits": (True, f"memory, file size, open files; no core dumps{numbered}"),
        "warden": (True, "watches memory and processes, and ends every descendant"),
        "capabilities": (root, "all dropped" if root else "none are held"),
        "landlock": (
            known > 0,
            f"version {known}: writes only into a scratch folder, token files cannot be read" if known
            else "the kernel has none: a reward function can read and write what this user can",
        ),
        "signals": (
            signals_inside or against is None or root,
            "kept inside by Landlock" if signals_inside
            else "to older processes refused by a filter" if against is None
            else "to other users refused" if root else "not kept inside",
        ),
        "seccomp": (against is None, against or "calls that reach into other processes are refused"),
    }  # fmt: skip
    return found


def _limit(memory: int) -> None:
    count = _processes_of_user() + MOST_PROCESSES if os.geteuid() else MOST_PROCESSES
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory + HEADROOM),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
        (resource.RLIMIT_NOFILE, MOST_OPEN_FILES),
        (resource.RLIMIT_NPROC, count),
        (resource.RLIMIT_MEMLOCK, 1024 * 1024),
    ):
        highest = resource.getrlimit(name)[1]
        if highest != resource.RLIM_INFINITY:
            value = min(value, highest)
        with suppress(OSError, ValueError):
            resource.setrlimit(name, (value, value))


def _processes_of_user() -> int:
    """Processes and threads of this user on the machine: the kernel counts them all against its limit."""
    user, count = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == user:
                    count += len(os.listdir(f"{entry.path}/task"))
    return count


def _become_nobody(scratch: Path, packages: list[Path]) -> None:
    """Another user id, which can signal none of root's processes; not where the interpreter could not be read then."""
    needed = [scratch.parent, *packages, *(Path(each) for each in [sys.prefix, sys.base_prefix, *sys.path] if each)]
    folders = [each.resolve() for each in needed if each.is_dir()]
    if not all(folder.stat().st_mode & 0o005 == 0o005 for each in folders for folder in [each, *each.parents]):
        return
    with suppress(OSError):
        os.chown(scratch, NOBODY, NOBODY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _drop_capabilities() -> None:
    for capability in range(64):
        if _LIBC.prctl(DROP_CAPABILITY, capability, 0, 0, 0) != 0:
            break
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    _LIBC.capset(header, (ctypes.c_uint32 * 6)())
