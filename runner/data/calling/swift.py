"""Rows of ms-swift in, conversations out: `messages` with the roles `tool_call` and `tool_response`.

A `tool_call` holds one call as JSON text; calls in a row are parallel ones, and belong to the assistant turn right
before them if there is one. A `tool_response`, or `tool`, holds one answer. `tools` is JSON text, or a list.
"""

from __future__ import annotations

from typing import Any

from runner.data import formats, strict_json
from runner.data.calling import conversation, nodes, tools, turns
from runner.data.calling.conversation import Conversation, ReadCall, Turn
from runner.data.calling.nodes import At, Node
from runner.data.formats import Fault
from runner.data.rows import Row

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool_call": "call",
    "tool_response": "tool",
    "tool": "tool",
}
OWN_ROLES = ("tool_call", "tool_response")


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    for node in turns.given(row, found):
        found.add(_turn(node))
    found.turns = conversation.joined(found.turns)
    found.add_tools(*tools.of_column(row.values.get("tools"), "tools"))
    return found


def has_own_role(item: dict[str, Any]) -> bool:
    """Whether the turn is one that no other format has."""
    return item.get("role") in OWN_ROLES


def _turn(node: Node) -> Turn | list[Fault]:
    item, at = node.value, node.at
    if not isinstance(item, dict):
        return [(f"{at} is {strict_json.kind(item)}, not an object", None)]
    faults = list(formats.lost(item, at.path))
    for key in ("tool_calls", "function_call"):
        if item.get(key):
            faults.append((f"{at} has `{key}`, and calls are turns of role `tool_call` here", None))
    role = ROLES.get(str(item.get("role")))
    if role is None:
        return [*faults, conversation.role_fault(item, at, "role", ROLES)]
    content = node.members().get("content")
    if role == "call" and content is not None:
        read_turn = written_calls(content, at)
    else:
        text = formats.text_of_turn(item, at.path)
        if not isinstance(text, str):
            return faults + text
        read_turn = conversation.said(role, text, At(f"{at.path}.content"))
    if isinstance(read_turn, Turn):
        return faults or Turn(read_turn.message, at, read_turn.calls)
    return faults + read_turn


def written_calls(content: Node, at: At) -> Turn | list[Fault]:
    """A turn that is one call or a list of them, as JSON text or as values."""
    node = nodes.of_text(content.value, content.at) if isinstance(content.value, str) else content
    if not isinstance(node, Node):
        return [node]
    if node.value == []:
        return [(f"{node.at} is an empty list, and holds no call", None)]
    calls: list[ReadCall] = []
    faults: list[Fault] = []
    for item in node.items() if isinstance(node.value, list) else [node]:
        read_call = conversation.call(item)
        if isinstance(read_call, ReadCall):
            calls.append(read_call)
        else:
            faults += read_call
    return faults or conversation.calling("", calls, at)
