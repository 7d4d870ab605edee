"""Rows of LLaMA-Factory in, conversations out: `conversations` of `from` and `value`, and `tools` as JSON text.

`function_call` holds one call, or a list of parallel ones, as JSON text; `observation` holds what came back. A `gpt`
turn right before a `function_call` is the text of the same answer. A column `system` is the system turn.
"""

from __future__ import annotations

from typing import Any

from runner.data import formats, strict_json
from runner.data.calling import conversation, swift, tools, turns
from runner.data.calling.conversation import Conversation, Turn
from runner.data.calling.nodes import At, Node
from runner.data.formats import Fault
from runner.data.rows import Row

ROLES = {
    "system": "system",
    "human": "user",
    "gpt": "assistant",
    "function_call": "call",
    "observation": "tool",
}


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    given = turns.given(row, found)
    add_system(row, found, given)
    for node in given:
        found.add(_turn(node))
    found.turns = conversation.joined(found.turns)
    found.add_tools(*tools.of_column(row.values.get("tools"), "tools"))
    return found


def add_system(row: Row, found: Conversation, given: list[Node]) -> None:
    """Take up the system turn that a column `system` is, unless it is empty."""
    system = row.values.get("system")
    if system is None or system == "":
        return
    if any(isinstance(node.value, dict) and node.value.get("from") == "system" for node in given):
        found.faults.append(("the row has a column `system` and a turn of `system`", "keep one of the two"))
    elif isinstance(system, str):
        found.add(conversation.said("system", system, At("system")))
    else:
        found.faults.append((f"`system` is {strict_json.kind(system)}, not text", None))


def turn_text(node: Node, roles: dict[str, str]) -> tuple[str, Any] | list[Fault]:
    """Whose turn it is in our words, and its value; or what is wrong with it."""
    item, at = node.value, node.at
    if not isinstance(item, dict):
        return [(f"{at} is {strict_json.kind(item)}, not an object", None)]
    faults = list(formats.lost(item, at.path))
    role = roles.get(str(item.get("from")))
    if role is None:
        faults.append(conversation.role_fault(item, at, "from", roles))
    value = item.get("value")
    if value is None:
        faults.append(conversation.missing(node, "value"))
    elif not isinstance(value, str) and role != "call":
        faults.append((f"`{at.path}.value` is {strict_json.kind(value)}, not text", None))
    return faults or (str(role), value)


def _turn(node: Node) -> Turn | list[Fault]:
    read_turn = turn_text(node, ROLES)
    if isinstance(read_turn, list):
        return read_turn
    role, value = read_turn
    if role == "call":
        found = swift.written_calls(node.members()["value"], node.at)
    else:
        found = conversation.said(role, value, At(f"{node.at.path}.value"))
    return Turn(found.message, node.at, found.calls) if isinstance(found, Turn) else found
