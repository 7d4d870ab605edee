"""Whatever stands in a row, it is a conversation or it is told what is wrong with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from calling_rows import row, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calling_round_trips import WRITERS

from runner.data.calling import formats
from runner.data.examples import Call, Chat, Message
from runner.data.rows import Row
from runner.errors import Place

CHAT = Chat(
    (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", "Both.", (Call("look up", '{"a": [1, {"x": "y"}]}'), Call("look up", "{}"))),
        Message("tool", "1"),
        Message("tool", "2"),
        Message("assistant", "ok"),
    ),
    (tool({"name": "look up", "parameters": {"type": "object", "properties": {"a": {}}}}),),
)
XLAM = {
    "query": "q",
    "tools": [{"name": "f", "parameters": {"a": {"type": "List[int]", "default": 1}}}],
    "answers": [{"name": "f", "arguments": {"a": [1]}}],
}
TOOLACE = {
    "system": 'Functions: [{"name": "f g", "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}}}].',
    "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "[f g(a=1.0), f g()]"}],
}
ROWS: dict[str, dict[str, Any]] = {name: write(CHAT) for name, write in WRITERS.items()}
ROWS |= {"xlam": XLAM, "toolace": TOOLACE}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10) | st.just(b"x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
PIECES = st.sampled_from(
    ["<tool_call>", "</tool_call>", "<tools>", "[", "]", "{", "}", "'", '"', "\\", ",", "(", ")", "=", "\n", "USER:",
     "<|endoftext|>", "<functioncall>", "\ud800", "NaN", "\x00"]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from places(below, (*path, key))


def put(values: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    block: Any = changed
    for part in path[:-1]:
        block = block[part]
    block[path[-1]] = value
    return changed


def check(values: dict[str, Any], source_format: str) -> None:
    for named in (source_format, "calls"):
        found = formats.read(Row(values, Place("data.jsonl", 7), raw="{}"), named)
        if isinstance(found, Chat):
            for message in found.messages:
                assert all(isinstance(json.loads(call.arguments), dict) for call in message.calls)
                texts = [each for call in message.calls for each in (call.name, call.arguments, call.id)]
                "".join([message.content, message.call_id, message.name, *texts]).encode()
            for each in found.tools:
                assert json.loads(each)["function"]["name"] and each.encode()
        else:
            assert found and all(problem.message and problem.place for problem in found)


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_are_sound(name: str) -> None:
    assert isinstance(formats.read(row(ROWS[name]), name), Chat)


@pytest.mark.parametrize("name", ROWS)
@settings(deadline=None)
@given(data=st.data())
def test_a_value_of_a_row_may_be_anything(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(places(ROWS[name]))))
    check(put(ROWS[name], path, data.draw(ANYTHING)), name)


@pytest.mark.parametrize("name", ROWS)
@settings(deadline=None)
@given(data=st.data())
def test_a_text_of_a_row_may_be_cut_and_filled(name: str, data: st.DataObject) -> None:
    texts = []
    for path in places(ROWS[name]):
        value: Any = ROWS[name]
        for part in path:
            value = value[part]
        if isinstance(value, str) and value:
            texts.append((path, value))
    path, text = data.draw(st.sampled_from(texts))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    check(put(ROWS[name], path, text[:start] + data.draw(PIECES | st.just("")) + text[end:]), name)
