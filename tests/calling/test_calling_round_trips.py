"""A conversation with tools, written in each format, reads back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from calling_rows import chat, chosen
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.examples import Call, Chat, Message

ARGUMENTS = ("a", "b c", "é")
TOOL = {
    "name": "look up",
    "description": "[x](y) {z}",
    "parameters": {"type": "object", "properties": {name: {} for name in ARGUMENTS}, "required": []},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
# text that no format takes for a mark of its own, without white space at its ends
WORDS = st.text("ab é\n.,'\"\\{}", min_size=1, max_size=20).map(str.strip).filter(bool)
CALLS = st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, max_size=3).map(
    lambda given: Call(TOOL["name"], json.dumps(given, ensure_ascii=False))  # type: ignore[arg-type]
)
ROUNDS = st.lists(st.tuples(WORDS, st.lists(CALLS, max_size=3), WORDS | st.just(""), WORDS), min_size=1, max_size=3)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Rounds of a question, calls, an answer for each call, and an answer of the model."""
    messages = [Message("system", draw(WORDS))] if draw(st.booleans()) else []
    for question, calls, before, answer in draw(ROUNDS):
        messages.append(Message("user", question))
        if calls:
            messages.append(Message("assistant", before, tuple(calls)))
            messages += [Message("tool", draw(WORDS)) for _ in calls]
        messages.append(Message("assistant", answer))
    wrapped = {"type": "function", "function": TOOL}
    return Chat(tuple(messages), (json.dumps(wrapped, ensure_ascii=False),))


def bare() -> str:
    return json.dumps([TOOL])


def openai(given: Chat, as_objects: bool = False) -> dict[str, Any]:
    messages = []
    for message in given.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": json.loads(call.arguments) if as_objects else call.arguments,
                    },
                }
                for call in message.calls
            ]
        messages.append(turn)
    return {"messages": messages, "tools": [json.loads(tool) for tool in given.tools]}


def predibase(given: Chat) -> dict[str, Any]:
    return openai(given, as_objects=True)


def call_text(call: Call) -> str:
    return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'


def turns(given: Chat, names: dict[str, str], one_by_one: bool) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for message in given.messages:
        if message.content or not message.calls:
            found.append((names[message.role], message.content))
        texts = [call_text(call) for call in message.calls]
        if texts and not one_by_one:
            texts = [f"[{', '.join(texts)}]"]
        found += [(names["call"], text) for text in texts]
    return found


def swift(given: Chat) -> dict[str, Any]:
    names = {"system": "system", "user": "user", "assistant": "assistant", "call": "tool_call", "tool": "tool_response"}
    spoken = [{"role": who, "content": text} for who, text in turns(given, names, one_by_one=True)]
    return {"messages": spoken, "tools": bare()}


def sharegpt(given: Chat) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt", "call": "function_call", "tool": "observation"}
    spoken = [{"from": who, "value": text} for who, text in turns(given, names, one_by_one=False)]
    return {"conversations": spoken, "tools": bare()}


def hermes(given: Chat) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
    spoken = []
    block = f"<tools>\n{bare()}\n</tools>"
    if given.messages[0].role != "system":
        spoken.append({"from": "system", "value": block})
    for message in given.messages:
        text = message.content
        if message.calls:
            written = "\n".join(f"<tool_call>\n{call_text(call)}\n</tool_call>" for call in message.calls)
            text = f"{text}\n{written}"
        if message.role == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>"
        if message.role == "system":
            text = f"{text}\nHere are the available tools: {block}"
        spoken.append({"from": names[message.role], "value": text})
    return {"conversations": spoken}


def glaive(given: Chat) -> dict[str, Any]:
    names = {"user": "USER", "assistant": "ASSISTANT", "tool": "FUNCTION RESPONSE"}
    chat_text, system = "", ""
    for message in given.messages:
        if message.role == "system":
            system = f"{message.content}\n"
            continue
        calls = "".join(
            f'<functioncall> {{"name": {json.dumps(call.name)}, "arguments": \'{call.arguments}\'}} '
            for call in message.calls
        )
        ends = " <|endoftext|>" if message.role == "assistant" else ""
        chat_text += f"{names[message.role]}: {message.content} {calls}{ends}\n\n\n"
    # the first brace of the text is where its functions begin
    kept = system.replace("{", "(")
    return {"system": f"SYSTEM: {kept}{json.dumps(TOOL)}", "chat": chat_text}


def without_braces(given: Chat) -> Chat:
    """The conversation as Glaive's system text can hold it."""
    first, *rest = given.messages
    if first.role == "system":
        first = Message("system", first.content.replace("{", "("))
    return Chat((first, *rest), given.tools)


WRITERS: dict[str, Callable[[Chat], dict[str, Any]]] = {
    "openai": openai,
    "predibase": predibase,
    "sharegpt": sharegpt,
    "swift": swift,
    "hermes": hermes,
    "glaive": glaive,
}


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None)
@given(given=chats())
def test_a_conversation_reads_back(name: str, given: Chat) -> None:
    expected = without_braces(given) if name == "glaive" else given
    values = WRITERS[name](expected)
    assert chat(values, name) == expected
    assert chat(json.loads(json.dumps(values)), name) == expected


@settings(deadline=None)
@given(chats())
def test_a_format_tells_itself(given: Chat) -> None:
    has_calls = any(message.calls for message in given.messages)
    for name, write in WRITERS.items():
        values = write(without_braces(given))
        found = chosen(values)
        assert found == name or (not has_calls and (name, found) in {("predibase", "openai"), ("swift", "openai")})
        assert chat(values) == chat(values, name)


@settings(deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=3), WORDS)
def test_xlam_and_toolace_hold_one_answer(calls: list[Call], question: str) -> None:
    answers = "[" + ", ".join(map(call_text, calls)) + "]"
    found = chat({"query": question, "tools": bare(), "answers": answers})
    assert found.messages == (Message("user", question), Message("assistant", "", tuple(calls)))
    pairs = [(call.name, json.loads(call.arguments)) for call in calls]
    text = ", ".join(
        f"{name}({', '.join(f'{key}={json.dumps(value)}' for key, value in given.items())})" for name, given in pairs
    )
    spoken = [{"from": "user", "value": question}, {"from": "assistant", "value": f"[{text}]"}]
    found = chat({"system": f"Functions: {bare()}", "conversations": spoken})
    assert [(call.name, json.loads(call.arguments)) for call in found.messages[2].calls] == pairs
