"""A reward function by its name, loaded from its file as the pool does it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

REWARDS = Path(__file__).resolve().parents[2] / "rewards"
NAMES = sorted(path.stem for path in REWARDS.glob("*.py") if path.stem != "__init__")


def module(name: str) -> ModuleType:
    """The module of `rewards/<name>.py`, under a name that nothing else has."""
    full = f"tunesmith_reward_{name}"
    if full not in sys.modules:
        place = importlib.util.spec_from_file_location(full, REWARDS / f"{name}.py")
        assert place is not None and place.loader is not None
        loaded = importlib.util.module_from_spec(place)
        sys.modules[full] = loaded
        place.loader.exec_module(loaded)
    return sys.modules[full]


def reward(name: str) -> Callable[..., float]:
    function: Callable[..., float] = getattr(module(name), name)
    return function
