"""What a converter hands over to the check: turns, calls and tools, each with its place in the row, and the faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.data import formats, strict_json
from runner.data.calling import nodes
from runner.data.calling.nodes import At, Node
from runner.data.examples import Call, Message
from runner.data.formats import Fault
from runner.errors import listed
from runner.nearest import nearest

NO_ARGUMENTS = "write `{}` where there are none"


@dataclass(frozen=True, slots=True)
class ReadCall:
    """One call, its arguments as values, and where its name and its arguments stand."""

    call: Call
    values: dict[str, Any]
    name_at: At
    arguments_at: At


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments as JSON text, and as what it says."""

    text: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    message: Message
    at: At
    calls: tuple[ReadCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as canonical JSON text. `parameters` is its JSON Schema, empty where it takes none."""

    name: str
    text: str
    parameters: dict[str, Any]
    at: At


@dataclass
class Conversation:
    """All that a row says. The faults of tools stand apart: where there are some, a tool may be missing."""

    turns: list[Turn] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tool_faults: list[Fault] = field(default_factory=list)

    def add(self, turn: Turn | Sequence[Fault]) -> None:
        """Take up a turn, or what is wrong with it."""
        if isinstance(turn, Turn):
            self.turns.append(turn)
        else:
            self.faults += turn

    def add_tools(self, tools: Sequence[Tool], faults: Sequence[Fault]) -> None:
        self.tools += tools
        self.tool_faults += faults


def said(role: str, content: str, at: At) -> Turn | list[Fault]:
    """A turn without calls. Its text may be empty in a system turn and in a tool's answer."""
    faults = text_faults(content, at, may_be_empty=role in ("system", "tool"))
    return faults or Turn(Message(role, content), at)


def calling(content: str, calls: Sequence[ReadCall], at: At) -> Turn | list[Fault]:
    """An assistant turn of calls, with the text before them."""
    faults = text_faults(content, at, may_be_empty=True)
    return faults or Turn(Message("assistant", content, tuple(each.call for each in calls)), at, tuple(calls))


def text_faults(value: Any, at: At, may_be_empty: bool = False) -> list[Fault]:
    """What is wrong with a text that is to be shown to the model, if anything."""
    found = formats.text_faults(value, at.path, may_be_empty)
    return [(message.replace(f"`{at.path}`", str(at), 1), hint) for message, hint in found]


def call(node: Node, call_id: str = "") -> ReadCall | list[Fault]:
    """The call that an object with `name` and `arguments` is."""
    if not isinstance(node.value, dict):
        return [(f"{node.at} is {strict_json.kind(node.value)}, not an object", None)]
    members = node.members()
    faults: list[Fault] = []
    name = members.get("name")
    if name is None:
        faults.append(missing(node, "name"))
    elif not isinstance(name.value, str) or not name.value:
        what = "empty" if name.value == "" else f"{strict_json.kind(name.value)}, not text"
        faults.append((f"{name.at} is {what}", None))
    given = members.get("arguments")
    read = _no_arguments(node) if given is None else arguments(given)
    if not isinstance(read, Arguments):
        return [*faults, read]
    if faults:
        return faults
    assert name is not None and given is not None
    return ReadCall(Call(name.value, read.text, call_id), read.values, name.at, given.at)


def arguments(node: Node) -> Arguments | Fault:
    """What an object, or JSON text of one, gives as arguments."""
    at, text, value = node.at, node.text, node.value
    if isinstance(value, str):
        if not value.strip():
            return f"{at} is empty", NO_ARGUMENTS
        within = nodes.of_text(value, At(at.path) if at.start is None else At("arguments"))
        if not isinstance(within, Node):
            return within if at.start is None else (f"{at}: {within[0]}", within[1])
        text, value = value, within.value
    if not isinstance(value, dict):
        return f"{at} is {strict_json.kind(value)}, not an object", None
    try:
        plain = nodes.dumped(value)
        plain.encode()
    except UnicodeEncodeError:
        return f"{at} has half of a character", "an escape of this kind means something only with its other half"
    except (TypeError, ValueError):
        return f"{at} holds a value that JSON has not", None
    return Arguments(plain if text is None else text, value)


def missing(node: Node, key: str) -> Fault:
    """An object without a key that it needs."""
    similar = nearest(key, [name for name in node.value if isinstance(name, str)])
    hint = f"a similar key exists: `{short(similar)}`" if similar else None
    if node.at.start is None:
        return f"`{node.at.path}.{key}` is missing", hint
    return f"{node.at}: `{key}` is missing", hint


def _no_arguments(node: Node) -> Fault:
    message, hint = missing(node, "arguments")
    return message, hint or NO_ARGUMENTS


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """Turns that hold nothing but calls put into the assistant turn right before them: one answer of the model."""
    found: list[Turn] = []
    for turn in turns:
        last = found[-1] if found else None
        if turn.calls and not turn.message.content and last is not None and last.message.role == "assistant":
            message = replace(last.message, calls=last.message.calls + turn.message.calls)
            found[-1] = Turn(message, last.at, last.calls + turn.calls)
        else:
            found.append(turn)
    return found


def role_fault(item: dict[str, Any], at: At, key: str, roles: Mapping[str, str]) -> Fault:
    """A turn of somebody whom the format does not know. `roles` are its names for ours."""
    role = item.get(key)
    if role is None:
        return missing(Node(item, at), key)
    if not isinstance(role, str):
        return f"`{at.path}.{key}` is {strict_json.kind(role)}, not text", None
    ours = formats.OTHER_ROLES.get(role.strip().lower(), role.strip().lower())
    meant = next((name for name, means in roles.items() if means == ours), None) or nearest(role, roles)
    *known, last = roles
    message = f"`{at.path}.{key}` is `{short(role)}`, not {listed(known)} or `{last}`"
    return message, f"write `{meant}`" if meant else None


def short(value: Any) -> str:
    """A value of the row, short enough for a sentence."""
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
