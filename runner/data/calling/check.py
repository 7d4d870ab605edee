"""A conversation with its tools in, every fault between them out: calls that no tool takes, answers to no call.

A call has to name a tool of its row, with all arguments that the tool requires, none that it does not have unless its
schema says `additionalProperties`, and values that fit. A tool's answer follows a turn that calls, and where it names
a call or a tool, that turn has it. A row may end on calls, and may have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.data.calling import schema
from runner.data.calling.conversation import Conversation, ReadCall, Tool, Turn, short
from runner.data.formats import Fault
from runner.errors import listed
from runner.nearest import nearest

MOST_LISTED = 10
UNDESCRIBED = "`required` of the tool names it, and its `properties` do not"
NO_TOOLS = "every row gives its own; for a column of another name set `columns: {tools: …}`"


def faults(conversation: Conversation) -> list[Fault]:
    """All that is wrong with a conversation: what its converter found, and what is found here."""
    found = [*conversation.tool_faults, *conversation.faults]
    whole = not conversation.tool_faults
    tools = {tool.name: tool for tool in conversation.tools}
    for turn in conversation.turns:
        for call in turn.calls:
            found += _call(call, tools, whole)
    if not conversation.faults:
        found += _order(conversation.turns)
    return found


def _call(call: ReadCall, tools: Mapping[str, Tool], all_known: bool) -> Iterator[Fault]:
    name = call.call.name
    tool = tools.get(name)
    if tool is None:
        if all_known:
            similar = nearest(name, tools)
            hint = f"a similar tool exists: `{short(similar)}`" if similar else _names("the tools are", tools)
            hint = hint or NO_TOOLS
            what = "there is no tool" if tools else "the row has no tools, and so none"
            yield f"{call.name_at}: {what} `{short(name)}`", hint
        return
    parameters = tool.parameters
    known = parameters.get("properties", {})
    required = parameters.get("required", [])
    at = call.arguments_at
    for missing in required:
        if missing not in call.values:
            hint = None if missing in known else UNDESCRIBED
            yield f"{at}: `{short(missing)}` is missing, which `{short(name)}` requires", hint
    for argument in call.values:
        if argument in known or argument in required or schema.is_open(parameters):
            continue
        others = [other for other in known if other not in call.values]
        similar = nearest(argument, others)
        hint = f"a similar argument exists: `{short(similar)}`" if similar else _names("its arguments are", known)
        yield f"{at}: `{short(name)}` has no argument `{short(argument)}`", hint
    for argument, value in call.values.items():
        asked = known.get(argument, parameters.get("additionalProperties", True))
        if argument in known or isinstance(asked, dict):
            for misfit in schema.misfits(value, asked, argument, parameters):
                yield f"{at}: {misfit}", None
    rest: dict[str, Any] = {key: parameters[key] for key in ("anyOf", "oneOf", "allOf") if key in parameters}
    if rest:
        for misfit in schema.misfits(call.values, rest, "arguments", parameters):
            yield f"{at}: {misfit}", None


def _order(turns: Sequence[Turn]) -> Iterator[Fault]:
    """Whether somebody asks and the model answers, and each tool's answer has a call."""
    roles = [turn.message.role for turn in turns]
    if "user" not in roles:
        yield "the conversation has no `user` turn", None
    if "assistant" not in roles:
        yield "the conversation has no `assistant` turn, so there is nothing to learn", None
    asked: Turn | None = None
    answered: Counter[str] = Counter()
    for turn in turns:
        message = turn.message
        ids = [call.id for call in message.calls if call.id]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            yield f"{turn.at} has two calls with the id `{short(twice)}`", None
        if message.role != "tool":
            asked, answered = (turn if message.calls else None), Counter()
            continue
        if asked is None:
            yield f"{turn.at} is a tool's answer, and the turn before it calls no tool", None
            continue
        yield from _answer(turn, asked, answered)


def _answer(turn: Turn, asked: Turn, answered: Counter[str]) -> Iterator[Fault]:
    calls, message = asked.message.calls, turn.message
    named = [call for call in calls if call.id == message.call_id] if message.call_id else list(calls)
    if not named:
        ids = [call.id for call in calls if call.id]
        wrong = f"{turn.at} answers the call `{short(message.call_id)}`, which {asked.at} does not make"
        yield wrong, _names("their ids are", ids) or "give each call its `id`"
        return
    if message.call_id:
        answered[message.call_id] += 1
        if answered[message.call_id] > 1:
            yield f"{turn.at} is the second answer to the call `{short(message.call_id)}`", None
    if message.name and all(call.name != message.name for call in named):
        hint = _names("it calls", [call.name for call in named])
        yield f"{turn.at} is an answer of `{short(message.name)}`, which {asked.at} does not call", hint


def _names(what: str, names: Sequence[str] | Mapping[str, object]) -> str | None:
    """The names there are, for a hint; None where there are none."""
    shown = list(names)[:MOST_LISTED]
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{what} {listed(short(name) for name in shown)}{more}" if shown else None
