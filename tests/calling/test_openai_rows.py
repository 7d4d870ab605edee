"""Rows with `messages` and `tools`, as OpenAI, TRL and Predibase write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import USER, WEATHER, chat, chosen, told, tool

from runner.data.examples import Call, Chat, Message

TOOLS = [{"type": "function", "function": WEATHER}]
QUESTION = Message("user", USER["content"])


def call(arguments: Any, name: str = "get_weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def asked(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls), **more}


def rows(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [USER, *messages], "tools": TOOLS, **more}


def only(*messages: dict[str, Any], **more: Any) -> tuple[str, str | None]:
    (fault,) = told(rows(*messages, **more))
    return fault


def test_a_row_that_ends_on_a_call() -> None:
    values = rows(asked(call('{"city": "Rome"}', id="call_1")))
    assert chosen(values) == "openai"
    expected = Message("assistant", "", (Call("get_weather", '{"city": "Rome"}', "call_1"),))
    assert chat(values) == Chat((QUESTION, expected), (tool(),))


def test_parallel_calls_and_their_answers_in_another_order() -> None:
    values = rows(
        asked(call('{"city": "Rome"}', id="a"), call('{"city": "Oslo"}', id="b"), content="Both."),
        {"role": "tool", "tool_call_id": "b", "content": "3"},
        {"role": "tool", "tool_call_id": "a", "name": "get_weather", "content": ""},
        {"role": "assistant", "content": "Rome has none."},
    )
    calls = (Call("get_weather", '{"city": "Rome"}', "a"), Call("get_weather", '{"city": "Oslo"}', "b"))
    assert chat(values).messages[1:] == (
        Message("assistant", "Both.", calls),
        Message("tool", "3", call_id="b"),
        Message("tool", "", call_id="a", name="get_weather"),
        Message("assistant", "Rome has none."),
    )


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_row_of_predibase(content: dict[str, Any]) -> None:
    values = rows(asked(call({"city": "Zürich", "days": 2}), **content))
    assert chosen(values) == "predibase"
    expected = Message("assistant", "", (Call("get_weather", '{"city": "Zürich", "days": 2}'),))
    assert chat(values, "predibase") == chat(values, "openai") == Chat((QUESTION, expected), (tool(),))


def test_a_call_without_its_wrapper_as_trl_takes_it() -> None:
    values = rows({"role": "assistant", "tool_calls": [{"name": "get_weather", "arguments": {"city": "Rome"}}]})
    assert chat(values).messages[1].calls == (Call("get_weather", '{"city": "Rome"}'),)


def test_the_older_keys() -> None:
    values = {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "get_weather", "arguments": '{"city":""}'},
            },
            {"role": "function", "name": "get_weather", "content": "21"},
        ],
        "functions": [WEATHER],
    }
    calls = (Call("get_weather", '{"city":""}'),)
    messages = (QUESTION, Message("assistant", "", calls), Message("tool", "21", name="get_weather"))
    assert chat(values) == Chat(messages, (tool(),))


@pytest.mark.parametrize(
    "written",
    [
        '{"days": 1.0, "city": "a"}',
        '{"city":"b","days":123456789012345678901234567890}',
        '{ "days" : 1e2,\n "city" : "\\u00e9" }',
    ],
)
def test_arguments_stay_as_they_are_written(written: str) -> None:
    assert chat(rows(asked(call(written)))).messages[1].calls[0].arguments == written
    as_text = {"messages": json.dumps([USER, asked(call(written))]), "tools": json.dumps(TOOLS)}
    assert chat(as_text).messages[1].calls[0].arguments == written


def test_objects_in_a_column_of_json_text_keep_their_spelling_too() -> None:
    written = '{"name": "get_weather", "arguments": {"days":1.0,"city":""}}'
    turn = f'{{"role": "assistant", "tool_calls": [{{"function": {written}}}]}}'
    values = {"messages": f"[{json.dumps(USER)}, {turn}]", "tools": json.dumps([WEATHER])}
    assert chat(values).messages[1].calls[0].arguments == '{"days":1.0,"city":""}'


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_a_row_without_tools_and_calls(tools: Any) -> None:
    values = {"messages": [USER, {"role": "assistant", "content": "Warm."}], "tools": tools}
    assert chat(values) == Chat((QUESTION, Message("assistant", "Warm.")))


def test_in_a_table_null_is_what_other_rows_have() -> None:
    function = {
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer", "enum": None}, "b": None}},
        "strict": None,
    }
    message = {**asked(call({"a": 1, "b": None}, name="f")), "content": None, "tool_call_id": None}
    values = {
        "messages": [{**USER, "tool_calls": None}, message],
        "tools": [{"type": "function", "function": function}],
    }
    found = chat(values, table=True)
    assert found.messages[1].calls == (Call("f", '{"a": 1}'),)
    clean = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    assert found.tools == (tool(clean),)
    assert told(values)[0][0] == "`tools[0].function.parameters.properties.b` is null, not a schema"


BROKEN: dict[str, tuple[list[dict[str, Any]], str, str | None]] = {
    "arguments cut off": (
        [asked(call('{"city": "Rome"'))],
        "`messages[1].tool_calls[0].function.arguments` at character 16: not valid JSON: the text ends before its "
        "value is complete", None,
    ),
    "a key twice": (
        [asked(call('{"city": "a", "city": "b"}'))],
        "`messages[1].tool_calls[0].function.arguments` at character 1: key `city` stands twice in one object", None,
    ),
    "not a number": (
        [asked(call('{"city": "a", "days": NaN}'))],
        "`messages[1].tool_calls[0].function.arguments` at character 1: `NaN` is no JSON number", None,
    ),
    "arguments empty": (
        [asked(call(""))],
        "`messages[1].tool_calls[0].function.arguments` is empty", "write `{}` where there are none",
    ),
    "arguments a list": (
        [asked(call("[1]"))], "`messages[1].tool_calls[0].function.arguments` is a list, not an object", None,
    ),
    "no arguments": (
        [asked({"type": "function", "function": {"name": "get_weather", "argumnets": "{}"}})],
        "`messages[1].tool_calls[0].function.arguments` is missing", "a similar key exists: `argumnets`",
    ),
    "half of a character": (
        [asked(call('{"city": "\\ud83d"}'))],
        "`messages[1].tool_calls[0].function.arguments` has half of a character",
        "an escape of this kind means something only with its other half",
    ),
    "another kind of call": (
        [asked({**call('{"city": "a"}'), "type": "custom"})],
        "`messages[1].tool_calls[0].type` is `custom`, not `function`", "only functions can be called",
    ),
    "calls no list": (
        [{"role": "assistant", "tool_calls": call("{}")}], "`messages[1].tool_calls` is an object, not a list", None,
    ),
    "an empty name": (
        [asked(call("{}", name=""))], "`messages[1].tool_calls[0].function.name` is empty", None,
    ),
    "calls of a user": (
        [{**asked(call('{"city": "a"}')), "role": "user"}],
        "`messages[1]` has `tool_calls`, and is no turn of the assistant", None,
    ),
    "both keys": (
        [asked(call('{"city": "a"}'), function_call={"name": "get_weather", "arguments": "{}"})],
        "`messages[1]` has both `tool_calls` and `function_call`", "put all calls into `tool_calls`",
    ),
    "a weight": (
        [asked(call('{"city": "a"}'), weight=0)],
        "`messages[1].weight` is `0`, which is not followed", "`dataset.learn` picks the turns to learn",
    ),
    "reasoning": (
        [asked(call('{"city": "a"}'), reasoning_content="hm")],
        "`messages[1]` has `reasoning_content`, which would be lost",
        "put the reasoning into `content`, in the marks that the model uses for it",
    ),
    "nothing said": (
        [asked(), {"role": "assistant", "content": "a"}], "`messages[1].content` is missing",
        "a turn of the assistant has a text, `tool_calls`, or both",
    ),
    "an answer of null": (
        [{"role": "assistant", "content": None}], "`messages[1].content` is null, not text",
        "a turn of the assistant has a text, `tool_calls`, or both",
    ),
    "a result that is an object": (
        [asked(call('{"city": "a"}')), {"role": "tool", "content": {"degrees": 3}}],
        "`messages[2].content` is an object, not text", "write what a tool gives back as JSON text: `json.dumps`",
    ),
    "a role of ms-swift": (
        [{"role": "tool_response", "content": "a"}],
        "`messages[1].role` is `tool_response`, not `system`, `user`, `assistant` or `tool`",
        "rows with this role are of `format: swift`",
    ),
    "an id that is a number": (
        [asked(call('{"city": "a"}', id=3))], "`messages[1].tool_calls[0].id` is a number, not text", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "message", "hint"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(messages: list[dict[str, Any]], message: str, hint: str | None) -> None:
    assert told(rows(*messages), "openai") == [(message, hint)]


def test_all_faults_of_a_row_are_told_at_once() -> None:
    values = {
        "messages": [
            {"role": "user", "content": " "},
            asked(call("{"), call("{}", name="get_wether"), call('{"city": 3}')),
        ],
        "tools": [*TOOLS, {"type": "retrieval"}],
    }
    assert told(values) == [
        ("`tools[1].type` is `retrieval`, not `function`", "only functions can be called"),
        ("`messages[0].content` is only white space", None),
        (
            "`messages[1].tool_calls[0].function.arguments` at character 2: not valid JSON: the text ends before its "
            "value is complete",
            None,
        ),
    ]


def test_rows_that_have_no_messages_at_all() -> None:
    assert told({"messages": "[1,", "tools": TOOLS}) == [
        ("`messages` at character 4: not valid JSON: the text ends before its value is complete", None)
    ]
    assert told({"messages": []}) == [("`messages` is empty", None)]
    assert told({"messages": None}) == [("`messages` is null, not a list", None)]
    assert told({"messages": [3]}) == [("`messages[0]` is a number, not an object", None)]
    hint = "`messages` with `tool_calls` and `tools` will do; for a column of another name set `columns`"
    assert told({"text": "a"}) == [("the row is in no format with calls; it has `text`", hint)]
    hint = (
        '`{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}` says the same; '
        "where no row has calls, take `task: sft`"
    )
    assert told({"prompt": "a", "completion": "b"}) == [
        ("the row is in no format with calls; it has `prompt`, `completion`", hint)
    ]
    turns = "for a list of turns in this column set `columns: {messages: chat}`"
    assert told({"chat": [USER], "tools": TOOLS}) == [("`chat` is a list, not text", turns)]
    message = "missing column `messages`; the row has `text`"
    assert told({"text": "a"}, "openai") == [(message, "name it in `columns`: `{messages: …}`")]
    both = {"messages": [USER], "chat": "USER: a", "system": ""}
    message = "the row is in several formats at once: `glaive`, `openai`"
    assert told(both) == [(message, "set `format` to the one that is meant")]


def test_both_spellings_of_tools() -> None:
    values = rows(asked(call('{"city": "a"}')), functions=[{"name": "other"}])
    assert told(values) == [("the row has both `tools` and `functions`", "put all of them into `tools`")]
