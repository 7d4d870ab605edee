"""The files of an adapter and of a repository, as what can be compared: sizes and hashes.

In: a directory, or what the Hub lists. Out: a `Fingerprint` for each path, the changes that make the repository
equal to the directory, and the record in the run directory of what this run has pushed before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from runner import recipe
from runner.hub.client import Refusal

RECORD = "pushed.json"
REFUSED_FOLDERS = {".git", ".cache"}  # the client takes no file from these
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Fingerprint:
    """A file's size in bytes, its SHA-256 and its git blob id. The Hub tells one of the two hashes, so one is None."""

    size: int
    sha256: str | None
    blob: str | None

    def same_as(self, other: Fingerprint) -> bool:
        """Whether both are of the same content, as far as both are known."""
        shared = [(a, b) for a, b in ((self.sha256, other.sha256), (self.blob, other.blob)) if a and b]
        return self.size == other.size and bool(shared) and all(a == b for a, b in shared)


def fingerprints(adapter: Path) -> dict[str, Fingerprint]:
    """Every file under the directory by its path from there, with `/`, in order.

    Raises `Refusal` where it holds no adapter and no model, or something that is not to be pushed: a link that leads
    out of it, or anything but a file.
    """
    weights = ("adapter_model.safetensors", "adapter_model.safetensors.index.json")
    whole = ("model.safetensors", "model.safetensors.index.json")
    if not any(
        (adapter / config).is_file() and any((adapter / name).is_file() for name in names)
        for config, names in (("adapter_config.json", weights), ("config.json", whole))
    ):
        raise Refusal(f"`{adapter}` does not hold an adapter: no `adapter_config.json`, or no `adapter_model`")
    found: dict[str, Fingerprint] = {}
    root = adapter.resolve()
    for file in sorted(adapter.rglob("*")):
        path = file.relative_to(adapter).as_posix()
        if file.is_dir() and not file.is_symlink():
            continue
        if REFUSED_FOLDERS & set(path.split("/")):
            raise Refusal(f"`{path}` cannot be pushed: the Hub takes nothing from `.git` and `.cache`")
        if not file.is_file() or not file.resolve().is_relative_to(root):
            raise Refusal(f"`{path}` cannot be pushed: it is not a file in `{adapter}`")
        found[path] = _fingerprint(file)
    return found


def changes(
    files: Mapping[str, Fingerprint], there: Mapping[str, Fingerprint], earlier: Mapping[str, Fingerprint]
) -> tuple[list[str], list[str]]:
    """What to add and what to remove so that the repository holds `files`.

    A file is removed only where it was pushed `earlier`, is still as it was then, and is none of `files` now.
    """
    add = [path for path, file in files.items() if path not in there or not file.same_as(there[path])]
    gone = [path for path, file in earlier.items() if path not in files and path in there]
    return add, [path for path in gone if earlier[path].same_as(there[path])]


def remembered(run_directory: Path, hub: recipe.Hub) -> dict[str, Fingerprint]:
    """The files that this run has pushed to this branch before. A record that cannot be read counts as none."""
    try:
        files = json.loads((run_directory / RECORD).read_text("utf-8"))[_key(hub)]
        return {path: Fingerprint(**file) for path, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(
    run_directory: Path, hub: recipe.Hub, files: Mapping[str, Fingerprint], announce: Callable[[str], None]
) -> None:
    """Write down what was pushed, beside what is written there about other branches. A failure is only announced."""
    record = run_directory / RECORD
    try:
        known = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    known = {**(known if isinstance(known, dict) else {}), _key(hub): {p: asdict(f) for p, f in files.items()}}
    part = record.with_name(f"{RECORD}.part")
    try:
        part.write_text(json.dumps(known, indent=1), "utf-8")
        os.replace(part, record)
    except OSError as error:
        announce(f"cannot write `{record}` ({error.strerror}): a file that goes away here will stay on the Hub")


def _key(hub: recipe.Hub) -> str:
    return f"{hub.repository}@{hub.revision}"


def _fingerprint(file: Path) -> Fingerprint:
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            while chunk := opened.read(CHUNK):
                sha256.update(chunk)
                blob.update(chunk)
    except OSError as error:
        raise Refusal(f"`{file}` cannot be read: {error.strerror}") from error
    return Fingerprint(size, sha256.hexdigest(), blob.hexdigest())
