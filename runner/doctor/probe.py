"""The program that imports torch to be asked about it: run by `facts.py` in a process of its own, one JSON line a fact.

Each line is written as soon as it is known, so that a library that hangs or dies hides only what comes after it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

EVENTS = "TUNESMITH_EVENTS"  # the descriptor that facts are written to; what libraries print goes elsewhere


def main(modules: list[str]) -> None:
    """Tell the facts of torch, and of each module whether it can be imported."""
    with os.fdopen(int(os.environ[EVENTS]), "w", encoding="utf-8") as pipe:

        def tell(name: str, fact: Callable[[], dict[str, Any]]) -> None:
            try:
                told = fact()
            except BaseException as error:  # a library may raise or exit as it likes: that is what is asked
                told = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"name": name, **told}), file=pipe, flush=True)

        tell("torch", _torch)
        tell("cuda", _cuda)
        tell("nccl", _nccl)
        for module in modules:
            tell(module, lambda module=module: _module(module))  # type: ignore[misc]  # bound here, for each its own


def _torch() -> dict[str, Any]:
    import torch

    return {"version": torch.__version__, "cuda": torch.version.cuda}


def _cuda() -> dict[str, Any]:
    """The devices that torch can really use: each is touched."""
    import torch

    if torch.version.cuda is None:
        return {"devices": [], "kernels": []}
    torch.cuda.init()
    devices = [
        {"name": torch.cuda.get_device_name(index), "capability": list(torch.cuda.get_device_capability(index))}
        for index in range(torch.cuda.device_count())
    ]
    for index in range(len(devices)):
        torch.ones(1, device=f"cuda:{index}").add(1).item()
    return {"devices": devices, "kernels": torch.cuda.get_arch_list()}


def _nccl() -> dict[str, Any]:
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return {"version": None}
    return {"version": ".".join(map(str, torch.cuda.nccl.version()))}


def _module(name: str) -> dict[str, Any]:
    return {"version": getattr(importlib.import_module(name), "__version__", None)}


if __name__ == "__main__":
    main(sys.argv[1:])
