"""A directory of weights -> why it is not loaded, if it is not: pickled weights run whatever code they name.

Only safetensors files and GGUF files are read. Others are converted elsewhere, by somebody who trusts their maker.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

PICKLED = ("pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
SAFE = "*.safetensors"
HINT = (
    "a pickle can run any code when it is read; where its maker is trusted, load it with transformers or PEFT, and "
    "`save_pretrained` writes it as safetensors"
)


def only_pickled(names: Iterable[str]) -> str | None:
    """The first of these files that holds pickled weights, where none holds them as safetensors."""
    found = sorted(names)
    if any(fnmatchcase(name, SAFE) for name in found):
        return None
    return next((name for name in found if any(fnmatchcase(name, form) for form in PICKLED)), None)


def pickled_in(directory: str | Path) -> str | None:
    """As `only_pickled`, of the files in a directory."""
    try:
        return only_pickled(path.name for path in Path(directory).iterdir())
    except OSError:
        return None
