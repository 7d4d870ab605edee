"""A reward file -> its function and what that takes, told from the syntax tree alone: nothing is executed.

Two conventions are told apart by the parameters. `each` takes `(prompt, completion, example)` by position, whatever
they are called, and scores one completion a call. `batch` has a parameter `completions`, takes everything by name as
TRL passes it, and scores all completions of a step in one call.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner.errors import Place, Problem, UserError, listed
from runner.nearest import nearest

Definition = ast.FunctionDef | ast.AsyncFunctionDef

LARGEST_FILE = 1_000_000  # bytes
LINE_END = re.compile(r"\r\n|[\r\n]")  # `splitlines` knows more of them than Python does
KEYWORD = re.compile(r"(?:(?:async\s+)?def|class)\s+")  # before the name of what is defined
PASSED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
CONVENTIONS = (
    "write `def reward(prompt, completion, example)` for one completion a call, "
    "or `def reward(prompts, completions, **columns)` for all of a step"
)


@dataclass(frozen=True)
class Function:
    """What is known of a reward function without running it.

    `options` are its keyword-only parameters, and whether each has a default. `columns` are the data columns that a
    `batch` function cannot do without; `takes_any` says that it takes all others too. `parameters` are all names.
    """

    file: Path
    name: str
    line: int
    convention: Literal["each", "batch"]
    is_async: bool
    options: Mapping[str, bool]
    columns: tuple[str, ...]
    takes_any: bool
    parameters: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class Source:
    """A reward file as it was at one moment: its text, the hash of its bytes, and its function."""

    text: str
    sha256: str
    function: Function


def read(file: Path, function: str | None = None) -> Function:
    """The function of that name, or the file's only public one, or the one called as the file is.

    Raises UserError with every fault found.
    """
    return source(file, function).function


def source(file: Path, function: str | None = None) -> Source:
    """The same with the text it was read from."""
    data = _bytes(file)
    text = _decoded(data, file)
    tree = _tree(text, file)
    lines = LINE_END.split(text)
    found = _chosen(tree, file, function, lines)
    return Source(text, hashlib.sha256(data).hexdigest(), _described(found, file, lines))


def check_options(
    function: Function, options: Mapping[str, Any], columns: Collection[str] | None = None
) -> list[Problem]:
    """What is wrong with the options that a recipe sets: unknown ones, and those missing that have no default.

    A `batch` function can take a keyword-only parameter from the data too, so one that is missing is a fault there
    only where the names of the data's columns are given.
    """
    problems = []
    for name in options:
        if name in function.options:
            continue
        near = nearest(name, function.options)
        hint = f"a similar option exists: `{near}`" if near else _options_hint(function)
        problems.append(Problem(f"`{function.name}` has no option `{name}`", function.place, hint))
    if function.convention == "each" or columns is not None:
        for name, has_default in function.options.items():
            if not (has_default or name in options or name in PASSED or name in (columns or ())):
                message = f"option `{name}` of `{function.name}` has no default and is not set"
                problems.append(Problem(message, function.place, f"set it under `options`, as `{name}: …`"))
    return problems


def check_columns(function: Function, columns: Collection[str]) -> list[Problem]:
    """The data columns that a `batch` function needs and the data lacks."""
    problems = []
    for name in function.columns:
        if name not in columns:
            near = nearest(name, columns)
            hint = f"a similar column exists: `{near}`" if near else f"the data has {listed(columns) or 'no columns'}"
            message = f"`{function.name}` takes `{name}`, which is no column of the data"
            problems.append(Problem(message, function.place, hint))
    return problems


def _bytes(file: Path) -> bytes:
    place = Place(str(file))
    try:
        if file.is_dir():
            raise UserError(Problem("the reward file is a directory", place, "name a Python file in it"))
        if not file.is_file():
            beside = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
            near = nearest(file.name, beside)
            hint = f"a similar file exists: `{file.with_name(near)}`" if near else None
            what = "is no plain file" if file.exists() else "does not exist"
            raise UserError(Problem(f"the reward file {what}", place, hint))
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(Problem(f"the reward file cannot be read: {error.strerror}", place)) from None
    except ValueError:  # a null character in its name
        raise UserError(Problem("the reward file's name is no file name", place)) from None
    if len(data) > LARGEST_FILE:
        hint = "keep data in files of its own, and read them in the function"
        raise UserError(Problem(f"the reward file is larger than {LARGEST_FILE} bytes", place, hint))
    return data


def _decoded(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(Problem("the reward file is not UTF-8", Place(str(file), line), "save it as UTF-8")) from None


def _tree(text: str, file: Path) -> ast.Module:
    lines = LINE_END.split(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, str(file))
            # the compiler refuses what the parser lets through, as a `return` that stands in no function
            compile(tree, str(file), "exec", dont_inherit=True)
            return tree
    except SyntaxError as error:
        line, column = error.lineno or 0, error.offset or 0
        width = (error.end_offset or 0) - column if error.end_lineno == error.lineno else 1
        shown = lines[line - 1] if 0 < line <= len(lines) else None
        message = (error.msg or "invalid syntax").replace("'", "`")
        place = Place(str(file), line, max(column, 0), max(width, 1), shown)
        raise UserError(Problem(f"the reward file is not Python: {message}", place)) from None
    except ValueError as error:
        raise UserError(Problem(f"the reward file is not Python: {error}", Place(str(file)))) from None
    except (RecursionError, MemoryError):
        message = "the reward file is not Python that can be read: it is nested too deeply"
        raise UserError(Problem(message, Place(str(file)))) from None


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of the module's own scope in order, those inside `if`, `try`, `with` and loops too."""
    waiting: list[Any] = list(reversed(body))
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.stmt):
            yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for part in ("finalbody", "orelse", "cases", "handlers", "body"):
            waiting.extend(reversed(getattr(statement, part, ())))


def _chosen(tree: ast.Module, file: Path, name: str | None, lines: list[str]) -> Definition:
    statements = list(_definitions(tree.body))
    functions = {each.name: each for each in statements if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    public = [each for each in functions if not each.startswith("_")]
    if name is not None:
        if name in functions:
            return functions[name]
        raise UserError(_not_there(statements, file, name, list(functions), lines))
    if len(public) == 1:
        return functions[public[0]]
    if file.stem in functions:
        return functions[file.stem]
    if not public:
        raise UserError(Problem("the reward file has no public function", Place(str(file)), CONVENTIONS))
    message = f"the reward file has several functions: {listed(public)}"
    hint = "name one of them in the recipe, under `function`"
    raise UserError(Problem(message, _place(file, functions[public[1]], lines), hint))


def _not_there(statements: list[ast.stmt], file: Path, name: str, functions: list[str], lines: list[str]) -> Problem:
    for each in statements:
        if isinstance(each, ast.ClassDef) and each.name == name:
            message = f"`{name}` is a class, and a reward is a function"
            return Problem(message, _place(file, each, lines), CONVENTIONS)
        imported = each.names if isinstance(each, ast.Import | ast.ImportFrom) else []
        if any((alias.asname or alias.name) == name for alias in imported):
            message = f"`{name}` is imported, so that its parameters cannot be told"
            return Problem(message, _place(file, each, lines), f"define a function that calls `{name}`")
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            what = "a lambda" if isinstance(getattr(each, "value", None), ast.Lambda) else "a value"
            message = f"`{name}` is {what}, and a reward is a function that `def` defines"
            return Problem(message, _place(file, each, lines), CONVENTIONS)
    near = nearest(name, functions)
    hint = (
        f"a similar function exists: `{near}`" if near else f"it has {listed(functions)}" if functions else CONVENTIONS
    )
    return Problem(f"the reward file has no function `{name}`", Place(str(file)), hint)


def _described(node: Definition, file: Path, lines: list[str]) -> Function:
    given = node.args
    positional = [each.arg for each in [*given.posonlyargs, *given.args]]
    keyword_only = [each.arg for each in given.kwonlyargs]
    everything = [*positional, *keyword_only]
    batch = "completions" in everything
    place = _place(file, node, lines)
    problems = (_batch_faults if batch else _each_faults)(node, positional, file, lines, place)
    if problems:
        raise UserError(problems)
    needed = given.args[: len(given.args) - len(given.defaults)] if batch else []
    return Function(
        file=file,
        name=node.name,
        line=node.lineno,
        convention="batch" if batch else "each",
        is_async=isinstance(node, ast.AsyncFunctionDef),
        options={
            each: default is not None
            for each, default in zip(keyword_only, given.kw_defaults, strict=True)
            if not (batch and each in PASSED)
        },
        columns=tuple(each.arg for each in needed if each.arg not in PASSED),
        takes_any=given.kwarg is not None,
        parameters=tuple(everything),
        place=place,
    )


def _each_faults(node: Definition, positional: list[str], file: Path, lines: list[str], place: Place) -> list[Problem]:
    given = node.args
    problems = []
    for star, sign in ((given.vararg, "*"), (given.kwarg, "**")):
        if star is not None:
            message = f"`{node.name}` takes `{sign}{star.arg}`, and is called with exactly three values"
            problems.append(Problem(message, _place(file, star, lines), CONVENTIONS))
    if "prompts" in positional:
        message = f"`{node.name}` takes `prompts` and no `completions`"
        problems.append(Problem(message, place, CONVENTIONS))
    elif len(positional) > 3:
        extra = [*given.posonlyargs, *given.args][3]
        message = f"`{node.name}` takes {len(positional)} values by position, and is called with three"
        hint = f"put a `*` before `{extra.arg}` to make it an option, which the recipe sets under `options`"
        with_default = len(positional) - len(given.defaults) <= 3
        problems.append(Problem(message, _place(file, extra, lines), hint if with_default else CONVENTIONS))
    elif len(positional) < 3:
        count = ("no value", "one value", "two values")[len(positional)]
        message = f"`{node.name}` takes {count} by position, and is called with three"
        problems.append(Problem(message, place, CONVENTIONS))
    return problems


def _batch_faults(node: Definition, positional: list[str], file: Path, lines: list[str], place: Place) -> list[Problem]:
    given = node.args
    problems = []
    for each in given.posonlyargs:
        message = f"`{node.name}` takes `{each.arg}` by position alone, and everything is passed by name"
        problems.append(Problem(message, _place(file, each, lines), "take the `/` away"))
    if given.vararg is not None:
        message = f"`{node.name}` takes `*{given.vararg.arg}`, and everything is passed by name"
        problems.append(Problem(message, _place(file, given.vararg, lines), CONVENTIONS))
    return problems


def _place(file: Path, node: ast.stmt | ast.arg, lines: list[str]) -> Place:
    """Where a name stands. The tree counts columns in bytes, a place in characters."""
    line, name = node.lineno, node.arg if isinstance(node, ast.arg) else getattr(node, "name", "")
    text = lines[line - 1]
    column = len(text.encode()[: node.col_offset].decode(errors="ignore"))
    if keyword := KEYWORD.match(text, column):
        column = keyword.end()
    return Place(str(file), line, column + 1, max(len(name), 1), text)


def _options_hint(function: Function) -> str:
    if function.options:
        return f"its options are {listed(function.options)}"
    return "options are the parameters behind a `*`, and it has none"
