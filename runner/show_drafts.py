"""What a person sees of `tunesmith init`: what was guessed and why, and what to run next. It writes the recipe, too."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from runner import machine, runfile
from runner.errors import Place, Problem, RecipeError, RunError, printable
from runner.init import drafting, shipped
from runner.init.asking import Asker
from runner.init.drafting import STANDARD_OUTPUT, Asked
from runner.init.shipped import Shipped
from runner.nearest import nearest
from runner.reading.keys import DATASET

ROLES = tuple(role for role in DATASET["columns"]["schema"] if role != "split")  # which says where rows belong
NEXT = {
    "preview": "the tokens of a row, and which of them are learned; --html for all rows",
    "plan": "what a run would do, and what memory it needs",
    "rewards check": "whether the rewards tell good completions from bad ones",
    "train": "train, evaluate, and say what was learned",
}


def listing(recipes: Sequence[Shipped], console: Console) -> None:
    """The recipes that ship, a line each."""
    names, tasks = (max(len(getattr(each, what)) for each in recipes) for what in ("name", "task"))
    for each in recipes:
        console.print(f"{each.name:<{names}}  {each.task:<{tasks}}  {each.sentence}", soft_wrap=True)
    console.print()
    console.print("`tunesmith init NAME` writes one of them here, with its data", soft_wrap=True)


def write_shipped(options: argparse.Namespace, console: Console) -> None:
    """Write out a recipe that ships. Raises RecipeError."""
    (name,) = options.files
    of_data = {
        "--task": options.task,
        "--format": options.row_format,
        "--name": options.name,
        "--column": options.column,
    }
    for flag, given in of_data.items():
        if given:
            hint = "change it in what is written, or by `--set` where it runs"
            raise RecipeError(Problem(f"`{name}` is a recipe that ships, and `{flag}` is for data", Place(flag), hint))
    output = Path(options.output or f"{name}.yaml")
    for path in shipped.write(name, output, options.model, options.force):
        console.print(Text(f"{printable(str(path))} is written"), soft_wrap=True)
    task = next(each.task for each in shipped.recipes() if each.name == name)
    _next(str(output), task, console)


def write_draft(options: argparse.Namespace, console: Console) -> None:
    """Write a recipe for data files, or print it. Raises DataError, RecipeError and RunError."""
    (first, *others) = options.files
    similar = nearest(first, [each.name for each in shipped.recipes()])
    if similar and not others and not os.path.exists(first) and "." not in first:
        hint = f"`tunesmith init {similar}` writes out a recipe that ships; `--list` shows all"
        raise RecipeError(Problem(f"`{first}` does not exist", Place(first), hint))
    asks = not options.yes and sys.stdin.isatty() and console.is_terminal
    asker = Asker(input if asks else None, lambda text: console.print(Text(text), soft_wrap=True))
    asked = Asked(
        tuple(options.files), options.task, options.row_format, _columns(options.column),
        options.model, options.name, options.output,
    )  # fmt: skip
    drafted = drafting.draft(asked, asker, machine.here())
    if drafted.output != STANDARD_OUTPUT:
        _write(Path(drafted.output), drafted.text, options.force, asker)
    width = max(len(word) for word, _ in drafted.notes)
    for word, sentence in drafted.notes:
        console.print(Text(f"{word:<{width}}  {printable(sentence)}"), soft_wrap=True)
    if drafted.output == STANDARD_OUTPUT:
        print(drafted.text, end="")
        return
    console.print(Text(f"\n{printable(drafted.output)} is written"), soft_wrap=True)
    _next(drafted.output, drafted.task, console)


def _write(path: Path, text: str, force: bool, asker: Asker) -> None:
    if path.exists() and not force and not asker.agreed(f"`{printable(str(path))}` is there already: overwrite it"):
        hint = "`--force` overwrites it, `--output` names another file"
        raise RecipeError(Problem(f"`{path}` is there already", Place(str(path)), hint))
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(21, "it is no regular file")
        runfile.write(path, text)
    except OSError as error:
        raise RunError(Problem(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}")) from error


def _columns(given: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in given:
        role, equals, name = text.partition("=")
        if not equals or role not in ROLES or not name:
            roles = ", ".join(f"`{each}=NAME`" for each in ROLES)
            raise RecipeError(Problem(f"`{text}` names no column", Place("--column"), f"write one of {roles}"))
        found[role] = name
    return found


def _next(output: str, task: str, console: Console) -> None:
    """The commands that come next."""
    named = f'"{output}"' if any(character.isspace() for character in output) else output
    verbs = [verb for verb in NEXT if verb != "rewards check" or task == "grpo"]
    commands = {f"tunesmith {verb} {printable(named)}": NEXT[verb] for verb in verbs}
    width = max(map(len, commands))
    console.print("next:", soft_wrap=True)
    for command, what in commands.items():
        console.print(Text(f"  {command:<{width}}  {what}"), soft_wrap=True)
