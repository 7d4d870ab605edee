"""Published checkpoints in, the one that is to be pushed next out: whatever happens to their folders meanwhile.

A checkpoint is laid on the shelf as soon as it is there, as links to those of its files that are pushed, so that it
stays when the run deletes it. There is room for one: a newer one takes the place of one that still waits.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runner import checkpoint
from runner.checkpoint import MANIFEST, Manifest
from runner.secrets import redact

TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.jinja",
)  # fmt: skip
PUSHED = (*checkpoint.ADAPTER_FILES, *checkpoint.MODEL_FILES, *TOKENIZER_FILES)


@dataclass(frozen=True)
class Staged:
    """A checkpoint on the shelf: its step, and the folder with what is pushed of it."""

    step: int
    folder: Path


class Shelf:
    """The newest checkpoint of `run_directory` after the step `last` that has not been taken; safe between threads."""

    def __init__(self, run_directory: Path, last: int, environment: Mapping[str, str]) -> None:
        self.checkpoints, self.room = run_directory / "checkpoints", run_directory / "checkpoints_to_push"
        self.environment = environment
        self.last = last
        self.waiting: Staged | None = None
        self.passed_over: list[int] = []
        self._lock, self._looking = threading.Lock(), threading.Lock()
        shutil.rmtree(self.room, ignore_errors=True)

    def look(self) -> None:
        """Take up what has been published since the last look; of several the newest."""
        with self._looking:
            for folder in checkpoint.all_of(self.checkpoints):
                step = int(folder.name.removeprefix("step-"))
                if step > self.last:
                    self.last = step
                    self._put(self._staged(folder, step), step)

    def take(self) -> Staged | None:
        """What waits, which is the caller's to drop or to give back."""
        with self._lock:
            staged, self.waiting = self.waiting, None
            return staged

    def give_back(self, staged: Staged) -> None:
        """Lay back what could not be pushed, unless a newer one has come meanwhile."""
        with self._lock:
            if self.waiting is None:
                self.waiting = staged
            else:
                self._pass_over(staged)

    def drop(self, staged: Staged) -> None:
        """Take a checkpoint's files away."""
        shutil.rmtree(staged.folder, ignore_errors=True)

    def _put(self, staged: Staged | None, step: int) -> None:
        with self._lock:
            if staged is None:
                self.passed_over.append(step)
                return
            if self.waiting is not None:
                self._pass_over(self.waiting)
            self.waiting = staged

    def _pass_over(self, staged: Staged) -> None:
        self.passed_over.append(staged.step)
        self.drop(staged)

    def _staged(self, folder: Path, step: int) -> Staged | None:
        """The files of a checkpoint that are pushed, linked; None where they are gone or not what its manifest says."""
        target = self.room / folder.name
        try:
            manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
            names = [name for name in manifest.files if any(fnmatch.fnmatchcase(name, form) for form in PUSHED)]
            names = [name for name in names if name == Path(name).name]
            target.mkdir(parents=True)
            for name in names:
                _link(folder / name, target / name)
            sound = all(checkpoint.digest(target / name) == manifest.files[name] for name in names)
            shown = replace(manifest, files={name: manifest.files[name] for name in names})
            text = redact(json.dumps(asdict(shown), indent=1, ensure_ascii=False), self.environment)
            (target / MANIFEST).write_text(text + "\n", encoding="utf-8")
            (target / "README.md").write_text(_card(manifest), encoding="utf-8")
        except (OSError, ValueError, TypeError):
            sound = False
        if sound:
            return Staged(step, target)
        shutil.rmtree(target, ignore_errors=True)
        return None


def _link(file: Path, target: Path) -> None:
    """The same file by another name, or a copy of it where the file system has no such thing."""
    try:
        os.link(file, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, target, follow_symlinks=False)


def _card(manifest: Manifest) -> str:
    total = manifest.settings.get("total_steps")
    of_all = f" of {total}" if isinstance(total, int) else ""
    return (
        f"# The checkpoint of step {manifest.step}{of_all}\n\n"
        "Pushed by Tunesmith while training went on: this is not the result of the run. Checkpoints of earlier steps "
        "are the earlier commits of this branch. `manifest.json` holds the settings and the hash of each file.\n"
    )
