"""Rows of LLaMA-Factory and of ms-swift, whose calls are turns of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import WEATHER, chat, chosen, told, tool

from runner.data.examples import Call, Chat, Message

CALL = '{"name": "get_weather", "arguments": {"city": "Rome", "days": 1.0}}'
OTHER = '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}'
ARGUMENTS = '{"city": "Rome", "days": 1.0}'


def sharegpt(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    spoken = [{"from": "human", "value": "q"}, *({"from": who, "value": value} for who, value in turns)]
    return {"conversations": spoken, "tools": json.dumps([WEATHER]), **more}


def swift(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    spoken = [{"role": "user", "content": "q"}, *({"role": who, "content": value} for who, value in turns)]
    return {"messages": spoken, "tools": json.dumps([{"type": "function", "function": WEATHER}]), **more}


def test_a_row_of_llama_factory() -> None:
    values = sharegpt(("function_call", CALL), ("observation", '{"degrees": 21}'), ("gpt", "21"), system="Be brief.")
    assert chosen(values) == "sharegpt"
    expected = Chat(
        (
            Message("system", "Be brief."),
            Message("user", "q"),
            Message("assistant", "", (Call("get_weather", ARGUMENTS),)),
            Message("tool", '{"degrees": 21}'),
            Message("assistant", "21"),
        ),
        (tool(),),
    )
    assert chat(values) == chat(values, "sharegpt") == expected


def test_parallel_calls_of_llama_factory() -> None:
    values = sharegpt(("gpt", "Both."), ("function_call", f"[{CALL}, {OTHER}]"))
    calls = (Call("get_weather", ARGUMENTS), Call("get_weather", '{"city": "Oslo"}'))
    assert chat(values).messages[1:] == (Message("assistant", "Both.", calls),)


def test_a_row_of_ms_swift() -> None:
    values = swift(
        ("tool_call", CALL), ("tool_call", OTHER), ("tool_response", "21"), ("tool_response", "3"), ("assistant", "ok")
    )
    assert chosen(values) == "swift"
    calls = (Call("get_weather", ARGUMENTS), Call("get_weather", '{"city": "Oslo"}'))
    assert chat(values) == Chat(
        (
            Message("user", "q"),
            Message("assistant", "", calls),
            Message("tool", "21"),
            Message("tool", "3"),
            Message("assistant", "ok"),
        ),
        (tool(),),
    )


def test_the_text_before_a_call_of_ms_swift_and_a_second_round() -> None:
    values = swift(
        ("assistant", "Let me see."), ("tool_call", CALL), ("tool", "21"), ("tool_call", OTHER), ("tool_response", "3")
    )
    assert [(each.role, each.content, len(each.calls)) for each in chat(values).messages] == [
        ("user", "q", 0),
        ("assistant", "Let me see.", 1),
        ("tool", "21", 0),
        ("assistant", "", 1),
        ("tool", "3", 0),
    ]


def test_rows_without_tools_are_conversations() -> None:
    spoken = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    values = {"conversations": spoken, "tools": "[]", "system": ""}
    assert chosen(values) == "sharegpt"
    assert chat(values) == Chat((Message("user", "a"), Message("assistant", "b")))
    assert chat({"messages": spoken}) == chat(values)


CUT = "not valid JSON: the text ends before its value is complete"
BROKEN: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "sharegpt: cut off": (
        sharegpt(("function_call", CALL[:-1])), f"`conversations[1].value` at character {len(CALL)}: {CUT}", None,
    ),
    "sharegpt: no object": (
        sharegpt(("function_call", "3")), "`conversations[1].value` is a number, not an object", None,
    ),
    "sharegpt: no calls": (
        sharegpt(("function_call", "[]")), "`conversations[1].value` is an empty list, and holds no call", None,
    ),
    "sharegpt: no name": (
        sharegpt(("function_call", f'[{CALL}, {{"arguments": {{}}}}]')),
        "`conversations[1].value[1].name` is missing", None,
    ),
    "sharegpt: arguments as text": (
        sharegpt(("function_call", '{"name": "get_weather", "arguments": "{\'a\': 1}"}')),
        "`conversations[1].value.arguments` at character 2: not valid JSON: a string is in single quotes",
        "JSON strings take double quotes; `json.dumps` writes them",
    ),
    "sharegpt: a role": (
        sharegpt(("bot", "a")),
        "`conversations[1].from` is `bot`, not `system`, `human`, `gpt`, `function_call` or `observation`",
        "write `gpt`",
    ),
    "sharegpt: two systems": (
        {
            "conversations": [{"from": "system", "value": "a"}, *sharegpt(("gpt", "b"))["conversations"]],
            "system": "c",
        },
        "the row has a column `system` and a turn of `system`", "keep one of the two",
    ),
    "sharegpt: value missing": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "vale": "b"}], "tools": "[]"},
        "`conversations[1].value` is missing", "a similar key exists: `vale`",
    ),
    "sharegpt: tools no JSON": (
        sharegpt(("gpt", "a"), tools="[{'name'"),
        "`tools` at character 3: not valid JSON: a string is in single quotes",
        "JSON strings take double quotes; `json.dumps` writes them",
    ),
    "sharegpt: tools no list": (
        sharegpt(("gpt", "a"), tools=json.dumps(WEATHER)), "`tools` is an object, not a list of tools",
        "write a list, also of a single tool: `[{…}]`",
    ),
    "sharegpt: an answer to nothing": (
        sharegpt(("gpt", "a"), ("observation", "3")),
        "`conversations[2]` is a tool's answer, and the turn before it calls no tool", None,
    ),
    "swift: cut off": (
        swift(("tool_call", CALL[:-1])), f"`messages[1].content` at character {len(CALL)}: {CUT}", None,
    ),
    "swift: no content": (
        {"messages": [{"role": "user", "content": "q"}, {"role": "tool_call"}]},
        "`messages[1].content` is missing", None,
    ),
    "swift: calls of another format": (
        {
            **swift(("tool_call", CALL)),
            "messages": [*swift(("tool_call", CALL))["messages"], {"role": "assistant", "content": "a",
                                                                   "tool_calls": [{"function": {}}]}],
        },
        "`messages[2]` has `tool_calls`, and calls are turns of role `tool_call` here", None,
    ),
    "swift: a role": (
        swift(("tool_call", CALL), ("tool_respons", "a")),
        "`messages[2].role` is `tool_respons`, not `system`, `user`, `assistant`, `tool_call`, `tool_response` or "
        "`tool`",
        "write `tool_response`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "message", "hint"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(values: dict[str, Any], message: str, hint: str | None) -> None:
    assert told(values) == [(message, hint)]
