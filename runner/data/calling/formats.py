"""A row in any format of tools and calls in, the conversation that it gives to learn, or all its problems, out.

| format | a row |
|---|---|
| `openai` | `messages` with `tool_calls`, and `tools`; arguments as JSON text |
| `predibase` | the same with arguments as objects; rows of both may stand in one file |
| `sharegpt` | `conversations` of human, gpt, function_call and observation, and `tools` |
| `swift` | `messages` with the roles tool_call and tool_response, and `tools` |
| `hermes` | `conversations` with tools, calls and answers as marked text |
| `glaive` | `system` and `chat` as text |
| `xlam` | `query`, `tools` and `answers` |
| `toolace` | `system` with tools, and `conversations` with calls in brackets |

A source in format `calls` tells the format of each row by itself. Null under a key counts as the key not being there,
and in the rows of a table so does null in any object within a value, since a table gives each object the keys of
every other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runner.data import formats
from runner.data.calling import check, glaive, hermes, nodes, openai, sharegpt, swift, toolace, turns, xlam
from runner.data.calling.conversation import Conversation
from runner.data.examples import Chat
from runner.data.formats import columns_of, placed
from runner.data.rows import Row, TablePlace, has_fixed_columns
from runner.errors import Problem, listed

AUTO = "calls"  # the format of a source whose rows tell theirs
CONVERTERS: dict[str, Callable[[Row], Conversation]] = {
    "openai": openai.read,
    "predibase": openai.read,
    "sharegpt": sharegpt.read,
    "swift": swift.read,
    "hermes": hermes.read,
    "glaive": glaive.read,
    "xlam": xlam.read,
    "toolace": toolace.read,
}
COLUMNS = {"glaive": ("chat",), "xlam": ("query", "answers")}  # of the formats that do not have turns
COLUMN = "`messages` with `tool_calls` and `tools` will do; for a column of another name set `columns`"
PAIR = (
    '`{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}` says the same; '
    "where no row has calls, take `task: sft`"
)
COUNTS = ("none", "one", "several")  # calls of a row


def is_calling(source_format: str) -> bool:
    """Whether the rows of a source are read here."""
    return source_format == AUTO or source_format in CONVERTERS


def choose(row: Row, source_format: str = AUTO) -> str | Problem:
    """The format that a row is in, or the problem that it is in none, or lacks the columns of its source's."""
    if source_format != AUTO:
        needed = COLUMNS.get(source_format)
        if needed is None:
            return source_format if turns.column(row) else _missing(row, (_own_column(source_format),))
        missing = tuple(column for column in needed if column not in row.values)
        return _missing(row, missing) if missing else source_format
    # a column that is null is told by the converter: a table may lack it in one row, and not in all
    for there in (lambda column: row.values.get(column) is not None, row.values.__contains__):
        found = [name for name, needed in COLUMNS.items() if all(map(there, needed))]
        found += [_with_turns(row)] if any(map(there, turns.COLUMNS)) else []
        if len(found) == 1:
            return found[0]
        if found:
            message = f"the row is in several formats at once: {listed(found)}"
            return placed(row, [(message, "set `format` to the one that is meant")])[0]
    what = "file" if has_fixed_columns(row.place) else "row"
    message = f"the {what} is in no format with calls; it has {columns_of(row)}"
    hint = PAIR if {"prompt", "completion"} <= row.values.keys() else COLUMN
    return placed(row, [(message, hint)])[0]


def read(row: Row, source_format: str = AUTO) -> Chat | list[Problem]:
    """What a row gives to learn, or all the problems in it, each with the row's place."""
    chosen = choose(row, source_format)
    if isinstance(chosen, Problem):
        return [chosen]
    try:
        given = replace(row, values=nodes.without_nulls(row.values)) if isinstance(row.place, TablePlace) else row
        found = CONVERTERS[chosen](given)
        faults = check.faults(found)
    except RecursionError:
        faults = [("values are nested too deeply, or references of a schema go in a circle", None)]
    if faults:
        return placed(row, faults)
    return Chat(tuple(turn.message for turn in found.turns), tuple(tool.text for tool in found.tools))


def count(chat: Chat) -> str:
    """Whether a row has `none`, `one` or `several` calls, over all its turns."""
    calls = sum(len(message.calls) for message in chat.messages)
    return COUNTS[min(calls, 2)]


def _with_turns(row: Row) -> str:
    """The format of a row that has turns, by how they are written."""
    found = turns.peek(row)
    if all(item.get("from") is None for item in found):
        if any(swift.has_own_role(item) for item in found):
            return "swift"
        return "predibase" if any(openai.has_object_arguments(item) for item in found) else "openai"
    system: list[Any] = [item.get("value") for item in found if item.get("from") == "system"]
    if any(hermes.has_tools(text) for text in [*system, row.values.get("system")]):
        return "hermes"
    if row.values.get("tools") not in formats.NO_TOOLS:
        return "hermes" if any("<tool_call>" in str(item.get("value")) for item in found) else "sharegpt"
    if row.values.get("system") is not None and any(item.get("from") in ("user", "assistant") for item in found):
        return "toolace"
    return "sharegpt"


def _own_column(source_format: str) -> str:
    return "messages" if source_format in ("openai", "predibase", "swift") else "conversations"


def _missing(row: Row, columns: tuple[str, ...]) -> Problem:
    what = "file" if has_fixed_columns(row.place) else "row"
    noun = "column" if len(columns) == 1 else "columns"
    message = f"missing {noun} {listed(columns)}; the {what} has {columns_of(row)}"
    hint = "name it in `columns`: `{messages: …}`" if columns[0] in turns.COLUMNS else None
    return placed(row, [(message, hint)])[0]
