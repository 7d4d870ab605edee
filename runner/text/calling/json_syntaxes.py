"""Calls that are JSON objects of a name and arguments: as Hermes and Qwen, Mistral, and Llama 3 write them.

A turn and the tools in, its content and its calls out; raises `Broken`. Tools are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.data import strict_json
from runner.data.examples import Call
from runner.text.calling.faults import Broken

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MISTRAL = "[TOOL_CALLS]"
MISTRAL_CALL = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*([^\s\[\]{}]*)\s*)?\[ARGS\]")
# A bare object is a call if its first key is one of a call, and it stands at the beginning of a line.
LLAMA_CALL = re.compile(r'<\|python_tag\|>|(?:\A|\n)\s*(?=\{\s*"(?:type|id|name|parameters|arguments)"\s*:)')
KEYS = ("name", "arguments", "parameters", "id", "type")


def hermes(text: str, tools: Sequence[str]) -> tuple[str, list[Call]]:
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`, one after another."""
    content, tag, rest = text.partition(OPEN)
    if CLOSE in content:
        raise Broken(f"`{CLOSE}` stands before any `{OPEN}`")
    calls: list[Call] = []
    position = 0
    while tag:
        call, position = _call(rest, position, len(calls) + 1)
        calls.append(call)
        position = _expect(rest, position, CLOSE, "a call is not closed with")
        position = strict_json.skip_space(rest, position)
        if position == len(rest):
            break
        position = _expect(rest, position, OPEN, "text stands behind a call, where only another may stand, with")
    return content, calls


def mistral(text: str, tools: Sequence[str]) -> tuple[str, list[Call]]:
    """`[TOOL_CALLS] [{"name": …, "arguments": …}, …]`, or `[TOOL_CALLS]name[ARGS]{…}`, one after another."""
    content, tag, rest = text.partition(MISTRAL)
    if not tag:
        return content, []
    start = strict_json.skip_space(rest, 0)
    if rest.startswith("[", start):
        calls, position = _list(rest, start)
    else:
        calls, position = [], 0
        while not calls or rest.startswith(MISTRAL, position):
            position += len(MISTRAL) if calls else 0
            head = MISTRAL_CALL.match(rest, position)
            if head is None:
                raise Broken(f"`{MISTRAL}` is followed by neither a list nor a name and `[ARGS]`")
            start = strict_json.skip_space(rest, head.end())
            _, _, position = _object(rest, start, "what stands behind `[ARGS]`")
            calls.append(Call(head[1], rest[start:position], head[2] or ""))
            position = strict_json.skip_space(rest, position)
    if rest[position:].strip():
        raise Broken("text stands behind the calls")
    return content, calls


def llama(text: str, tools: Sequence[str]) -> tuple[str, list[Call]]:
    """`{"name": …, "parameters": …}`, behind `<|python_tag|>` or bare, separated by `;` or white space."""
    start = LLAMA_CALL.search(text)
    if start is None:
        return text, []
    content, rest = text[: start.start()], text[start.end() :]
    calls: list[Call] = []
    position = 0
    while True:
        call, position = _call(rest, position, len(calls) + 1)
        calls.append(call)
        position = strict_json.skip_space(rest, position)
        if rest.startswith(";", position):
            position = strict_json.skip_space(rest, position + 1)
        if position == len(rest):
            return content, calls
        if not rest.startswith("{", position):
            raise Broken("text stands behind a call")


def _list(text: str, start: int) -> tuple[list[Call], int]:
    """The calls of a JSON list that starts at a character, and the character after it."""
    calls: list[Call] = []
    position = start + 1
    while True:
        call, position = _call(text, position, len(calls) + 1)
        calls.append(call)
        position = strict_json.skip_space(text, position)
        if text.startswith("]", position):
            return calls, position + 1
        position = _expect(text, position, ",", "the list of calls goes on without")


def _call(text: str, position: int, number: int) -> tuple[Call, int]:
    """The call that is the next object at or after a character, and the character after it."""
    start = strict_json.skip_space(text, position)
    values, texts, end = _object(text, start, f"call {number}")
    unknown = next((key for key in values if key not in KEYS), None)
    if unknown is not None:
        raise Broken(f"call {number} has a key `{unknown}`, which is none of a call")
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise Broken(f"call {number} has no `name`")
    given = [key for key in ("arguments", "parameters") if key in values]
    if len(given) != 1:
        raise Broken(f"call {number} has {'both `arguments` and `parameters`' if given else 'no `arguments`'}")
    if not isinstance(values[given[0]], dict):
        raise Broken(f"`{given[0]}` of call {number} is {strict_json.kind(values[given[0]])}, not an object")
    identity = values.get("id")
    return Call(name, texts[given[0]], identity if isinstance(identity, str) else ""), end


def _object(text: str, start: int, what: str) -> tuple[dict[str, object], dict[str, str], int]:
    """The values of a JSON object and the text of each, and the character after the object."""
    decoder = strict_json.Decoder()
    try:
        value, end, fault = decoder.value(text, start)
    except strict_json.Invalid as error:
        raise Broken(f"{what}: {error.message}") from None
    if fault is not None:
        raise Broken(f"{what}: {fault}")
    if not isinstance(value, dict):
        raise Broken(f"{what} is {strict_json.kind(value)}, not an object")
    texts: dict[str, str] = {}
    position = strict_json.skip_space(text, start + 1)
    while len(texts) < len(value):
        key, position, _ = decoder.value(text, position)
        position = strict_json.skip_space(text, text.index(":", position) + 1)
        _, after, _ = decoder.value(text, position)
        texts[key] = text[position:after]
        position = strict_json.skip_space(text, strict_json.skip_space(text, after) + 1)  # behind the comma
    return value, texts, end


def _expect(text: str, position: int, sign: str, complaint: str) -> int:
    position = strict_json.skip_space(text, position)
    if not text.startswith(sign, position):
        raise Broken(f"{complaint} `{sign}`")
    return position + len(sign)
