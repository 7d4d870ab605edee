"""Cores, memory and disks: how much there is, and whether it can be written to, in each folder that a run writes to."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner import image
from runner.doctor.finding import GIB, Finding, Status, Surroundings, size, wrong
from runner.doctor.needs import Needs
from runner.machine import Machine

GROUP = "memory and disks"
# NCCL and the processes that load data share pages there; docker and podman give 64 MiB unless told otherwise.
ENOUGH_SHARED = GIB
LITTLE_DISK = 2 * GIB  # a checkpoint of an adapter of a large model, with its optimizer, is about as large
PROBE = b"\0" * 65536  # written and synchronised: a full disk may still have room for an empty file


@dataclass(frozen=True)
class Folder:
    """A folder that something writes to, and the variable that moves it."""

    name: str
    path: Path
    variable: str
    needed: bool  # a run without it fails
    runs_code: bool = False  # what is compiled there is loaded from there
    takes: int = 0  # bytes that a run will write there


def cores(machine: Machine) -> Finding:
    """The cores that may be used, of those that the machine has."""
    whole = os.cpu_count() or machine.cores
    of_all = f" of the machine's {whole}" if whole > machine.cores else ""
    return Finding(GROUP, "cores", "ok", f"{machine.cores}{of_all}")


def memory(machine: Machine) -> Finding:
    """The memory that may be used, of that which the machine has."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_all = f" of the machine's {size(whole)}" if whole > machine.memory else ""
    return Finding(GROUP, "memory", "ok", f"{size(machine.memory)}{of_all}")


def shared_memory(surroundings: Surroundings, needs: Needs) -> Finding:
    """`/dev/shm`, which several processes on one machine talk through."""
    name = "shared memory"
    try:
        disk = os.statvfs(surroundings.root / "dev/shm")
    except OSError as error:
        return Finding(
            GROUP, name, wrong(needs.processes > 1), f"no `/dev/shm`: {error.strerror}", "mount a tmpfs there"
        )
    whole, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    return judged_shared_memory(whole, free, needs.processes)


def judged_shared_memory(whole: int, free: int, processes: int) -> Finding:
    """A verdict on `/dev/shm` of so many bytes, `free` of them free, for so many processes."""
    text = f"{size(whole)} in `/dev/shm`" + (f", {size(free)} free" if free < whole // 2 else "")
    if free >= ENOUGH_SHARED or processes == 1:
        return Finding(GROUP, "shared memory", "ok", text)
    hint = "start the container with `--shm-size=8g` or `--ipc=host`" if whole < ENOUGH_SHARED else "empty `/dev/shm`"
    return Finding(GROUP, "shared memory", "warning", f"{text}, little for {processes} processes", hint)


def output(needs: Needs) -> Finding:
    """The folder that the run writes to."""
    return writable(Folder("output", needs.output, "output.directory", needed=True, takes=needs.disk))


def caches(surroundings: Surroundings, needs: Needs, machine: Machine) -> list[Finding]:
    """The folders that libraries keep things in."""
    return [writable(folder) for folder in folders(surroundings, needs, machine)]


def temporary(surroundings: Surroundings) -> Folder:
    """Where temporary files go, as Python looks for it."""
    return Folder("temporary files", Path(surroundings.environment.get("TMPDIR") or "/tmp"), "TMPDIR", needed=True)


def folders(surroundings: Surroundings, needs: Needs, machine: Machine) -> list[Folder]:
    """Those folders, each where its library looks for it."""
    environment, home = surroundings.environment, surroundings.home()

    def at(default: Path, *variables: str) -> Path:
        for variable in variables:
            if environment.get(variable):
                return Path(os.path.expanduser(environment[variable]))
        return default

    cache = at(home / ".cache", "XDG_CACHE_HOME")
    place = temporary(surroundings).path
    user = surroundings.user_name or f"uid_{surroundings.user}"
    hub = at(at(cache / "huggingface", "HF_HOME"), "HF_HUB_CACHE")
    listed = [
        temporary(surroundings),
        Folder("Hub cache", hub, "HF_HUB_CACHE" if environment.get("HF_HUB_CACHE") else "HF_HOME", needs.reads_hub),
        Folder("own cache", at(cache / "tunesmith", "TUNESMITH_CACHE"), "TUNESMITH_CACHE", needs.gguf),
        Folder("cache", cache, "XDG_CACHE_HOME", needed=False),
        Folder(
            "torch extensions", at(cache / "torch_extensions", "TORCH_EXTENSIONS_DIR"), "TORCH_EXTENSIONS_DIR",
            needed=False, runs_code=True,
        ),
        Folder(
            "Inductor cache", at(place / f"torchinductor_{user}", "TORCHINDUCTOR_CACHE_DIR"), "TORCHINDUCTOR_CACHE_DIR",
            needed=False, runs_code=True,
        ),
        Folder(
            "Matplotlib", at(at(home / ".config", "XDG_CONFIG_HOME") / "matplotlib", "MPLCONFIGDIR"), "MPLCONFIGDIR",
            needed=False,
        ),
    ]  # fmt: skip
    if machine.devices:
        triton = at(at(home, "TRITON_HOME") / ".triton" / "cache", "TRITON_CACHE_DIR")
        listed.append(Folder("Triton cache", triton, "TRITON_CACHE_DIR", needed=False, runs_code=True))
    return listed


def writable(folder: Folder) -> Finding:
    """Whether a folder can be written to, or made; nothing is left there."""
    shown, place = str(folder.path), _existing(folder.path)
    way = f"set `{folder.variable}` to a folder that can be written to"
    mount = f"{way}; in a container mount one there: `-v FOLDER:{shown}`"
    mount = (image.unwritable(shown) if folder.name == "output" else image.writable(shown)) or mount
    if not os.path.isdir(place):
        return Finding(GROUP, folder.name, wrong(folder.needed), f"`{place}` is no folder", way)
    try:
        disk = os.statvfs(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        status: Status = wrong(folder.needed)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = (error.strerror or str(error)).lower()
        where = "" if place == folder.path else f", the nearest folder that is there is `{place}`"
        hint = f"free some space, or {way}" if full else mount
        return Finding(GROUP, folder.name, status, f"`{shown}`: {reason}{where}", hint)
    free = disk.f_bavail * disk.f_frsize
    if folder.runs_code and disk.f_flag & os.ST_NOEXEC:
        hint = f"mount it with `exec` (docker: `--tmpfs {place}:rw,exec`), or set `{folder.variable}`"
        text = f"`{shown}` is mounted noexec, and what is compiled there has to run"
        return Finding(GROUP, folder.name, wrong(folder.needed), text, hint)
    if folder.name == "output" and image.is_here() and os.stat(place).st_dev == os.stat("/").st_dev:
        text = f"`{shown}` is in the container, and is lost with it"
        return Finding(GROUP, folder.name, "warning", text, image.lost())
    if folder.name == "output" and free < max(LITTLE_DISK, folder.takes):
        hint = f"free some space, or set `{folder.variable}` to a folder on another disk"
        if free < folder.takes:
            hint = f"its checkpoints take up to {size(folder.takes)}: {hint}"
        return Finding(GROUP, folder.name, "warning", f"`{shown}`, only {size(free)} free", hint)
    return Finding(GROUP, folder.name, "ok", f"`{shown}`, {size(free)} free")


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.absolute()
    # `os.path` and not `Path`: what may not be looked into counts as not there, and raises nothing.
    return next(each for each in (path, *path.parents) if os.path.exists(each))
