"""What a row gives to learn, and what is said about a row that gives nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data import formats
from runner.data.examples import Chat, Example, Instruction, Message
from runner.data.rows import Row, TablePlace
from runner.errors import Place, Problem

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
TEXT = "only text can be learned"


def row(values: dict[str, Any]) -> Row:
    return Row(values, Place("data.jsonl", 7), raw=json.dumps(values))


def read(values: dict[str, Any], source_format: str = "auto") -> Example | list[Problem]:
    return formats.read(row(values), source_format)


def told(values: dict[str, Any], source_format: str = "auto") -> list[tuple[str, str | None]]:
    found = read(values, source_format)
    assert isinstance(found, list), found
    for problem in found:
        assert str(problem.place) == "data.jsonl:7"
        assert problem.place is not None and problem.place.text == json.dumps(values)
    return [(problem.message, problem.hint) for problem in found]


def test_a_prompt_and_its_completion() -> None:
    assert read({"prompt": " a ", "completion": "b\n", "id": 3}) == Instruction(" a ", "b\n")


def test_a_conversation() -> None:
    system = {"role": "system", "content": ""}
    assert read({"messages": [system, USER, ASSISTANT]}) == Chat(
        (Message("system", ""), Message("user", "Hi"), Message("assistant", "Hello"))
    )


@pytest.mark.parametrize(
    "messages",
    [
        [ASSISTANT, USER],
        [USER, ASSISTANT, USER],
        [USER, USER, ASSISTANT, ASSISTANT],
        [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER, ASSISTANT],
        [{**USER, "name": "Ann", "id": 3, "timestamp": "now"}, {**ASSISTANT, "weight": 1, "tool_calls": []}],
        [{**USER, "tool_calls": None, "reasoning_content": None}, {**ASSISTANT, "train": True, "audio": None}],
        [
            {**USER, "content": [{"type": "text", "text": "H", "image_url": None}, {"type": "text", "text": "i"}]},
            ASSISTANT,
        ],
    ],
    ids=["answer first", "ends on a question", "same roles", "two systems", "other keys", "null keys", "text parts"],
)
def test_what_is_left_to_the_chat_template(messages: list[dict[str, Any]]) -> None:
    found = read({"messages": messages, "tools": None})
    assert isinstance(found, Chat)
    assert [message.role for message in found.messages] == [message["role"] for message in messages]
    assert found.messages[0].content in ("Hi", "Hello", "a")
    assert formats.ends_unanswered(found) == (messages[-1]["role"] == "user")


def test_a_conversation_as_json_text() -> None:
    assert read({"messages": json.dumps([USER, ASSISTANT])}) == read({"messages": [USER, ASSISTANT]})


def test_turns_of_sharegpt_are_those_of_openai() -> None:
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi"},
        {"from": "GPT", "value": "Hello"},
    ]
    ours = [{"role": "system", "content": "Be brief."}, USER, ASSISTANT]
    assert read({"messages": turns}) == read({"messages": ours})


def test_a_format_that_is_named_decides_between_columns_of_two() -> None:
    values = {"prompt": "a", "completion": "b", "messages": [USER, ASSISTANT]}
    assert isinstance(read(values, "messages"), Chat)
    assert isinstance(read(values, "prompt_completion"), Instruction)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "a", "messages": [USER, ASSISTANT]},
        {"prompt": None, "completion": None, "messages": [USER, ASSISTANT]},
    ],
)
def test_columns_that_are_not_whole_make_no_format(values: dict[str, Any]) -> None:
    assert isinstance(read(values), Chat)


NEITHER = "the row has neither `prompt` and `completion` nor `messages`; it has "
TOOLS = formats.FUNCTION_CALLING
REASONING = "put the reasoning into `content`, in the marks that the model uses for it"

BROKEN = {
    "nothing": ({}, NEITHER + "no columns", None),
    "plain text": ({"text": "a"}, NEITHER + "`text`", "plain text belongs to `task: continued_pretraining`"),
    "questions": (
        {"question": "a", "answer": "b"}, NEITHER + "`question`, `answer`",
        "if these columns hold it, set `columns: {prompt: question, completion: answer}`",
    ),
    "Alpaca": (
        {"instruction": "a", "input": "", "output": "b"}, NEITHER + "`instruction`, `input`, `output`",
        "make the prompt of the two by `templates`; `tunesmith init` writes that",
    ),
    "conversations": (
        {"conversations": [USER, ASSISTANT]}, NEITHER + "`conversations`",
        "if these columns hold it, set `columns: {messages: conversations}`",
    ),
    "many columns": (
        {f"x{number}": 1 for number in range(12)},
        NEITHER + ", ".join(f"`x{number}`" for number in range(10)) + " and 2 more", None,
    ),
    "misspelt": (
        {"prompt": "a", "completoin": "b"}, "missing column `completion`; the row has `prompt`, `completoin`",
        "if these columns hold it, set `columns: {completion: completoin}`",
    ),
    "half": ({"completion": "b"}, "missing column `prompt`; the row has `completion`", None),
    "both": (
        {"prompt": "a", "completion": "b", "messages": [USER, ASSISTANT]},
        "the row is in several formats at once: `prompt_completion`, `messages`",
        "set `format` to the one that is meant",
    ),
    "number": ({"prompt": 7, "completion": "b"}, "`prompt` is a number, not text", None),
    "boolean": ({"prompt": "a", "completion": True}, "`completion` is a boolean, not text", None),
    "null": ({"prompt": "a", "completion": None}, "`completion` is null, not text", None),
    "object": ({"prompt": {"a": 1}, "completion": "b"}, "`prompt` is an object, not text", None),
    "turns": (
        {"prompt": [USER], "completion": "b"}, "`prompt` is a list, not text",
        "conversations go in the column `messages`",
    ),
    "empty completion": ({"prompt": "a", "completion": ""}, "`completion` is empty", None),
    "white completion": ({"prompt": "a", "completion": " \n\u2003"}, "`completion` is only white space", None),
    "empty prompt": ({"prompt": "", "completion": "b"}, "`prompt` is empty", None),
    "half a character": (
        {"prompt": "a\ud83d", "completion": "b"}, "`prompt` has half of a character at position 2: `\\ud83d`",
        "an escape of this kind means something only with its other half",
    ),
    "no turns": ({"messages": []}, "`messages` is empty", None),
    "messages null": ({"messages": None}, "`messages` is null, not a list", None),
    "messages object": ({"messages": USER}, "`messages` is an object, not a list", None),
    "messages text": (
        {"messages": "hello"}, "`messages` at character 1: not valid JSON: expecting value", None,
    ),
    "messages Python": (
        {"messages": "[{'role': 'user'}]"}, "`messages` at character 3: not valid JSON: a string is in single quotes",
        "JSON strings take double quotes; `json.dumps` writes them",
    ),
    "messages key twice": (
        {"messages": '[{"role": "user", "role": "user"}]'},
        "`messages` at character 1: key `role` stands twice in one object", None,
    ),
    "no user": ({"messages": [ASSISTANT]}, "the conversation has no `user` turn", None),
    "no assistant": (
        {"messages": [USER]}, "the conversation has no `assistant` turn, so there is nothing to learn", None,
    ),
    "text turn": ({"messages": [USER, "Hello"]}, "`messages[1]` is text, not an object", None),
    "null turn": ({"messages": [USER, None]}, "`messages[1]` is null, not an object", None),
    "a turn of nobody in ShareGPT": (
        {"messages": [{"from": "narrator", "value": "a"}, {"from": "gpt", "value": "b"}]},
        "`messages[0].from` is `narrator`, not `system`, `user` or `assistant`", None,
    ),
    "a tool in ShareGPT": (
        {"messages": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]},
        "`messages[1].from` is `function_call`", "rows with tools belong to `task: function_calling`",
    ),
    "no text in ShareGPT": (
        {"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": None}]},
        "`messages[1].value` is null, not text", None,
    ),
    "unknown role": (
        {"messages": [USER, {"role": "gpt", "content": "b"}]},
        "`messages[1].role` is `gpt`, not `system`, `user` or `assistant`", "write `assistant`",
    ),
    "role in capitals": (
        {"messages": [{"role": "User", "content": "a"}, ASSISTANT]},
        "`messages[0].role` is `User`, not `system`, `user` or `assistant`", "write `user`",
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "a"}, USER, ASSISTANT]},
        "`messages[0].role` is `developer`, not `system`, `user` or `assistant`", "write `system`",
    ),
    "strange role": (
        {"messages": [USER, {"role": "x" * 60, "content": "b"}]},
        f"`messages[1].role` is `{'x' * 39}…`, not `system`, `user` or `assistant`", None,
    ),
    "role number": (
        {"messages": [USER, {"role": 1, "content": "b"}]}, "`messages[1].role` is a number, not text", None,
    ),
    "no role": (
        {"messages": [USER, {"rol": "assistant", "content": "b"}]}, "`messages[1].role` is missing",
        "a similar key exists: `rol`",
    ),
    "no content": ({"messages": [USER, {"role": "assistant"}]}, "`messages[1].content` is missing", None),
    "text for content": (
        {"messages": [USER, {"role": "assistant", "text": "b"}]}, "`messages[1].content` is missing",
        "a similar key exists: `text`",
    ),
    "content null": (
        {"messages": [USER, {"role": "assistant", "content": None}]}, "`messages[1].content` is null, not text", None,
    ),
    "content number": (
        {"messages": [USER, {"role": "assistant", "content": 4}]}, "`messages[1].content` is a number, not text", None,
    ),
    "content empty": (
        {"messages": [USER, ASSISTANT, USER, {"role": "assistant", "content": ""}]},
        "`messages[3].content` is empty", None,
    ),
    "content white": (
        {"messages": [USER, {"role": "assistant", "content": " "}]},
        "`messages[1].content` is only white space", None,
    ),
    "no parts": ({"messages": [USER, {"role": "assistant", "content": []}]}, "`messages[1].content` is empty", None),
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ASSISTANT]},
        "`messages[0].content[0]` is of type `image_url`", TEXT,
    ),
    "bare part": (
        {"messages": [{"role": "user", "content": ["a"]}, ASSISTANT]},
        "`messages[0].content[0]` is text, not an object", 'a part is `{"type": "text", …}`',
    ),
    "part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}, ASSISTANT]},
        "`messages[0].content[0].text` is null, not text", None,
    ),
    "half a character in a turn": (
        {"messages": [USER, {"role": "assistant", "content": "\udc00"}]},
        "`messages[1].content` has half of a character at position 1: `\\udc00`",
        "an escape of this kind means something only with its other half",
    ),
    "tool calls": (
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}]},
        "`messages[1]` has `tool_calls`", TOOLS,
    ),
    "tool result": (
        {"messages": [USER, ASSISTANT, {"role": "tool", "content": "4"}]}, "`messages[2].role` is `tool`", TOOLS,
    ),
    "tools": (
        {"messages": [USER, ASSISTANT], "tools": [{"type": "function"}]},
        "the row has `tools`, which this task does not show to the model", TOOLS,
    ),
    "weight": (
        {"messages": [USER, {**ASSISTANT, "weight": 0}]}, "`messages[1].weight` is `0`, which is not followed",
        "`dataset.learn` picks the turns to learn",
    ),
    "reasoning": (
        {"messages": [USER, {**ASSISTANT, "reasoning_content": "Hm"}]},
        "`messages[1]` has `reasoning_content`, which would be lost", REASONING,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_used_says_why(name: str) -> None:
    values, message, hint = BROKEN[name]
    assert told(values) == [(message, hint)]


def test_all_problems_of_a_row_are_told() -> None:
    messages = [{"role": "human", "content": ""}, USER, {"role": "assistant", "content": 3, "weight": 0.5}]
    assert [message for message, _ in told({"messages": messages})] == [
        "`messages[0].role` is `human`, not `system`, `user` or `assistant`",
        "`messages[0].content` is empty",
        "`messages[2].weight` is `0.5`, which is not followed",
        "`messages[2].content` is a number, not text",
    ]
    assert [message for message, _ in told({"prompt": 1, "completion": ""})] == [
        "`prompt` is a number, not text",
        "`completion` is empty",
    ]


def test_a_row_of_another_format_than_its_source_names_both() -> None:
    hint = "give rows of each format a source of their own"
    assert told({"messages": [USER, ASSISTANT]}, "prompt_completion") == [
        ("the row is in format `messages`, and its source in `prompt_completion`", hint)
    ]
    assert told({"prompt": "a", "completion": "b"}, "messages") == [
        ("the row is in format `prompt_completion`, and its source in `messages`", hint)
    ]


def test_columns_that_a_named_format_lacks_are_told_together() -> None:
    assert told({"question": "a", "answer": "b"}, "prompt_completion") == [
        (
            "missing columns `prompt`, `completion`; the row has `question`, `answer`",
            "if these columns hold it, set `columns: {prompt: question, completion: answer}`",
        )
    ]


def test_a_problem_of_a_table_has_the_number_and_the_values_of_its_row() -> None:
    found = formats.read(Row({"prompt": "é", "completion": b"x"}, TablePlace("data.parquet", 12)))
    assert isinstance(found, list) and len(found) == 1
    assert found[0].message == "`completion` is of type `bytes`, not text"
    assert str(found[0].place) == "data.parquet row 12"
    assert found[0].place is not None and found[0].place.text == '{"prompt": "é", "completion": "b\'x\'"}'


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
KEYS = st.sampled_from(["role", "content", "from", "type", "text", "weight", "tool_calls", "x"])
WORDS = st.sampled_from(["user", "assistant", "system", "tool", "text", "", " ", "\ud800", "[", '[{"role": "user"}]'])
ANYTHING = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=500, deadline=None)
@given(
    values=st.dictionaries(st.sampled_from(["prompt", "completion", "messages", "tools", "text", ""]), ANYTHING),
    source_format=st.sampled_from(["auto", "prompt_completion", "messages"]),
)
def test_any_row_gives_an_example_or_problems(values: dict[str, Any], source_format: str) -> None:
    found = formats.read(Row(values, TablePlace("data.parquet", 1)), source_format)
    if isinstance(found, list):
        assert found and all(problem.message and problem.place for problem in found)
    elif isinstance(found, Instruction):
        assert found.prompt.strip() and found.completion.strip()
        (found.prompt + found.completion).encode()
    else:
        assert {"user", "assistant"} <= {message.role for message in found.messages} <= set(formats.ROLES)
        assert all(message.content.strip() for message in found.messages if message.role != "system")


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"Prompt": "a", "Completion": "b"}, "set `columns: {prompt: Prompt, completion: Completion}`"),
        ({"prompt": "a", " completion": "b"}, 'set `columns: {completion: " completion"}`'),
        ({"data": [{"prompt": "a", "completion": "b"}]}, "the list in `data`, save that list alone"),
    ],
)
def test_the_hint_names_where_the_columns_are(values: dict[str, Any], hint: str) -> None:
    ((_, said),) = told(values)
    assert said is not None and said.endswith(hint)
