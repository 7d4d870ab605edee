"""The user of a run, the home directory, the root file system and the limits of a process."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from runner.doctor.finding import MIB, Finding, Surroundings, size
from runner.doctor.needs import Needs

GROUP = "user and limits"
ENOUGH_FILES = 1024  # a process of many devices, with data, logs and sockets
ENOUGH_LOCKED = 64 * MIB
SUITABLE_HOME = "set `HOME` to a folder that can be written to, in a container `-e HOME=/tmp`"


def user(surroundings: Surroundings) -> Finding:
    """Who this is; a user id that nobody knows is no hindrance."""
    if surroundings.user_name is None:
        text = f"user id {surroundings.user}, which has no entry in `/etc/passwd`: nothing here needs one"
        return Finding(GROUP, "user", "ok", text)
    return Finding(GROUP, "user", "ok", f"{surroundings.user_name} (user id {surroundings.user})")


def home(surroundings: Surroundings) -> Finding:
    """The home directory, which caches are in unless a variable says otherwise."""
    home = surroundings.home()
    if home == Path("~"):
        text = "`HOME` is not set: libraries make a folder named `~` where the run is started"
        return Finding(GROUP, "home", "warning", text, SUITABLE_HOME)
    if not os.path.isdir(home):
        return Finding(GROUP, "home", "warning", f"`{home}` is not there", SUITABLE_HOME)
    if not os.access(home, os.W_OK):
        return Finding(GROUP, "home", "warning", f"`{home}` cannot be written to", SUITABLE_HOME)
    return Finding(GROUP, "home", "ok", f"`{home}`")


def root(surroundings: Surroundings) -> Finding:
    """Whether the root file system can be written to; a run does not need that."""
    read_only = bool(os.statvfs(surroundings.root).f_flag & os.ST_RDONLY)
    text = "read-only: only what is mounted can be written to" if read_only else "writable"
    return Finding(GROUP, "root file system", "ok", text)


def open_files(soft: int | None = None) -> Finding:
    """How many files a process may have open; the limit of this one unless another is given."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_FILES:
        hint = f"`ulimit -n 65536`, in a container `--ulimit nofile=65536:65536`; {ENOUGH_FILES} is enough for most"
        return Finding(GROUP, "open files", "warning", f"at most {soft}", hint)
    return Finding(GROUP, "open files", "ok", "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft}")


def locked_memory(surroundings: Surroundings, needs: Needs, soft: int | None = None) -> Finding:
    """How much memory a process may lock: what InfiniBand takes for its buffers."""
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if soft is None else soft
    text = "no limit" if soft == resource.RLIM_INFINITY else f"at most {size(soft)}"
    has_infiniband = (surroundings.root / "dev/infiniband").exists()
    if has_infiniband and needs.processes > 1 and soft != resource.RLIM_INFINITY and soft < ENOUGH_LOCKED:
        hint = "`ulimit -l unlimited`, in a container `--ulimit memlock=-1`"
        return Finding(GROUP, "locked memory", "warning", f"{text}, and NCCL over InfiniBand locks more", hint)
    return Finding(GROUP, "locked memory", "ok", text)
