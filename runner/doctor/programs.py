"""Compilers and build tools on the search path, looked for as those who call them look."""

from __future__ import annotations

import shutil
from collections.abc import Mapping


def c_compiler(environment: Mapping[str, str]) -> str | None:
    """The path of the C compiler, or None."""
    return _first(environment, "CC", ("cc", "gcc", "clang"))


def cpp_compiler(environment: Mapping[str, str]) -> str | None:
    """The path of the C++ compiler, or None."""
    return _first(environment, "CXX", ("c++", "g++", "clang++"))


def ninja(environment: Mapping[str, str]) -> str | None:
    """The path of `ninja`, which torch builds its extensions by."""
    return shutil.which("ninja", path=environment.get("PATH", ""))


def _first(environment: Mapping[str, str], variable: str, names: tuple[str, ...]) -> str | None:
    named = environment.get(variable, "").split()
    candidates = named[:1] or names
    path = environment.get("PATH", "")
    return next((where for name in candidates if (where := shutil.which(name, path=path))), None)
