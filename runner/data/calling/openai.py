"""Rows with `messages` and `tools` in, as OpenAI, TRL and Predibase write them; conversations out.

An assistant turn has `tool_calls`, several for parallel calls, or the older `function_call`; its `content` may be
empty, null or missing then. `arguments` is JSON text, which is kept as it is, or an object. Calls may have an `id`, and
the turn of role `tool` that answers one its `tool_call_id`. Older rows have `functions` and a role `function`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runner.data import formats, strict_json
from runner.data.calling import conversation, swift, tools, turns
from runner.data.calling.conversation import Conversation, ReadCall, Turn, short
from runner.data.calling.nodes import At, Node
from runner.data.examples import Message
from runner.data.formats import Fault
from runner.data.rows import Row

ROLES = {name: name for name in ("system", "user", "assistant", "tool")}
OLD_ROLE = "function"
NO_ANSWER = "a turn of the assistant has a text, `tool_calls`, or both"
RESULT = "write what a tool gives back as JSON text: `json.dumps`"
SWIFT = "rows with this role are of `format: swift`"


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    for node in turns.given(row, found):
        found.add(_turn(node))
    named = [name for name in ("tools", "functions") if row.values.get(name) not in formats.NO_TOOLS]
    if len(named) == 2:
        found.tool_faults.append(("the row has both `tools` and `functions`", "put all of them into `tools`"))
    for name in named:
        found.add_tools(*tools.of_column(row.values[name], name))
    return found


def has_object_arguments(item: dict[str, Any]) -> bool:
    """Whether the turn has calls that give their arguments as an object."""
    calls = item.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return any(isinstance(function, dict) and isinstance(function.get("arguments"), dict) for function in functions)


def _turn(node: Node) -> Turn | list[Fault]:
    item, at = node.value, node.at
    if not isinstance(item, dict):
        return [(f"{at} is {strict_json.kind(item)}, not an object", None)]
    faults = list(formats.lost(item, at.path))
    role = item.get("role")
    if role not in (*ROLES, OLD_ROLE):
        message, hint = conversation.role_fault(item, at, "role", ROLES)
        faults.append((message, SWIFT if swift.has_own_role(item) else hint))
    calls: list[ReadCall] = []
    members = node.members()
    asked = [key for key in ("tool_calls", "function_call") if item.get(key)]
    if asked and role in (*ROLES, OLD_ROLE) and role != "assistant":
        faults.append((f"{at} has `{asked[0]}`, and is no turn of the assistant", None))
    elif len(asked) == 2:
        faults.append((f"{at} has both `tool_calls` and `function_call`", "put all calls into `tool_calls`"))
    elif asked:
        given = members[asked[0]]
        read_calls = [conversation.call(given)] if asked[0] == "function_call" else _calls(given)
        calls += [each for each in read_calls if isinstance(each, ReadCall)]
        faults += [fault for each in read_calls if not isinstance(each, ReadCall) for fault in each]
    content: str | list[Fault] = ""
    if not asked or item.get("content") is not None:
        content = formats.text_of_turn(item, at.path)
        if not isinstance(content, str):
            content = [(message, hint or _no_text(item)) for message, hint in content]
    if isinstance(content, str):
        may_be_empty = bool(asked) or role in ("system", "tool", OLD_ROLE)
        faults += formats.text_faults(content, f"{at.path}.content", may_be_empty)
    else:
        faults += content
    if role not in ("tool", OLD_ROLE):
        return faults or _said(str(role), str(content), calls, at)
    call_id, name = (_name(members, key, faults) for key in ("tool_call_id", "name"))
    turn = _said("tool", str(content), [], at)
    return faults or replace(turn, message=replace(turn.message, call_id=call_id, name=name))


def _said(role: str, content: str, calls: list[ReadCall], at: At) -> Turn:
    message = Message(role, content, tuple(each.call for each in calls))
    return Turn(message, at, tuple(calls))


def _no_text(item: dict[str, Any]) -> str | None:
    """What to do about a turn whose content is no text."""
    if item.get("role") == "assistant":
        return NO_ANSWER if item.get("content") is None else None
    return RESULT if item.get("role") in ("tool", OLD_ROLE) and item.get("content") is not None else None


def _calls(node: Node) -> list[ReadCall | list[Fault]]:
    """The calls of `tool_calls`, or what is wrong with each."""
    if not isinstance(node.value, list):
        return [[(f"{node.at} is {strict_json.kind(node.value)}, not a list", None)]]
    return [_call(item) for item in node.items()]


def _call(node: Node) -> ReadCall | list[Fault]:
    if not isinstance(node.value, dict):
        return [(f"{node.at} is {strict_json.kind(node.value)}, not an object", None)]
    members = node.members()
    faults: list[Fault] = []
    kind = members.get("type")
    if kind is not None and kind.value != "function":
        faults.append((f"{kind.at} is `{short(kind.value)}`, not `function`", "only functions can be called"))
    call_id = _name(members, "id", faults)
    function = members.get("function")
    if function is None and "name" in members:
        function = node  # TRL takes a call without its wrapper, too
    if function is None:
        return [*faults, conversation.missing(node, "function")]
    read = conversation.call(function, call_id)
    if isinstance(read, ReadCall):
        return faults or read
    return faults + read


def _name(members: dict[str, Node], key: str, faults: list[Fault]) -> str:
    """The text under a key, empty where there is none; a value that is no text is a fault."""
    node = members.get(key)
    if node is None:
        return ""
    wrong = conversation.text_faults(node.value, node.at, may_be_empty=True)
    faults += wrong
    return "" if wrong else str(node.value)
