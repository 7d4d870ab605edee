"""Recipes by coverage-guided fuzzing: any text is a recipe or a told fault, soon and in little memory.

    make fuzz SECONDS=300

Starts from the shipped recipes and the broken ones. Whatever it finds is written below `build/fuzz/found/`, one input a
file, to be given to this script again by its name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["runner.reading", "yaml"]):
    from runner.errors import RecipeError, report
    from runner.reading import check, source

ROOT = Path(__file__).parent.parent.parent
PATH = str(ROOT / "recipes" / "fuzzed.yaml")  # where relative paths of the seeds lead to


def one(data: bytes) -> None:
    """One input. Raises for what no user may meet."""
    text = data.decode("utf-8", "replace")
    try:
        check.settle(source.recipe(text, PATH), PATH)
    except RecipeError as error:
        lines = source.LINE_END.split(text)
        for problem in error.problems:
            place = problem.place
            if place is not None and place.file == PATH and place.line:
                assert place.line <= len(lines), place
                assert 1 <= place.column <= len(lines[place.line - 1]) + 1, place
        for style in ("text", "json", "github"):
            report(error, style).encode()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
