"""Files as they were named on a command line in; some of their rows, and what is wrong with them, out."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from runner import recipe
from runner.data import origins
from runner.data.rows import Row, shown
from runner.errors import DataError, Place, Problem, listed
from runner.nearest import nearest

MOST_ROWS = 5000  # looked at in all files together
FEWEST_ROWS = 20  # looked at in each file
MOST_FAULTS = 5  # shown
HELD_OUT = re.compile(
    r"(?:^|[^a-z])(?:eval|evaluation|valid|validation|val|dev|test|heldout)(?:[^a-z]|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Looked:
    """What was seen of the files. Paths are as they were given."""

    train: tuple[str, ...]
    evaluation: tuple[str, ...]  # files whose names say that they are for evaluation
    rows: list[Row]  # of the files to train on, in order
    evaluation_rows: list[Row]
    faults: list[Problem]  # of rows that could not be read
    all_rows: bool  # whether every row was looked at
    bytes: int  # of all files
    files: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.rows) + len(self.faults)


def look(paths: Sequence[str]) -> Looked:
    """The first rows of each file. Raises DataError where a file cannot be read at all, or no row of them can."""
    named = [path for path in dict.fromkeys(map(_plain, paths)) if path]
    held_out = tuple(path for path in named if HELD_OUT.search(os.path.splitext(os.path.basename(path))[0]))
    train = tuple(path for path in named if path not in held_out)
    if not train:  # nothing to train on is named so: it is what there is
        train, held_out = held_out, ()
    if not train:
        raise DataError(Problem("no data is named", hint="`tunesmith init rows.jsonl` writes a recipe for a file"))
    problems: list[Problem] = []
    files: dict[str, list[str]] = {}
    for path in (*train, *held_out):
        try:
            _there(path)
            files[path] = origins.files(source(path), "train")
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    every = [file for path in (*train, *held_out) for file in files[path]]
    share = max(MOST_ROWS // max(len(every), 1), FEWEST_ROWS)
    rows: dict[str, list[Row]] = {"train": [], "evaluation": []}
    faults: list[Problem] = []
    all_rows = True
    for role, of_role in (("train", train), ("evaluation", held_out)):
        for file in (file for path in of_role for file in files[path]):
            found = origins.rows((source(file),))
            for item in islice(found, share):
                if isinstance(item, Row):
                    rows[role].append(item)
                    all_rows &= not item.more
                elif item.whole:
                    problems.append(item.problem)
                else:
                    faults.append(item.problem)
            all_rows &= next(found, None) is None
    if problems:
        raise DataError(problems[:MOST_FAULTS], len(problems))
    if not rows["train"]:
        raise DataError(
            faults[:MOST_FAULTS] or [Problem("there are no rows", Place(shown(named[0])))], len(faults) or 1
        )
    size = sum(os.path.getsize(file) for file in every)
    return Looked(train, held_out, rows["train"], rows["evaluation"], faults, all_rows, size, tuple(every))


def source(path: str) -> recipe.Source:
    """A path as the reader of recipes hands it over, with nothing said of its rows."""
    return recipe.Source(os.path.abspath(os.path.expanduser(path)), 1.0, None, (), "auto")


def kinds_of_rows(rows: Sequence[Row]) -> list[tuple[int, Row, tuple[str, ...]]]:
    """How many rows have the same columns, the first of these rows, and the columns; the most frequent kind first."""
    counted = Counter(tuple(sorted(row.values)) for row in rows)
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        first.setdefault(tuple(sorted(row.values)), row)
    return [(number, first[columns], tuple(first[columns].values)) for columns, number in counted.most_common()]


def mixed(rows: Sequence[Row]) -> Problem | None:
    """The fault of rows that have nothing in common, of which one recipe can take one kind alone."""
    kinds = kinds_of_rows(rows)
    shared = set.intersection(*(set(columns) for _, _, columns in kinds)) if kinds else set()
    if len(kinds) < 2 or shared:
        return None
    (most, first, ours), (fewer, other, theirs) = kinds[:2]
    message = (
        f"the rows are of several kinds: {most} have {listed(ours[:4])}, as at `{first.place}`, "
        f"and {fewer} have {listed(theirs[:4])}, as at `{other.place}`"
    )
    return Problem(message, other.place, "put the rows of each kind into a file of their own")


def _plain(path: str) -> str:
    return path.rstrip("/") or path


def _there(path: str) -> None:
    """Refuse what is not there with a word about what is; anything else is told by its reader."""
    full = os.path.expanduser(path)
    if os.path.exists(full) or (glob.has_magic(path) and not os.path.islink(full)):
        return
    directory, name = os.path.split(full)
    names = sorted(os.listdir(directory or ".")) if os.path.isdir(directory or ".") else []
    similar = nearest(name, names)
    hint = f"a similar name exists: `{os.path.join(directory, similar)}`" if similar else None
    if hint is None and re.fullmatch(r"[\w.-]+/[\w.-]+", path) and "." not in name:
        hint = "a data set of the Hub is not looked at: write the recipe with its id by hand, as docs/recipe.md shows"
    elif hint is None and "." not in name:
        hint = "name a file of rows; `tunesmith init --list` shows the recipes that ship"
    raise DataError(Problem(f"`{shown(path)}` does not exist", Place(shown(path)), hint))
