"""Rows of Hermes in, conversations out: `conversations` in which tools and calls are text in marks.

- The system turn holds the tools in `<tools>…</tools>`: a list, or objects one after another, as JSON or, in older
  rows, as Python. A column `tools` may stand beside it and has to say the same.
- What leaves the system turn is the block with the tools, and of the text around it the sentences of `BOILERPLATE`:
  where the tools stand, that they may be called, and how a call is to be written. Everything else stays, such as who
  the model is, what it shall not assume, and how it shall think; so does any other wording of those sentences.
- An assistant turn is text, calls in `<tool_call>…</tool_call>`, or text and then calls. A turn of `tool` holds
  answers in `<tool_response>…</tool_response>`, each of which becomes a turn, or is one answer as a whole.
- Arguments keep the JSON that they are written in. What is written as Python becomes JSON with the same values.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from runner.data import strict_json
from runner.data.calling import conversation, nodes, python_values, sharegpt, system_text, tools, turns
from runner.data.calling.conversation import Conversation, ReadCall, Turn
from runner.data.calling.nodes import At, Node
from runner.data.examples import Message
from runner.data.formats import Fault
from runner.data.rows import Row

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}
FENCED = r"(?P<fence>```\s*)?{0}(?(fence)\s*```)"
OBJECT = r"\{[^{}]*\}"
for _ in range(3):  # objects in objects, as deep as the schema of a call goes
    OBJECT = rf"\{{(?:[^{{}}]|{OBJECT})*\}}"
TOOLS = re.compile(FENCED.format(r"<tools>\s*(?=[\[{])(?P<tools>.*?)\s*</tools>"), re.DOTALL)
BLOCK = r"<{0}>(.*?)</{0}>"
MARKS = {name: re.compile(rf"</?{name}>") for name in ("tool_call", "tool_response")}
BOILERPLATE = (
    re.compile(r"^# Tools$", re.MULTILINE),
    system_text.sentence(r"You are provided with function signatures within <tools>\s*</tools> XML tags[.:]"),
    system_text.sentence(r"You may call one or more functions to assist with the user query\."),
    system_text.sentence(r"Here are the available tools:"),
    system_text.sentence(
        r"(?:Use the following (?:pydantic model )?json schema for each tool call you will make:|"
        r"For each function call,? return a JSON object, with the following pydantic model json schema for each:)\s*"
        + FENCED.format(OBJECT)
    ),
    system_text.sentence(
        r"For each function call,? return a (?:valid )?json object (?:\(using double quotes\) )?with function name and "
        r"arguments within `?<tool_call>\s*</tool_call>`? XML tags(?: as follows)?[:.]"
    ),
    system_text.sentence(r"Each function call should be enclosed within <tool_call>\s*</tool_call> XML tags\."),
    re.compile(FENCED.format(r"<tool_call>\s*\{[^{}]*<(?:args-dict|args-json-object)>[^{}]*\}\s*</tool_call>")),
)


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    given = turns.of_row(row)
    if not isinstance(given, list):
        found.faults.append(given)
        return found
    column = row.values.get("system")
    if isinstance(column, str) and has_tools(column):
        text = _system(column, At("system"), found)
        row = replace(row, values={**row.values, "system": text})
    sharegpt.add_system(row, found, given)
    for node in given:
        for turn in _turns(node, found):
            found.add(turn)
    _compare(row.values.get("tools"), found)
    return found


def has_tools(text: Any) -> bool:
    """Whether a system text holds tools as Hermes writes them."""
    return isinstance(text, str) and TOOLS.search(text) is not None


def _turns(node: Node, found: Conversation) -> list[Turn | list[Fault]]:
    """What one turn of the row holds: one turn, or several answers of tools."""
    read_turn = sharegpt.turn_text(node, ROLES)
    if isinstance(read_turn, list):
        return [read_turn]
    role, value = read_turn
    at = At(f"{node.at.path}.value")
    if role == "system":
        text = _system(value, at, found)
        return [conversation.said("system", text, node.at)] if text or not has_tools(value) else []
    if role == "assistant":
        return [_assistant(value, at, node.at)]
    if role == "tool":
        return _answers(value, at, node.at)
    return [conversation.said(role, value, at)]


def _system(text: str, at: At, found: Conversation) -> str:
    """What stays of the system text; its tools go to what is found."""
    match = TOOLS.search(text)
    if match is None:
        return text
    if TOOLS.search(text, match.end()):
        found.tool_faults.append((f"{at} has two blocks of `<tools>`", None))
    inner, start = match["tools"], match.start("tools")
    given: list[Node] = []
    at_end = 0
    try:
        while at_end < len(inner):
            node, at_end = _value(inner, at_end, at.path, start)
            given += node.items() if isinstance(node.value, list) else [node]
            at_end = strict_json.skip_space(inner, at_end)
    except strict_json.Invalid as error:
        found.tool_faults.append(nodes.invalid(error, At(at.path, start)))
        return text
    found.add_tools(*tools.of_nodes(given))
    return system_text.without(text, match.span(), BOILERPLATE)


def _value(text: str, start: int, path: str, offset: int) -> tuple[Node, int]:
    """The next value, of JSON or else, up to the end of the text or its line, of Python. Raises Invalid."""
    try:
        value, end, fault = strict_json.Decoder().value(text, start)
    except strict_json.Invalid as error:
        line_end = text.find("\n", start)
        for end in (len(text), line_end) if line_end >= 0 else (len(text),):
            try:
                return Node(python_values.read(text[start:end]), At(path, offset + start)), end
            except strict_json.Invalid as other:
                likely = _likelier(error, other, start, text)
        raise likely from None
    if fault is not None:
        raise strict_json.Invalid(fault, start)
    return Node(value, At(path, offset + start), text[start:end]), end


def _likelier(error: strict_json.Invalid, other: strict_json.Invalid, start: int, text: str) -> strict_json.Invalid:
    """The fault to tell: that of Python where the text is meant as Python, by its first quote."""
    quote = re.search(r"[\"']", text[start:])
    if quote is None or quote[0] != "'":
        return error
    return strict_json.Invalid(other.message, other.position + start, other.hint)


def _assistant(text: str, at: At, turn_at: At) -> Turn | list[Fault]:
    blocks = _blocks(text, "tool_call", at)
    if not isinstance(blocks, list):
        return [blocks]
    if not blocks:
        return conversation.said("assistant", text, at)
    calls: list[ReadCall] = []
    faults: list[Fault] = []
    for match in blocks:
        written = match[1].rstrip()
        start = strict_json.skip_space(written, 0)
        try:
            node, end = _value(written, start, at.path, match.start(1))
            if strict_json.skip_space(written, end) < len(written):
                raise strict_json.Invalid("there is more text after the call", strict_json.skip_space(written, end))
        except strict_json.Invalid as error:
            faults.append(nodes.invalid(error, At(at.path, match.start(1))))
            continue
        read_call = conversation.call(node)
        if isinstance(read_call, ReadCall):
            calls.append(read_call)
        else:
            faults += read_call
    content = text[: blocks[0].start()].rstrip()
    return faults or conversation.calling(content, calls, turn_at)


def _answers(text: str, at: At, turn_at: At) -> list[Turn | list[Fault]]:
    blocks = _blocks(text, "tool_response", at)
    if not isinstance(blocks, list):
        return [[blocks]]
    if not blocks:
        return [conversation.said("tool", text, at)]
    if text[: blocks[0].start()].strip():
        return [[(f"{At(at.path, 0)}: text stands before `<tool_response>`", None)]]
    return [Turn(Message("tool", block[1].strip()), turn_at) for block in blocks]


def _blocks(text: str, name: str, at: At) -> list[re.Match[str]] | Fault:
    """The marked blocks of a text, which have nothing between and after them; or what is wrong with them."""
    found = list(re.finditer(BLOCK.format(name), text, re.DOTALL))
    inside = [range(match.start(), match.end()) for match in found]
    for mark in MARKS[name].finditer(text):
        if not any(mark.start() in span for span in inside):
            return f"{At(at.path, mark.start())}: `{mark[0]}` has no other half", None
    for match, following in zip(found, [*(later.start() for later in found), len(text)][1:], strict=True):
        if f"<{name}>" in match[1]:
            return f"{At(at.path, match.start())}: `<{name}>` is opened twice before it is closed", None
        if text[match.end() : following].strip():
            start = match.end() + len(text[match.end() :]) - len(text[match.end() :].lstrip())
            return f"{At(at.path, start)}: text stands after `</{name}>`, where only more of them may", None
    return found


def _compare(column: Any, found: Conversation) -> None:
    """A column `tools` beside those of the system turn says them once more, or says what that leaves out."""
    beside, faults = tools.of_column(column, "tools")
    if not found.tools and not found.tool_faults:
        found.add_tools(beside, faults)
    elif faults:
        found.tool_faults += faults
    elif beside and {tool.text for tool in beside} != {tool.text for tool in found.tools} and not found.tool_faults:
        message = "the column `tools` and the tools of the system turn are not the same"
        found.tool_faults.append((message, "leave the column out, by another name for example"))
