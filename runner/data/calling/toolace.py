"""Rows of ToolACE in, conversations out: tools in the text of `system`, calls as `[Name(argument="value"), …]`.

- The tools are the list of JSON objects in `system`. It leaves, and with it the sentences of `BOILERPLATE`: that there
  are functions, where they stand, and how calls are to be written, since the chat template has its own. Everything else
  stays, such as who the model is and what it does where no function fits. A text without tools stays as a whole.
- An assistant turn that begins with `[` and a name with a bracket holds calls and nothing else. Any other is text,
  unless the name of a tool with its bracket stands in square brackets within it, which is refused.
"""

from __future__ import annotations

import re

from runner.data import strict_json
from runner.data.calling import conversation, nodes, sharegpt, system_text, toolace_calls, tools, turns
from runner.data.calling.conversation import Arguments, Conversation, ReadCall, Turn
from runner.data.calling.nodes import At, Node
from runner.data.examples import Call
from runner.data.formats import Fault
from runner.data.rows import Row

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}
LIST = re.compile(r"\[\s*(?=\{)")
CALLS = re.compile(r"\s*\[\s*[^\s\[\](){}\"'][^\[\](){}\"'\n]*\(")
BOILERPLATE = (
    system_text.sentence(r"You are given a question and a set of possible functions\."),
    system_text.sentence(
        r"Based on the question, you will need to make one or more function/tool calls to achieve the purpose\."
    ),
    system_text.sentence(r"You should only return the function calls? in (?:your response|tools call sections)\."),
    system_text.sentence(r"Here is a list of functions in JSON format that you can invoke[:.]"),
    system_text.sentence(r"Should you decide to return the function call\(s\)\."),
    system_text.sentence(
        r"(?:If you decide to invoke any of the function\(s\), you MUST put|Put) it in the format of "
        r"\[func\w*\(params_name1?=params_value1?,? params_name2=params_value2\.\.\.\), func\w*\(params\)\]"
    ),
    system_text.sentence(r"NO other text MUST be included\."),
    system_text.sentence(r"You SHOULD NOT include any other text in the response\."),
)


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    system = row.values.get("system")
    if isinstance(system, str):
        _system(system, found)
    elif system is not None:
        found.faults.append((f"`system` is {strict_json.kind(system)}, not text", None))
    for node in turns.given(row, found):
        found.add(_turn(node, [tool.name for tool in found.tools]))
    return found


def _system(text: str, found: Conversation) -> None:
    kept = text
    match = LIST.search(text)
    if match is not None:
        start = match.start()
        try:
            node, end = nodes.within(text, start, "system")
        except strict_json.Invalid as error:
            found.tool_faults.append(nodes.invalid(error, At("system")))
            return
        found.add_tools(*tools.of_nodes(node.items()))
        end += text[end : end + 1] == "."
        kept = system_text.without(text, (start, end), BOILERPLATE)
    if kept.strip():
        found.add(conversation.said("system", kept, At("system")))


def _turn(node: Node, names: list[str]) -> Turn | list[Fault]:
    read_turn = sharegpt.turn_text(node, ROLES)
    if isinstance(read_turn, list):
        return read_turn
    role, value = read_turn
    at = At(f"{node.at.path}.value")
    if role != "assistant" or not _begins_with_calls(value, names):
        for name in names if role == "assistant" else ():
            if f"[{name}(" in value:
                inner = At(at.path, value.index(f"[{name}("))
                return [(f"{inner}: a call of `{conversation.short(name)}` stands within text", None)]
        said = conversation.said(role, value, at)
        return Turn(said.message, node.at) if isinstance(said, Turn) else said
    try:
        written = toolace_calls.read(value, names)
    except strict_json.Invalid as error:
        return [nodes.invalid(error, at)]
    calls: list[ReadCall] = []
    faults: list[Fault] = []
    for each in written:
        arguments_at = At(at.path, each.arguments_start)
        arguments = conversation.arguments(Node(each.arguments, At(at.path)))
        if isinstance(arguments, Arguments):
            call = Call(each.name, arguments.text)
            calls.append(ReadCall(call, arguments.values, At(at.path, each.name_start), arguments_at))
        else:
            faults.append((f"{arguments_at}: the arguments hold what JSON has not", arguments[1]))
    return faults or conversation.calling("", calls, node.at)


def _begins_with_calls(text: str, names: list[str]) -> bool:
    inner = text.lstrip()
    known = inner.startswith("[") and any(inner[1:].lstrip().startswith(f"{name}(") for name in names)
    return known or CALLS.match(text) is not None
