"""Calls written as Python, `[name(key=value), …]`: Llama 4, ToolACE and LFM2. Nothing of it is run.

A turn and the tools in, its content and its calls out; raises `Broken`. Tools are not looked at.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

from runner.data import strict_json
from runner.data.examples import Call
from runner.text.calling.faults import Broken

TAGS = {"<|python_start|>": "<|python_end|>", "<|tool_call_start|>": "<|tool_call_end|>"}
START = re.compile("|".join(map(re.escape, TAGS)) + r"|(?:\A|\n)\s*(?=\[\s*[^\W\d][\w.]*\s*\()")
JSON_NAMES: dict[str, Any] = {"true": True, "false": False, "null": None}
JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


def read(text: str, tools: Sequence[str]) -> tuple[str, list[Call]]:
    """A list of calls by keyword, bare at the beginning of a line or between the tags that some models put round it."""
    start = START.search(text)
    if start is None:
        return text, []
    listed, closing = text[start.end() :].strip(), TAGS.get(start[0], "")
    if closing not in listed:
        raise Broken(f"the calls are not closed with `{closing}`")
    if not listed.endswith(closing):
        raise Broken("text stands behind the calls")
    return text[: start.start()], _calls(listed.removesuffix(closing).strip())


def _calls(text: str) -> list[Call]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes that escape nothing
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise Broken(f"the calls are no valid Python: {reason}") from None
    if not isinstance(tree, ast.List) or not tree.elts:
        raise Broken("the calls are no list")
    return [_call(node, text, number) for number, node in enumerate(tree.elts, 1)]


def _call(node: ast.expr, text: str, number: int) -> Call:
    if not isinstance(node, ast.Call):
        raise Broken(f"entry {number} of the list of calls is no call")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise Broken(f"call {number} has an argument without a name")
    names = [str(keyword.arg) for keyword in node.keywords]
    if len(set(names)) < len(names):
        raise Broken(f"call {number} has an argument twice")
    members = (
        f"{_json(name)}: {_value(keyword.value, text)}" for name, keyword in zip(names, node.keywords, strict=True)
    )
    return Call(_name(node.func, number), "{" + ", ".join(members) + "}")


def _name(node: ast.expr, number: int) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, number)}.{node.attr}"
    raise Broken(f"call {number} has no name")


def _value(node: ast.expr, text: str) -> str:
    """A literal as JSON. Numbers keep their digits where JSON writes them alike."""
    if isinstance(node, ast.List | ast.Tuple):
        return "[" + ", ".join(_value(each, text) for each in node.elts) + "]"
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return "{" + ", ".join(f"{_key(key)}: {_value(each, text)}" for key, each in pairs) + "}"
    if isinstance(node, ast.Name) and node.id in JSON_NAMES:
        return json.dumps(JSON_NAMES[node.id])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand, text)
        if JSON_NUMBER.fullmatch(number) and not number.startswith("-"):
            return "-" + number
    if isinstance(node, ast.Constant):
        return _constant(node, text)
    raise Broken(f"a value is no literal: `{ast.unparse(node)[:40]}`")


def _constant(node: ast.Constant, text: str) -> str:
    value = node.value
    if isinstance(value, str):
        return _json(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        written = ast.get_source_segment(text, node) or ""
        return written if JSON_NUMBER.fullmatch(written) else json.dumps(value)
    raise Broken(f"a value is {strict_json.kind(value)}, which JSON does not have")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _json(node.value)
    raise Broken("a key of an object is no text")


def _json(text: str) -> str:
    # JSON writes some characters as two halves, which Python does not put together.
    return json.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"), ensure_ascii=False)
