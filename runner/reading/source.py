"""A recipe file -> plain values, and where each of them stands; or a RecipeError with every fault of its form.

What is read is the part of YAML that a recipe needs: mappings with text keys, lists and scalars, by the rules of
YAML 1.2. Repeated keys, anchors, aliases, merge keys, tags and a second document are refused.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from runner import image, secrets
from runner.errors import Place, Problem, RecipeError
from runner.nearest import nearest
from runner.reading import scalars, syntax

LARGEST_FILE = 1_000_000  # bytes
MOST_NODES = 2000  # keys and values of a recipe; what checks them takes the square of their number
DEEPEST = 64  # levels
MOST_SHOWN = 50  # problems of one recipe
STANDARD_INPUT = "-"
SMALLEST = "a recipe has at least `task`, `model` and `dataset`"

LINE_END = re.compile(r"\r\n|[\r\n]")
REFUSED = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
REFUSED_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
UNSEEN = re.compile("[\xa0\xad\u180e\u2000-\u200f\u202a-\u202f\u205f-\u2064\u2066-\u206f\u3000]")
TYPOGRAPHIC_QUOTES = ("“", "”", "„", "‘", "’")

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Written:
    """Where a setting stands: its key, and its value. A list item is its own key; a key stands for a value below it."""

    key: Place
    value: Place


Places = dict[Path, Written]


@dataclass(frozen=True)
class Source:
    """`values` are plain; `places` has an entry for every key and list item; `lines` show no secret.

    `overrides` are the texts that were laid over it, without secrets either.
    """

    file: str
    values: dict[str, Any]
    places: Places
    lines: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def read(path: str) -> Source:
    """The recipe in a file, or on standard input for `-`. Raises RecipeError."""
    if path == STANDARD_INPUT:
        file, data = "<stdin>", sys.stdin.buffer.read(LARGEST_FILE + 1)
        text = _decoded(data, file)
    else:
        file, text = path, file_text(path)
    return recipe(text, file)


def recipe(text: str, file: str) -> Source:
    """The recipe in a text. Raises RecipeError."""
    reader = _Reader(text, file)
    value, places = reader.document()
    root = places[()].value if places else Place(file)
    if not places or (value is None and not reader.problems):
        raise RecipeError(Problem("the recipe is empty", Place(file), SMALLEST))
    if not isinstance(value, dict) and not reader.problems:
        kind = "a list" if isinstance(value, list) else "a single value"
        joined = syntax.KEY_WITHOUT_SPACE.match(value) if isinstance(value, str) else None
        reader.problems.append(
            Problem(f"a recipe is a mapping, and this is {kind}", root, syntax.PAIR if joined else SMALLEST)
        )
    if reader.problems:
        raise gathered(reader.problems)
    return Source(file, value, places, reader.lines)


def override_value(text: str, start: int, file: str) -> tuple[Any, Places]:
    """The value that begins at a character of a command line override, and its places. Raises RecipeError."""
    reader = _Reader(text, file, start)
    value, places = reader.document()
    if reader.problems:
        raise gathered(reader.problems)
    if not places:
        place = reader.place(0, start, max(len(text) - start, 1))
        places = {(): Written(place, place)}
    return value, places


def file_text(path: str) -> str:
    """The text of a small UTF-8 file, without its byte order mark. Opens no pipe and no device. Raises RecipeError."""
    place = Place(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise RecipeError(Problem(f"`{path}` is a directory", place, _file_inside(path)))
        if not stat.S_ISREG(mode):
            raise RecipeError(Problem(f"`{path}` is not a regular file", place, "a recipe can be piped in as `-`"))
        with open(path, "rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        hint = image.no_recipe(path) or similar_file(path)
        raise RecipeError(Problem(f"`{path}` does not exist", place, hint)) from None
    except PermissionError:
        raise RecipeError(
            Problem(f"`{path}` cannot be read: permission denied", place, image.unreadable(path))
        ) from None
    except ValueError:
        raise RecipeError(Problem("a file name with a NUL or half a character cannot be opened", place)) from None
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise RecipeError(Problem(f"`{path}` cannot be read: {reason}", place)) from None
    return _decoded(data, path)


def similar_file(path: str, said: str | None = None) -> str | None:
    """A hint at a file of a similar name in the directory, or at a missing directory; `said` is the path as written."""
    directory, name = os.path.split(path)
    said_directory = os.path.dirname(path if said is None else said)
    try:
        similar = nearest(name, sorted(os.listdir(directory or ".")))
    except FileNotFoundError:
        return image.not_mounted(path) or f"its directory `{said_directory}` does not exist either"
    except (OSError, ValueError):
        return None
    return f"a similar name exists: `{os.path.join(said_directory, similar)}`" if similar else None


def gathered(problems: Sequence[Problem], untold: int = 0) -> RecipeError:
    """All the problems as one error, which shows the first where there are very many; `untold` are others, counted."""
    return RecipeError(problems[:MOST_SHOWN], total=len(problems) + untold)


def closest(places: Places, path: Path) -> Written | None:
    """Where the setting stands, or else the nearest setting around it; None where only the whole recipe is left."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path) if path else None


def _file_inside(directory: str) -> str | None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return None
    recipes = [name for name in names if name.endswith((".yaml", ".yml"))]
    if recipes:
        return f"name a file in it, such as `{os.path.join(directory, recipes[0])}`"
    return None if names else image.empty_directory(directory)


def _decoded(data: bytes, file: str) -> str:
    place = Place(file)
    if len(data) > LARGEST_FILE:
        raise RecipeError(Problem(f"the file is larger than {LARGEST_FILE // 1_000_000} MB", place))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError(Problem("the file is UTF-16 text", place, "save it as UTF-8"))
    if b"\0" in data:
        raise RecipeError(Problem("the file is binary, not text", place))
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        lines = LINE_END.split(data[: error.start].decode("utf-8"))
        rest = LINE_END.split(data[error.start :].decode("utf-8", "replace"), maxsplit=1)[0]
        place = Place(file, len(lines), len(lines[-1]) + 1, 1, secrets.hide(lines[-1] + rest))
        message = f"byte 0x{data[error.start]:02X} is not UTF-8 text"
        raise RecipeError(Problem(message, place, "save the file as UTF-8")) from None


class _Reader:
    """Walks the parser's events once, never deeper than `DEEPEST`, and gathers the faults on the way."""

    def __init__(self, text: str, file: str, start: int = 0) -> None:
        self.file = file
        self.raw_lines = tuple(LINE_END.split(text))
        self.lines = tuple(secrets.hide(line) for line in self.raw_lines)
        self.problems: list[Problem] = []
        self.places: Places = {}
        if refused := REFUSED.search(text):
            before = LINE_END.split(text[: refused.start()])
            place = self.place(len(before) - 1, len(before[-1]), 1)
            message = f"the character U+{ord(refused.group()):04X} cannot stand in a recipe"
            raise RecipeError(Problem(message, place, "take it away"))
        self.unseen = False
        self.nodes = 0
        self.last: Any = None
        self.parser = yaml.SafeLoader(" " * start + text[start:])

    def document(self) -> tuple[Any, Places]:
        """The value of the one document, and its places: none where there is no document."""
        value = None
        self._next()
        event = self._next()
        if isinstance(event, yaml.DocumentStartEvent):
            value = self._node(self._next(), (), 0)
            self._next()
            event = self._next()
            if not isinstance(event, yaml.StreamEndEvent):
                message = "a recipe is one document, and a second one begins here"
                self._fault(message, event, "put each recipe in a file of its own")
        return value, self.places

    def place(self, line: int, column: int, width: int) -> Place:
        """The Place at a line and a column counted from 0."""
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(self.file, line + 1, column + 1, width, text)

    def _next(self) -> Any:
        try:
            self.last = self.parser.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            self._end(syntax.explain(error, self.raw_lines, self.place))
        except (ValueError, OverflowError):  # an escape for a character that does not exist, or a huge version
            place = self.place(self.parser.line, self.parser.column, 1)
            self._end(Problem("an escape or a number here means nothing", place))
        self.nodes += isinstance(self.last, yaml.NodeEvent)
        if self.nodes > MOST_NODES:
            message = f"the recipe has more than {MOST_NODES} keys and values"
            self._end(Problem(message, self._span(self.last), "name many files by a pattern"))
        return self.last

    def _end(self, problem: Problem) -> NoReturn:
        """Stop reading at a fault after which nothing can be told."""
        # an unseen character joins lines that were meant to be two, and is the cause of what comes after it
        raise gathered(self.problems if self.unseen else [*self.problems, problem])

    def _span(self, event: Any, last: Any = None) -> Place:
        """The text of an event, or from it to the last one, as far as the end of its first line."""
        start, end = event.start_mark, (last or event).end_mark
        stop = end.column if end.line == start.line else len(self.raw_lines[start.line].rstrip())
        return self.place(start.line, start.column, max(stop - start.column, 1))

    def _fault(self, message: str, event: Any, hint: str | None = None) -> None:
        self.problems.append(Problem(message, self._span(event), hint))

    def _node(self, event: Any, path: Path, depth: int, key: Place | None = None) -> Any:
        if depth > DEEPEST:
            self._end(Problem(f"values are nested deeper than {DEEPEST} levels", self._span(event)))
        if isinstance(event, yaml.AliasEvent):
            self._fault(f"`*{event.anchor}` is an alias, and a recipe has none", event, "write the value itself")
            return None
        if event.anchor is not None:
            self._fault(f"`&{event.anchor}` is an anchor, and a recipe has none", event, "take it away")
        elif event.tag is not None:
            self._fault("tags, which begin with `!`, are not part of a recipe", event, "take it away")
        span = self._span(event)
        below = isinstance(event, yaml.CollectionStartEvent) and not event.flow_style
        empty = isinstance(event, yaml.ScalarEvent) and not event.value and not event.style
        self.places[path] = Written(key or span, key if key is not None and (below or empty) else span)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        mapping = isinstance(event, yaml.MappingStartEvent)
        value = self._mapping(path, depth) if mapping else self._sequence(path, depth)
        if not below:
            self.places[path] = Written(key or span, self._span(event, self.last))
        return value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            found = len(self.problems)
            name = self._key(event, depth)
            span = self._span(event)
            place = (*path, name) if name is not None else (*path, "")
            known = self.places.get(place)
            value = self._node(self._next(), place, depth + 1, span)
            if known is not None and name is not None:
                self.places[place] = known
                message = f"the key `{_short(name)}` stands here a second time"
                self.problems.append(Problem(message, span, f"the first is on line {known.key.line}; keep one"))
            elif name is not None:
                values[name] = value
            elif len(self.problems) > found + 1:
                del self.problems[found + 1 :]  # what stands under a key that is refused is not looked at
        return values

    def _key(self, event: Any, depth: int) -> str | None:
        """The key's text, or None for one that was refused."""
        if isinstance(event, yaml.CollectionStartEvent):
            kind = "a mapping" if isinstance(event, yaml.MappingStartEvent) else "a list"
            hint = "put a value that begins with `{` or `[` in quotes"
            self._fault(f"{kind} cannot be a key", event, hint)
            self._skip(depth)
            return None
        if isinstance(event, yaml.AliasEvent):
            self._fault(f"`*{event.anchor}` is an alias, and a recipe has none", event, "write the key itself")
            return None
        if event.anchor is not None or event.tag is not None:
            self._fault("a key has neither anchor nor tag in a recipe", event, "take it away")
            return None
        if event.value == "<<" and event.implicit[0]:
            self._fault("`<<` merges mappings, and a recipe has no such keys", event, "write the keys themselves")
            return None
        value = self._scalar(event)
        if isinstance(value, str):
            return value
        if value is None:
            self._fault("a key is missing", event, syntax.PAIR)
            return None
        kind = "a boolean" if isinstance(value, bool) else "a number"
        self._fault(f"the key `{_short(event.value)}` is {kind}, and keys are text", event)
        return None

    def _scalar(self, event: Any) -> scalars.Scalar:
        if refused := REFUSED_IN_TEXT.search(event.value):
            self._fault(f"the text holds the character U+{ord(refused.group()):04X}, which means nothing here", event)
            return ""
        if not event.implicit[0]:
            return str(event.value)
        if unseen := UNSEEN.search(event.value):
            self.unseen = True
            message = f"an unseen character, U+{ord(unseen.group()):04X}, stands here"
            self._fault(message, event, "type the line anew, with plain spaces")
        elif event.value.startswith(TYPOGRAPHIC_QUOTES):
            self._fault("typographic quotes are no quotes in YAML", event, 'use `"` or none')
        try:
            return scalars.value_of(event.value)
        except scalars.TooManyDigits:
            self._fault(f"the number has {len(event.value)} digits", event)
            return None

    def _skip(self, depth: int) -> None:
        level = 1
        while level:
            event = self._next()
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth + level > DEEPEST:
                self._end(Problem(f"values are nested deeper than {DEEPEST} levels", self._span(event)))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
