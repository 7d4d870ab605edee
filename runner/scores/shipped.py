"""The rewards that ship here, as modules: a metric reads answers by the code of the reward of its kind.

They are loaded by their path. By name, `rewards` could be a file of the user, which runs in its confinement alone.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import runner

FOLDER = Path(runner.__file__).parents[1] / "rewards"


@functools.cache
def reward(name: str) -> Any:
    """The module of a reward, such as `json_schema`."""
    specification = importlib.util.spec_from_file_location(f"shipped_{name}", FOLDER / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
