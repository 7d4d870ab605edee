"""A row's column of turns in, the turns one by one out: a list, or JSON text of one."""

from __future__ import annotations

from typing import Any

from runner.data import strict_json
from runner.data.calling import nodes
from runner.data.calling.conversation import Conversation
from runner.data.calling.nodes import Node
from runner.data.formats import Fault
from runner.data.rows import Row

COLUMNS = ("messages", "conversations")


def column(row: Row) -> str | None:
    """The column of turns: `messages` or `conversations`, whichever is there, and rather one that is not null."""
    there = [name for name in COLUMNS if name in row.values]
    return next((name for name in there if row.values[name] is not None), there[0] if there else None)


def of_row(row: Row) -> list[Node] | Fault:
    """The turns of a row, each an object or not, or what is wrong with all of them."""
    name = column(row) or COLUMNS[0]
    node = nodes.of_column(row.values.get(name), name)
    if not isinstance(node, Node):
        return node
    if not isinstance(node.value, list):
        return f"`{name}` is {strict_json.kind(node.value)}, not a list", None
    if not node.value:
        return f"`{name}` is empty", None
    return node.items()


def given(row: Row, found: Conversation) -> list[Node]:
    """The turns of a row; none where they cannot be read, of which `found` takes note."""
    nodes_of_row = of_row(row)
    if isinstance(nodes_of_row, list):
        return nodes_of_row
    found.faults.append(nodes_of_row)
    return []


def peek(row: Row) -> list[dict[str, Any]]:
    """The turns that are objects, to tell a format by; none where they cannot be read."""
    found = of_row(row)
    return [node.value for node in found if isinstance(node.value, dict)] if isinstance(found, list) else []
