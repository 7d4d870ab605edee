"""A checkpoint's pickles, read for data alone: what they may name beside tensors is looked at before any is read.

DeepSpeed and transformers save the optimizer's state as pickles, and DeepSpeed reads them without a guard. Here torch
is told to read nothing but data in this process, and a checkpoint to name no class of its own. It is a second guard:
the first is the manifest, which tells damage and not malice.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy
from torch import serialization

from runner.errors import Problem, RunError

NEVER_READ = ("training_args.bin",)  # written by transformers for others
SUFFIXES = (".pt", ".pth", ".bin")
MAKERS = (
    "deepspeed",
    "numpy",
    "torch",
    "bitsandbytes",
    "galore_torch",
    "apollo_torch",
)  # whose classes hold an optimizer's state
REBUILDS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")  # functions that make data


def admit(checkpoint: Path) -> None:
    """Let this process read a checkpoint's pickles, as data. Raises RunError where one names what no data needs."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    for path in sorted(checkpoint.rglob("*")):
        if path.suffix in SUFFIXES and path.name not in NEVER_READ and path.is_file():
            names = _names(path)
            serialization.add_safe_globals([_named(name, path) for name in names])
            if "numpy.dtype" in names:  # it makes one of these, which the pickle does not name
                serialization.add_safe_globals([getattr(numpy.dtypes, name) for name in numpy.dtypes.__all__])


def _names(path: Path) -> list[str]:
    try:
        return list(serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as error:  # whatever a pickle that nobody made ends in, it is not read
        raise _refused(path, "is not one that torch has written") from error


def _named(name: str, path: Path) -> Any:
    """What a pickle means by a dotted name, where it is a class that holds data."""
    module, _, attribute = name.rpartition(".")
    if name in REBUILDS or module.partition(".")[0] in MAKERS:
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            found = None
        if name in REBUILDS or isinstance(found, type):
            return (found, name)
    raise _refused(path, f"names `{name}`, which no checkpoint of Tunesmith holds")


def _refused(path: Path, why: str) -> RunError:
    hint = "somebody else has written it: delete its folder, and the run goes on from the checkpoint before it"
    return RunError(Problem(f"`{path}` {why}", hint=hint))
