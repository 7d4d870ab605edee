"""Conversations with tools, and templates that can show them: each one's syntax of calls on our small tokenizer.

Qwen's, Llama's and LFM2's are those that TRL ships; the others are in the shape of what models have.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from families import HEADERS, LLAMA, THINKING, shipped

from runner import chat_templates
from runner.data.examples import Call, Chat, Message

# Tools stand before the last question, arguments are objects, and ids must have nine characters.
MISTRAL = (
    "{{ bos_token }}{% set at = namespace(last=0) %}"
    "{% for message in messages if message.role == 'user' %}{% set at.last = messages.index(message) %}{% endfor %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}"
    "{% if tools and loop.index0 == at.last %}"
    "{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + message.content + '[/INST]' }}"
    "{% elif message.role == 'tool' %}"
    "{% if message.tool_call_id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{{ \'[TOOL_RESULTS] {"content": \' + message.content + \', "call_id": "\' + message.tool_call_id }}'
    "{{ '\"}[/TOOL_RESULTS]' }}"
    "{% elif message.tool_calls %}{{ '[TOOL_CALLS] [' }}"
    "{% for call in message.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{{ \'{"name": "\' + call.function.name + \'", "arguments": \' + call.function.arguments | tojson }}'
    "{{ ', \"id\": \"' + call.id + '\"}' }}{{ ', ' if not loop.last else ']' + eos_token }}"
    "{% endfor %}"
    "{% elif message.role == 'system' %}{{ '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}"
    "{% endfor %}"
)

# A name and its arguments, which may be text, behind a sign of their own for each call.
MISTRAL_NEWER = (
    "{{ bos_token }}"
    "{% if tools %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}"
    "{% elif message.role == 'system' %}{{ '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}"
    "{% elif message.role == 'tool' %}{{ '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}"
    "{% else %}{{ message.content }}"
    "{% for call in message.tool_calls %}{{ '[TOOL_CALLS]' + call.function.name + '[ARGS]' }}"
    "{{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}"
    "{% endfor %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)

CHATML_BEGIN = (
    "{{ '<|im_start|>system\n' + (messages[0].content + '\n\n' if messages[0].role == 'system' else '') }}"
    "{% if tools %}{{ 'Tools:\n' }}{% for tool in tools %}{{ tool | tojson + '\n' }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% for message in messages if message.role != 'system' %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content }}"
)
CHATML_END = "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

# Values are bare text, as Qwen3-Coder has them.
CODER = (
    CHATML_BEGIN + "{% for call in message.tool_calls %}"
    "{{ '\n<tool_call>\n<function=' + call.function.name + '>\n' }}"
    "{% for name, value in call.function.arguments | items %}"
    "{{ '<parameter=' + name + '>\n' }}"
    "{% if value is mapping or (value is sequence and value is not string) %}{{ value | tojson }}"
    "{% else %}{{ value | string }}{% endif %}{{ '\n</parameter>\n' }}"
    "{% endfor %}{{ '</function>\n</tool_call>' }}{% endfor %}" + CHATML_END
)

# A list of Python calls, bare, as Llama 4 writes it.
PYTHONIC = (
    CHATML_BEGIN + "{% if message.tool_calls %}{{ '\n[' if message.content else '[' }}"
    "{% for call in message.tool_calls %}"
    "{{ call.function.name + '(' }}{% for name, value in call.function.arguments | items %}"
    "{{ name + '=' + value | tojson }}{{ ', ' if not loop.last }}{% endfor %}{{ ')' }}{{ ', ' if not loop.last }}"
    "{% endfor %}{{ ']' }}{% endif %}" + CHATML_END
)

# Texts joined: an object in place of the arguments is an error.
JOINING = (
    CHATML_BEGIN + "{% for call in message.tool_calls %}"
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' + call.function.arguments }}'
    "{{ '}</tool_call>' }}{% endfor %}" + CHATML_END
)

SYNTAXES = {
    "hermes": "hermes",
    "qwen2_5": "hermes",
    "qwen3": "hermes",
    "joining": "hermes",
    "llama3_1": "llama",
    "mistral": "mistral",
    "mistral_newer": "mistral",
    "coder": "xml",
    "pythonic": "pythonic",
    "lfm2": "pythonic",
}
BRACKETS = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
PYTHON_TAGS = ("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_list_start|>", "<|tool_list_end|>")
CALL_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")  # added, and not special, in Qwen


def calling_tokenizer(family: str, dressed: Callable[..., Any]) -> Any:
    """The test tokenizer with a template that shows tools."""
    if family == "llama3_1":
        return dressed(shipped(family), HEADERS, **LLAMA)
    if family == "lfm2":
        return dressed(shipped("lfm2_v2"), PYTHON_TAGS, bos_token="<|startoftext|>")
    if family.startswith("qwen"):
        return dressed(shipped(family), added=(*THINKING, *CALL_TAGS))
    if family.startswith("mistral"):
        template = MISTRAL if family == "mistral" else MISTRAL_NEWER
        return dressed(template, BRACKETS, bos_token="<s>", eos_token="</s>")
    return dressed(
        {"coder": CODER, "pythonic": PYTHONIC, "joining": JOINING}.get(family) or chat_templates.text(family)
    )


def tool(name: str, **types: str) -> str:
    """A tool whose parameters have these types."""
    properties = {key: {"type": each, "description": f"The {key}."} for key, each in types.items()}
    function = {
        "name": name,
        "description": f"Does `{name}`.",
        "parameters": {"type": "object", "properties": properties, "required": list(types)},
    }
    return json.dumps({"type": "function", "function": function})


WEATHER, CLOCK = tool("get_weather", city="string", days="integer"), tool("get_time", zone="string")
TOOLS = (WEATHER, CLOCK)
SYSTEM, ASKED = Message("system", "Be brief."), Message("user", "What is the weather in Zürich?")
BERN = Call("get_weather", '{"city": "Bern", "days": 2}', "call_a")
ZURICH = Call("get_weather", '{"city": "Zürich \\"north\\"", "days": 1}', "call_b")
TIME = Call("get_time", '{"zone": "CET"}', "call_c")

ONE = Chat((SYSTEM, ASKED, Message("assistant", "", (ZURICH,))), TOOLS)
ANSWERED = Chat(
    (*ONE.messages, Message("tool", '{"sky": "blue"}', (), "call_b"), Message("assistant", "It is fine.")), TOOLS
)
TWICE = Chat(
    (*ANSWERED.messages, Message("user", "And in Bern?"), Message("assistant", "", (BERN,)), Message("tool", "17 °C")),
    TOOLS,
)
PARALLEL = Chat(
    (
        ASKED,
        Message("assistant", "", (BERN, TIME)),
        Message("tool", "17 °C", (), "call_a"),
        Message("tool", "12:00", (), "call_c"),
        Message("assistant", "17 °C at noon."),
    ),
    TOOLS,
)
SAYING = Chat((ASKED, Message("assistant", "Let me see.", (TIME,))), TOOLS)
