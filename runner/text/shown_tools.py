"""Tools and arguments as the model is shown them: the texts in them, and the proof that the tools stand in a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner.data import strict_json
from runner.data.examples import Chat
from runner.text import marks, rendering, turns
from runner.text.rendering import EDIT_ROW, Refused
from runner.text.turns import OTHER_TEMPLATE


def texts(written: str, what: str) -> Iterator[str]:
    """Every text in a JSON text, keys included, without its escapes. Raises `Refused` where it is no JSON."""
    try:
        yield from _texts(strict_json.Decoder().whole(written))
    except strict_json.Invalid as error:
        raise Refused(f"{what} cannot be read: {error.message}", error.hint or EDIT_ROW) from None


def places(text: str, chat: Chat, tokenizer: Any) -> list[int]:
    """Where the text of a conversation names its tools and their parameters, as positions of characters.

    The names are marked for it: a name alone may stand in the text because a message says it. Raises `Refused`
    unless the text shows all of them.
    """
    if not chat.tools:
        return []
    first = marks.alphabet([text, *chat.tools])
    if first is None:
        raise Refused("the row uses every private-use character that its tools could be marked with", EDIT_ROW)
    names: list[str] = []
    tools = tuple(
        json.dumps(_marked(rendering.value(tool, f"tool {number}"), names, first), ensure_ascii=False)
        for number, tool in enumerate(chat.tools, 1)
    )
    shown = marks.read(turns.apply(replace(chat, tools=tools), tokenizer), first)
    for number, name in enumerate(names):
        if number not in shown.calls:
            raise Refused(f"the chat template does not show the tools of the row: `{name}` is missing", OTHER_TEMPLATE)
    if shown.plain != text:
        raise Refused("the chat template writes a conversation otherwise where its tools have other names")
    return [place for found in shown.calls.values() for place in found]


def _marked(tool: Any, names: list[str], first: int) -> Any:
    """The tool with a mark in its name and in those of its parameters, each with its place in `names`."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refused('a tool is no `{"type": "function", "function": {"name": …}}`')
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None

    def marked(name: str) -> str:
        names.append(name)
        return marks.mark_name(name, len(names) - 1, first)

    changed = function | {"name": marked(function["name"])}
    if isinstance(parameters, dict) and isinstance(properties, dict):
        renamed = {key: marked(key) for key in properties}
        changed["parameters"] = parameters | {"properties": {renamed[key]: each for key, each in properties.items()}}
        required = parameters.get("required")
        if isinstance(required, list):  # templates look their parameters up in it
            changed["parameters"]["required"] = [
                renamed.get(key, key) if isinstance(key, str) else key for key in required
            ]
    return tool | {"function": changed}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
