"""What to pass to `docker run`, where this runs in Tunesmith's image: hints for what a container does not have.

Podman takes the same options. Outside of the image there is no such hint, and each function but `package` gives None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

MARK = "TUNESMITH_IN_IMAGE"  # set by the Dockerfile
RECIPE, OUTPUTS, CACHE = "/recipe.yaml", "/outputs", "/cache"
AS_CALLER = '`--user "$(id -u):$(id -g)"`'
COMMAND = (
    'docker run --gpus all -v "$PWD/recipe.yaml:/recipe.yaml:ro" -v "$PWD/data:/data:ro" -v "$PWD/outputs:/outputs" '
    "-e HF_TOKEN IMAGE"
)


def is_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in the image."""
    return environment.get(MARK) == "1"


def no_recipe(path: str) -> str | None:
    """Where there is no file by the recipe's name."""
    if not is_here():
        return None
    if path == RECIPE:
        return f"mount the recipe and what it names: `{COMMAND}`"
    return not_mounted(path)


def empty_directory(path: str) -> str | None:
    """Where the recipe is a directory, and an empty one."""
    if not is_here():
        return None
    return (
        "docker makes one where the host has no such file: correct the left side of "
        f'`-v "$PWD/recipe.yaml:{path}:ro"`, and remove the directory that was made there'
    )


def unreadable(path: str) -> str | None:
    """Where the recipe may not be read."""
    if not is_here():
        return None
    return (
        f"this is user {os.geteuid()}: on the host `chmod a+r` the file, or pass {AS_CALLER} if it is yours; "
        f"with SELinux end its `-v` with `{path}:ro,z`"
    )


def not_mounted(path: str) -> str | None:
    """Where nothing is mounted at a path, nor anywhere above it."""
    if not is_here():
        return None
    top = os.path.join("/", *path.strip("/").split("/")[:1])
    if os.path.lexists(top):
        return None
    return f'nothing is mounted at `{top}`: pass `-v "$PWD{top}:{top}:ro"`'


def unwritable(folder: str) -> str | None:
    """Where a run's folder cannot be written to."""
    if not (is_here() and _below(folder, OUTPUTS)):
        return None
    return (
        f'this is user {os.geteuid()}: on the host `mkdir -p outputs`, and pass `-v "$PWD/outputs:{OUTPUTS}"` '
        f"with {AS_CALLER}; with SELinux end the `-v` with `:z`"
    )


def writable(path: str) -> str | None:
    """Where a cache or the folder for temporary files cannot be written to."""
    if not is_here():
        return None
    if _below(path, CACHE):
        return f"pass `-v tunesmith-cache:{CACHE}`, or `--tmpfs {CACHE}:exec,mode=1777`"
    if path == "/tmp":
        return "pass `--tmpfs /tmp:exec,mode=1777`"
    return None


def lost() -> str | None:
    """Where what is written goes away together with the container."""
    return f'mount a folder of the host: `-v "$PWD/outputs:{OUTPUTS}"`' if is_here() else None


def other() -> str | None:
    """Where a package was built for another kind of machine."""
    return "take an image for this kind of machine: built with `ACCELERATOR=cuda`, or with `cpu`" if is_here() else None


def package(install: str, built_with: str | None = None) -> str:
    """How a package is installed: outside of the image by a command. `built_with` lets the image itself have it."""
    if not is_here():
        return f"`{install}`"
    if built_with is not None:
        return f"build the image with `--build-arg {built_with}`"
    return f"in an image of your own on this one: `RUN {install}`"


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
