"""The recipes that ship: what there is, and one of them written out with the files that it names."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runner
from runner.errors import Place, Problem, RecipeError, RunError
from runner.reading import check, source

FOLDER = Path(runner.__file__).parents[1] / "recipes"
SCHEMA_LINE = re.compile(r"# yaml-language-server:[^\n]*\n")
WEIGHTS = "../models/"  # of a checkout; an installed package has none
ON_THE_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the same model there
NOTE = "a Hub id, a directory or a .gguf file"
OUTPUTS = re.compile(r"(directory:[ \t]*)\.\./outputs")


@dataclass(frozen=True)
class Shipped:
    name: str
    task: str
    sentence: str  # the first of its comment


def recipes() -> list[Shipped]:
    """Every recipe that ships, by name."""
    return [_described(path) for path in sorted(FOLDER.glob("*.yaml"))]


def is_one(name: str) -> bool:
    """Whether a word of a command line names a recipe that ships, and no file that is there."""
    return re.fullmatch(r"\w+", name) is not None and (FOLDER / f"{name}.yaml").is_file() and not os.path.exists(name)


def write(name: str, output: Path, model: str | None, overwrite: bool) -> list[Path]:
    """Write a recipe that ships to `output`, and beside it the files that it names; gives those that were written.

    `model` takes the place of its own. Raises RecipeError for an `output` or a file that is there already and differs,
    unless `overwrite`, and for a model that is none.
    """
    path = FOLDER / f"{name}.yaml"
    text = SCHEMA_LINE.sub("", path.read_text(encoding="utf-8"), count=1)
    written = source.read(str(path)).values
    text = _with_model(text, str(written["model"]["name"]), model, output.parent)
    text = OUTPUTS.sub(r"\1outputs", text)
    files = {output.parent / named: FOLDER / named for named in sorted(set(_named(written)))}
    differing = [target for target, file in files.items() if target.exists() and not filecmp.cmp(target, file, False)]
    for target in [*([output] if output.exists() else []), *differing]:
        if not overwrite:
            hint = "`--force` overwrites it, `--output` names another place"
            raise RecipeError(Problem(f"`{target}` is there already", Place(str(target)), hint))
    made: list[Path] = []
    try:
        for target, file in files.items():
            if target.exists() and target not in differing:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            made.append(target)
        check.settle(source.recipe(text, str(output)), str(output))
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            Problem(f"cannot write `{error.filename or output}`: {(error.strerror or str(error)).lower()}")
        ) from error
    return [output, *made]


def _described(path: Path) -> Shipped:
    text = SCHEMA_LINE.sub("", path.read_text(encoding="utf-8"), count=1)
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        comment.append(line[2:])
    sentence = re.split(r"(?<=\.)\s", " ".join(comment), maxsplit=1)[0]
    return Shipped(path.stem, str(source.read(str(path)).values["task"]), sentence)


def _named(values: Any) -> Iterator[str]:
    """The files beside the recipe that its values name."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _named(value)
    elif isinstance(values, str) and "/" in values and (FOLDER / values).is_file() and not values.startswith(".."):
        yield values


def _with_model(text: str, own: str, given: str | None, beside: Path) -> str:
    """The recipe with the model that is given; or with that of a checkout where it lies beside it, else the Hub's."""
    if given is None and not own.startswith(WEIGHTS):
        return text
    there = own.removeprefix("../")
    chosen = given or (there if (beside / there).is_file() else ON_THE_HUB)
    found = re.compile(re.escape(own) + r"([ \t]*#[^\n]*)?")
    return found.sub(lambda match: chosen + (f"    # {NOTE}" if match[1] else ""), text, count=1)
