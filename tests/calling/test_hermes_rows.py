"""Rows of Hermes: tools, calls and answers as text in marks, and what stays of the system turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import WEATHER, chat, chosen, told, tool

from runner.data.examples import Call, Chat, Message

WRAPPED = {"type": "function", "function": WEATHER}
NEWER = (
    "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    "plug into functions.\n<tools>\n{tools}\n</tools>\nFor each function call return a JSON object, with the following "
    "pydantic model json schema for each:\n{{'title': 'FunctionCall', 'type': 'object', 'properties': {{'name': "
    "{{'title': 'Name', 'type': 'string'}}, 'arguments': {{'title': 'Arguments', 'type': 'object'}}}}, 'required': "
    "['arguments', 'name']}}\nEach function call should be enclosed within <tool_call> </tool_call> XML tags."
)
OLDER = (
    "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    "plug into functions. Here are the available tools:<tools> {tools} </tools>Use the following pydantic model json "
    "schema for each tool call you will make: {{'title': 'FunctionCall', 'type': 'object', 'properties': "
    "{{'arguments': {{'title': 'Arguments', 'type': 'object'}}}}, 'required': ['arguments']}}For each function call "
    "return a json object with function name and arguments within <tool_call></tool_call> XML tags as follows:\n"
    "<tool_call>\n{{'arguments': <args-dict>, 'name': <function-name>}}\n</tool_call>"
)
QWEN = (
    "Be brief.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided "
    "with function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function call, "
    "return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
KEPT = "You are a function calling AI model. Don't make assumptions about what values to plug into functions."
CALL = '<tool_call>\n{"arguments": {"city": "Rome", "days": 1.0}, "name": "get_weather"}\n</tool_call>'
ROME = Call("get_weather", '{"city": "Rome", "days": 1.0}')


def row(*turns: tuple[str, str], system: str = NEWER, tools: str | None = None, **more: Any) -> dict[str, Any]:
    text = system.format(tools=json.dumps([WRAPPED]) if tools is None else tools)
    spoken = [("system", text), ("human", "q"), *turns]
    return {"conversations": [{"from": who, "value": value} for who, value in spoken], **more}


def fault(*turns: tuple[str, str], **more: Any) -> tuple[str, str | None]:
    (found,) = told(row(*turns, **more))
    return found


@pytest.mark.parametrize(
    ("system", "kept"), [(NEWER, KEPT), (OLDER, KEPT), (QWEN, "Be brief.")], ids=["newer", "older", "Qwen"]
)
@pytest.mark.parametrize(
    "tools", [json.dumps([WRAPPED]), repr([WRAPPED]), json.dumps(WRAPPED)], ids=["JSON", "Python", "an object alone"]
)
def test_the_system_turn_loses_its_tools_and_what_introduces_them(system: str, kept: str, tools: str) -> None:
    values = row(("gpt", CALL), system=system, tools=tools)
    assert chosen(values) == "hermes"
    calls = Message("assistant", "", (ROME,))
    assert chat(values) == Chat((Message("system", kept), Message("user", "q"), calls), (tool(),))


def test_no_other_wording_leaves() -> None:
    system = NEWER.replace("You may call one", "You might call one").replace("XML tags. You", "XML tags, friend. You")
    (first, *_) = chat(row(("gpt", CALL), system=f"{system} Think in <scratch_pad>.\n\nCite.")).messages
    assert first.content == (
        "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML "
        "tags, friend. You might call one or more functions to assist with the user query. Don't make assumptions "
        "about what values to plug into functions.\nThink in <scratch_pad>.\n\nCite."
    )


def test_text_on_the_line_of_what_leaves_stays() -> None:
    system = NEWER.replace("\nEach function call should", " Think {hard}. Each function call should")
    assert chat(row(("gpt", CALL), system=system.replace("{hard}", "{{hard}}"))).messages[0].content == (
        f"{KEPT}\nThink {{hard}}."
    )


def test_a_column_of_its_own_may_hold_the_system_text() -> None:
    turns = row(("gpt", CALL))["conversations"]
    values = {"system": turns[0]["value"], "conversations": turns[1:]}
    assert chosen(values) == "hermes"
    assert chat(values) == chat(row(("gpt", CALL)))
    assert chat({**values, "system": f"<tools>{json.dumps([WRAPPED])}</tools>"}).messages[0].role == "user"


def test_a_system_turn_of_nothing_else_is_gone() -> None:
    roles = [message.role for message in chat(row(("gpt", CALL), system="<tools>{tools}</tools>")).messages]
    assert roles == ["user", "assistant"]


def test_several_tools_as_lines() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    found = chat(row(("gpt", "No."), system=QWEN, tools=f"{json.dumps(WRAPPED)}\n{json.dumps(other)}"))
    assert found.tools == (tool(), tool({"name": "other"}))
    found = chat(row(("gpt", "No."), system=QWEN, tools=f"{WRAPPED!r}\n{other!r}"))
    assert found.tools == (tool(), tool({"name": "other"}))


def test_text_then_calls_then_answers() -> None:
    python = "<tool_call>\n{'arguments': {'city': \"L'Aquila\", 'days': None}, 'name': 'get_weather'}\n</tool_call>\n"
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {}}}
    values = row(
        ("gpt", f"Let me see.\n{CALL}\n{python}"),
        ("tool", '<tool_response>\n{"degrees": 21}\n</tool_response>\n<tool_response>\n3\n</tool_response>\n'),
        ("gpt", "ok"),
        tools=json.dumps([{"name": "get_weather", "parameters": schema}]),
    )
    calls = (ROME, Call("get_weather", '{"city": "L\'Aquila", "days": null}'))
    assert chat(values).messages[2:] == (
        Message("assistant", "Let me see.", calls),
        Message("tool", '{"degrees": 21}'),
        Message("tool", "3"),
        Message("assistant", "ok"),
    )


def test_an_answer_without_marks_is_one_answer() -> None:
    assert chat(row(("gpt", CALL), ("tool", "21"))).messages[-1] == Message("tool", "21")


def test_a_column_of_tools_says_the_same_or_is_refused() -> None:
    assert chat(row(("gpt", CALL), tools_column=1) | {"tools": json.dumps([WRAPPED])}).tools == (tool(),)
    message = "the column `tools` and the tools of the system turn are not the same"
    values = row(("gpt", CALL)) | {"tools": json.dumps([{"name": "get_weather", "parameters": {}}])}
    assert told(values) == [(message, "leave the column out, by another name for example")]
    values = row(("gpt", CALL), system="Be brief.") | {"tools": json.dumps([WRAPPED])}
    assert chosen(values) == "hermes" and chat(values).tools == (tool(),)


def at(number: int, turn: int = 2) -> str:
    return f"`conversations[{turn}].value` at character {number}"


BROKEN: dict[str, tuple[str, str, str | None]] = {
    "cut off": (
        '<tool_call>{"name": "get_weather"</tool_call>',
        f"{at(34)}: not valid JSON: the text ends before its value is complete", None,
    ),
    "not closed": (f"{CALL}<tool_call>", f"{at(len(CALL) + 1)}: `<tool_call>` has no other half", None),
    "not opened": ("a</tool_call>", f"{at(2)}: `</tool_call>` has no other half", None),
    "text after": (
        f"{CALL}\nWait.", f"{at(len(CALL) + 2)}: text stands after `</tool_call>`, where only more of them may", None,
    ),
    "twice opened": (
        f"<tool_call>{CALL}", f"{at(1)}: `<tool_call>` is opened twice before it is closed", None,
    ),
    "two values": (
        CALL.replace("\n</", " {}\n</"), f"{at(len(CALL) - 11)}: there is more text after the call", None,
    ),
    "a name that is a variable": (
        "<tool_call>{'name': get_weather, 'arguments': {}}</tool_call>",
        f"{at(12)}: neither valid JSON nor a plain Python value", None,
    ),
    "Python, cut off": (
        "<tool_call>{'name': 'get_weather', 'arguments': }</tool_call>",
        f"{at(47)}: neither valid JSON nor a Python value", None,
    ),
    "Python, a key twice": (
        "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'a', 'city': 'b'}}</tool_call>",
        f"{at(12)}: key `city` stands twice in one object", None,
    ),
    "Python, a set": (
        "<tool_call>{'name': 'get_weather', 'arguments': {'city': {'a'}}}</tool_call>",
        f"{at(12)}: a value is of Python's type `set`, which JSON does not have", None,
    ),
    "Python, an unknown escape": (
        "<tool_call>{'name': 'get_weather', 'arguments': {'city': '\\d'}}</tool_call>",
        f"{at(58)}: neither valid JSON nor a Python value", None,
    ),
    "a key twice": (
        '<tool_call>{"name": "get_weather", "name": "b", "arguments": {}}</tool_call>',
        f"{at(12)}: key `name` stands twice in one object", None,
    ),
    "no arguments": (
        '<tool_call>{"name": "get_weather"}</tool_call>', f"{at(12)}: `arguments` is missing",
        "write `{}` where there are none",
    ),
    "an unknown tool": (
        CALL.replace("get_weather", "getWeather"), f"{at(CALL.index('get_weather'))}: there is no tool `getWeather`",
        "a similar tool exists: `get_weather`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "message", "hint"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(answer: str, message: str, hint: str | None) -> None:
    assert fault(("gpt", answer)) == (message, hint)


def test_tools_that_cannot_be_read() -> None:
    start = NEWER.index("{tools}")
    assert fault(("gpt", CALL), tools="[{'name': f()}]") == (
        f"{at(start + 1, 0)}: neither valid JSON nor a plain Python value",
        None,
    )
    assert fault(("gpt", CALL), tools='[{"name": "get_weather", "parameters": {"type": "objekt"}}]') == (
        f"{at(start + 2, 0)}: `parameters.type` is `objekt`, which is no type",
        "write `object`",
    )
