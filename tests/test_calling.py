"""Calls read from what a model wrote: each syntax, each way to break one, and JSON that is neither lost nor changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_families import tool
from hypothesis import given
from hypothesis import strategies as st

from runner.data.examples import Call
from runner.text import calling
from runner.text.calling import exact

HERMES = '<tool_call>\n{"name": "f", "arguments": {"a": 1.0}}\n</tool_call>'
CODER = "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>"


def found(text: str, syntax: str, *tools: str) -> tuple[str, list[tuple[str, str]]]:
    outcome = calling.read(text, syntax, tools)
    assert not isinstance(outcome, calling.Fault), outcome.reason
    return outcome[0], [(call.name, call.arguments) for call in outcome[1]]


def fault(text: str, syntax: str) -> str:
    outcome = calling.read(text, syntax)
    assert isinstance(outcome, calling.Fault), outcome
    return outcome.reason


@pytest.mark.parametrize(
    ("syntax", "text", "content", "calls"),
    [
        ("hermes", f"Well.\n{HERMES}", "Well.", [("f", '{"a": 1.0}')]),
        ("hermes", HERMES + '<tool_call>{"arguments": {}, "name": "g"}</tool_call>\n', "", [("f", '{"a": 1.0}'), ("g",
         "{}")]),
        ("hermes", '<tool_call>{"name":"f","arguments":{"b":"}</tool_call>","a" :1}}</tool_call>', "",
         [("f", '{"b":"}</tool_call>","a" :1}')]),
        ("llama", '{"name": "f", "parameters": {"a": {}}}', "", [("f", '{"a": {}}')]),
        ("llama", '{"type": "function", "name": "f", "arguments": {}}; {"name": "g", "parameters": {}}', "",
         [("f", "{}"), ("g", "{}")]),
        ("llama", 'Yes: \n{"name": "f", "parameters": {}}\n{"name": "g", "parameters": {}}', "Yes:",
         [("f", "{}"), ("g", "{}")]),
        ("llama", 'x<|python_tag|>{"name": "f", "parameters": {}};', "x", [("f", "{}")]),
        ("llama", '{"answer": {"name": "f"}}', '{"answer": {"name": "f"}}', []),
        ("mistral", 'x[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "123456789"}]', "x",
         [("f", '{"a": 1}')]),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]', "",
         [("f", "{}"), ("g", "{}")]),
        ("mistral", 'x[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}', "x",
         [("f", '{"a": 1}'), ("g", "{}")]),
        ("pythonic", "[f(a=1.0, b='x', c=[True, null, {'k': -2e5}]), a.b()]", "",
         [("f", '{"a": 1.0, "b": "x", "c": [true, null, {"k": -2e5}]}'), ("a.b", "{}")]),
        ("pythonic", "Well.\n[f(a=(1, 0x10))]", "Well.", [("f", '{"a": [1, 16]}')]),
        ("pythonic", r'[f(a="\ud83d\ude00\d")]', "", [("f", '{"a": "😀\\\\d"}')]),
        ("pythonic", "a<|tool_call_start|>[f()]<|tool_call_end|>", "a", [("f", "{}")]),
        ("pythonic", "[f(a='<|python_start|>')]", "", [("f", '{"a": "<|python_start|>"}')]),
        ("llama", '{"name": "f", "parameters": {"<|python_tag|>": 1}}', "", [("f", '{"<|python_tag|>": 1}')]),
        ("pythonic", "[1] says f(x)", "[1] says f(x)", []),
        ("xml", f"Well.\n{CODER}\n{CODER}", "Well.", [("f", '{"a": "x"}')] * 2),
        ("xml", "<function=f>\n</function>", "", [("f", "{}")]),
        *((syntax, " plain text {1} [2] ", "plain text {1} [2]", []) for syntax in calling.SYNTAXES),
    ],
)  # fmt: skip
def test_a_turn_is_read_as_its_content_and_its_calls(
    syntax: str, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    assert found(text, syntax) == (content, calls)


@pytest.mark.parametrize(
    ("syntax", "text", "reason"),
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": {}}', "a call is not closed with `</tool_call>`"),
        ("hermes", '{"name": "f"}</tool_call>', "`</tool_call>` stands before any `<tool_call>`"),
        ("hermes", HERMES + " so", "text stands behind a call, where only another may stand, with `<tool_call>`"),
        ("hermes", "<tool_call>{'name'", "call 1: not valid JSON: a string is in single quotes"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1',
         "call 1: not valid JSON: the text ends before its value is complete"),
        ("hermes", "<tool_call>[]</tool_call>", "call 1 is a list, not an object"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "call 1 has no `name`"),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "call 1 has no `arguments`"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}, "parameters": {}}',
         "call 1 has both `arguments` and `parameters`"),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{}"}', "`arguments` of call 1 is text, not an object"),
        ("hermes", '<tool_call>{"name": "f", "args": {}}', "call 1 has a key `args`, which is none of a call"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}',
         "call 1: key `a` stands twice in one object"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": NaN}}', "call 1: `NaN` is no JSON number"),
        ("hermes", '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 100_000,
         "call 1: values are nested too deeply"),
        ("llama", '{"name": "f", "parameters": {}} or so', "text stands behind a call"),
        ("llama", '<|python_tag|>print(1)', "call 1: not valid JSON: expecting value"),
        ("mistral", "[TOOL_CALLS] f", "`[TOOL_CALLS]` is followed by neither a list nor a name and `[ARGS]`"),
        ("mistral", "[TOOL_CALLS]f[ARGS]1", "what stands behind `[ARGS]` is a number, not an object"),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {}}', "the list of calls goes on without `,`"),
        ("mistral", '[TOOL_CALLS]f[ARGS]{} so', "text stands behind the calls"),
        ("pythonic", "[f(a=1]",
         "the calls are no valid Python: closing parenthesis ']' does not match opening parenthesis '('"),
        ("pythonic", "[f(1)]", "call 1 has an argument without a name"),
        ("pythonic", "[f(**{})]", "call 1 has an argument without a name"),
        ("pythonic", "[f(a=1, a=2)]", "call 1 has an argument twice"),
        ("pythonic", "[f(a=open('x'))]", "a value is no literal: `open('x')`"),
        ("pythonic", "[f(a=b'x')]", "a value is of type `bytes`, which JSON does not have"),
        ("pythonic", "[f(a={1: 2})]", "a key of an object is no text"),
        ("pythonic", "[f(), 1]", "entry 2 of the list of calls is no call"),
        ("pythonic", "[f(a=" + "[" * 1000, "the calls are no valid Python: too many nested parentheses"),
        ("pythonic", "<|python_start|>[f()]", "the calls are not closed with `<|python_end|>`"),
        ("xml", "<tool_call>f", "call 1 does not begin with `<function=name>`"),
        ("xml", "<function=f>\n<parameter=a>\n1", "call 1 is not closed with `</function>`"),
        ("xml", CODER.removesuffix("</tool_call>"), "call 1 is not closed with `</tool_call>`"),
        ("xml", CODER + " so", "text stands behind a call"),
        ("xml", "a</function>", "a call is closed that was not opened"),
        ("xml", "<function=f><parameter=a>1</parameter><parameter=a>1</parameter></function>",
         "call 1 has the parameter `a` twice"),
    ],
)  # fmt: skip
def test_a_broken_call_is_a_fault_with_its_reason(syntax: str, text: str, reason: str) -> None:
    assert fault(text, syntax) == reason


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("string", "5", '"5"'), ("string", "True", '"True"'), ("string", ' a\n"b"', '" a\\n\\"b\\""'),
        ("integer", "5", "5"), ("integer", "five", '"five"'), ("number", "1.0", "1.0"), ("number", "5", "5"),
        ("integer", "1.5", '"1.5"'), ("boolean", "True", "true"), ("boolean", "false", "false"), ("null", "None",
         "null"),
        ("array", '[1, "a"]', '[1, "a"]'), ("object", '{"b": 1, "a": {}}', '{"b": 1, "a": {}}'),
        ("object", "{'b': 1}", '"{\'b\': 1}"'), ("string", "", '""'),
    ],
)  # fmt: skip
def test_bare_values_have_the_types_of_their_tool(kind: str, written: str, value: str) -> None:
    text = f"<function=f>\n<parameter=a>\n{written}\n</parameter>\n</function>"
    assert found(text, "xml", tool("f", a=kind)) == ("", [("f", f'{{"a": {value}}}')])


def test_types_may_be_several_or_not_said() -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "b": {}}}
    union = json.dumps({"type": "function", "function": {"name": "f", "parameters": schema}})
    for key, written, value in [("a", "null", "null"), ("a", "x", '"x"'), ("b", "7", "7"), ("c", "y", '"y"')]:
        text = f"<function=f>\n<parameter={key}>\n{written}\n</parameter>\n</function>"
        assert found(text, "xml", union) == ("", [("f", f'{{"{key}": {value}}}')])


@given(st.text() | st.text(alphabet="<>[]{}()\"'=,:;/ \nabtol_cfunpr|"), st.sampled_from(sorted(calling.SYNTAXES)))
def test_any_text_is_read_or_is_a_fault(text: str, syntax: str) -> None:
    openings = {
        "hermes": "<tool_call>",
        "mistral": "[TOOL_CALLS]",
        "llama": '{"name": ',
        "pythonic": "[f(",
        "xml": "<function=f>",
    }
    for whole in (text, openings.get(syntax, "<function=f>") + text):
        outcome = calling.read(whole, syntax)
        assert isinstance(outcome, calling.Fault) or outcome[0] in whole


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_json_arguments_come_back_to_the_letter(arguments: dict[str, Any], escaped: bool, indent: int | None) -> None:
    text = json.dumps(arguments, ensure_ascii=escaped, indent=indent)
    wanted = [("f", text), ("g", "{}")]
    hermes = [f'<tool_call>{{"name": "{name}", "arguments": {each}}}</tool_call>' for name, each in wanted]
    assert found("".join(hermes), "hermes") == ("", wanted)
    assert found(f'{{"parameters": {text}, "name": "f"}};{{"name": "g", "parameters": {{}}}}', "llama") == ("", wanted)
    assert found(f"[TOOL_CALLS]f[ARGS]{text}[TOOL_CALLS]g[ARGS]{{}}", "mistral") == ("", wanted)


@pytest.mark.parametrize(
    ("left", "right", "alike"),
    [
        ("1", "1.0", False), ("1", "true", False), ("0", "false", False), ("1e2", "100.0", True), ("0.10", "0.1", True),
        ("0.1000000000000000055", "0.1", False), ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', False),
        ("null", '"null"', False), ('"\\u00e9"', '"é"', True), ("9" * 5000, "9" * 5000 + " ", True),
        ("-0", "0", True), ("[]", "{}", False),
        ("123456789012345678901234567890", "123456789012345678901234567891", False),
    ],
)  # fmt: skip
def test_json_is_the_same_only_if_nothing_is_lost(left: str, right: str, alike: bool) -> None:
    assert exact.same(left, right) is alike


def test_a_difference_between_calls_is_told() -> None:
    one, other = Call("f", '{"a": 1}'), Call("f", '{"a": 1.0}')
    assert calling.difference([one], [Call("f", '{"a":1}', "id")]) is None
    assert calling.difference([one], []) == "1 call wanted, and no call found"
    assert calling.difference([one, one], [one, other]) == 'call 2 is `f {"a": 1}`, and comes back as `f {"a": 1.0}`'
    assert "…" in str(calling.difference([Call("f", '{"a": "' + "x" * 200 + '"}')], [one]))
