"""Definitions of tools in every spelling in, canonical JSON text out, or what is wrong with them.

A tool is `{"type": "function", "function": {…}}`, or the function alone. Keys that are null are left out, and type
names become those of JSON Schema; all else of the function is kept, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner.data import strict_json
from runner.data.calling import nodes, schema_types
from runner.data.calling.conversation import Tool, missing, short
from runner.data.calling.nodes import At, Node
from runner.data.formats import Fault

Parameters = Callable[[dict[str, Any], str], tuple[Any, list[Fault]]]
A_TOOL = 'a tool is an object: `{"name": …, "description": …, "parameters": …}`'
A_LIST = "write a list, also of a single tool: `[{…}]`"
ONE_NAME = "nobody could tell which of them a call means: rename one, or take one away"
OTHER_PARAMETERS = ("input_schema", "inputSchema", "parameter", "args")


def of_column(
    value: Any, path: str, parameters: Parameters = schema_types.normalised
) -> tuple[list[Tool], list[Fault]]:
    """The tools of a column: a list, or JSON text of one. Nothing is no tools."""
    if value is None or value == "":
        return [], []
    node = nodes.of_column(value, path)
    if not isinstance(node, Node):
        return [], [node]
    if not isinstance(node.value, list):
        hint = A_LIST if isinstance(node.value, dict) else None
        return [], [(f"`{path}` is {strict_json.kind(node.value)}, not a list of tools", hint)]
    return of_nodes(Node(node.value, node.at).items(), parameters)


def of_nodes(given: Sequence[Node], parameters: Parameters = schema_types.normalised) -> tuple[list[Tool], list[Fault]]:
    """The tools of a list's items. `parameters` turns what a tool says of its parameters into JSON Schema."""
    tools: list[Tool] = []
    faults: list[Fault] = []
    for node in given:
        read = _tool(Node(node.value, node.at), parameters)  # its spelling is not kept, and takes time to find
        if not isinstance(read, Tool):
            faults += read
            continue
        if any(read.name == other.name for other in tools):
            faults.append((f"{read.at} is the second tool with the name `{short(read.name)}`", ONE_NAME))
        tools.append(read)
    return tools, faults


def _tool(node: Node, parameters: Parameters) -> Tool | list[Fault]:
    if isinstance(node.value, str):
        written = nodes.of_text(node.value, node.at)
        if not isinstance(written, Node) and not node.value.lstrip().startswith(("{", "[")):
            return [(f"{node.at} is the text `{short(node.value)}`, not a tool", A_TOOL)]
        if not isinstance(written, Node):
            return [written]
        node = Node(written.value, node.at)
    at = node.at
    if not isinstance(node.value, dict):
        return [(f"{at} is {strict_json.kind(node.value)}, not an object", None)]
    function, faults = _function(node)
    if function is None:
        return faults
    values = {key: value for key, value in function.value.items() if value is not None}
    name = values.get("name")
    if "name" not in values:
        faults.append(missing(function, "name"))
    elif not isinstance(name, str) or not name.strip():
        what = f"{strict_json.kind(name)}, not text" if not isinstance(name, str) else "empty"
        faults.append((f"{_key(function.at, 'name')} is {what}", None))
    other = next((key for key in OTHER_PARAMETERS if key in values), None)
    if other is not None and "parameters" not in values:
        faults.append((f"{function.at} has `{other}` in place of `parameters`", "rename it `parameters`"))
    schema: Any = {}
    if "parameters" in values:
        schema, wrong = _parameters(values["parameters"], function.at, parameters)
        faults += wrong
        values["parameters"] = schema
    try:
        text = nodes.dumped({"type": "function", "function": values})
        text.encode()
    except UnicodeEncodeError:
        faults.append((f"{at} has half of a character", None))
    except (TypeError, ValueError):
        faults.append((f"{at} holds a value that JSON has not", None))
    return faults or Tool(str(name), text, schema, at)


def _function(node: Node) -> tuple[Node | None, list[Fault]]:
    """The function of a tool that has a wrapper, or the tool itself; and what is wrong around it."""
    members = node.members()
    kind = members.get("type")
    if "function" not in members:
        if kind is None:
            return node, []
        if kind.value != "function":
            hint = "only functions can be called" if "name" not in members else None
            return None, [(f"{kind.at} is `{short(kind.value)}`, not `function`", hint)]
        return Node({key: value for key, value in node.value.items() if key != "type"}, node.at), []
    function = members["function"]
    faults: list[Fault] = []
    if kind is not None and kind.value != "function":
        faults.append((f"{kind.at} is `{short(kind.value)}`, not `function`", "only functions can be called"))
    for key in members.keys() - {"type", "function"}:
        faults.append((f"{node.at} has `{short(key)}` beside `function`, which would be lost", None))
    if not isinstance(function.value, dict):
        return None, [*faults, (f"{function.at} is {strict_json.kind(function.value)}, not an object", None)]
    return function, faults


def _parameters(given: Any, at: At, parameters: Parameters) -> tuple[Any, list[Fault]]:
    where = f"{at.path}.parameters" if at.start is None else "parameters"
    if not isinstance(given, dict):
        return {}, [(f"{_key(at, 'parameters')} is {strict_json.kind(given)}, not an object", None)]
    schema, faults = parameters(given, where)
    if at.start is not None:
        faults = [(f"{at}: {message}", hint) for message, hint in faults]
    kind = schema.get("type")
    if not faults and schema and kind != "object":
        what = f"has the type `{short(kind)}`, not `object`" if kind is not None else "has no `type`"
        faults.append((f"{_key(at, 'parameters')} {what}", 'arguments are an object: `"type": "object"`'))
    return schema, faults


def _key(at: At, key: str) -> str:
    return f"`{at.path}.{key}`" if at.start is None else f"{at}: `{key}`"
