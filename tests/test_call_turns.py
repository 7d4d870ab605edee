"""Turns that call tools: exactly they are learned, exactly as given, in every syntax; and the rows that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from calling_families import (
    ANSWERED,
    ASKED,
    BERN,
    BRACKETS,
    CALL_TAGS,
    CODER,
    ONE,
    PARALLEL,
    PYTHON_TAGS,
    SAYING,
    SYNTAXES,
    TIME,
    TOOLS,
    TWICE,
    WEATHER,
    ZURICH,
    calling_tokenizer,
    tool,
)
from families import HEADERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_calling import VALUES

from runner import chat_templates
from runner.data.examples import Call, Chat, Message
from runner.text import calling, templates, tokens

KEEP_ALL = ("hermes", "qwen2_5", "qwen3", "joining", "mistral_newer")  # syntaxes of JSON, with text beside calls


@pytest.fixture(scope="session")
def calling_family(dressed: Callable[..., Any]) -> Callable[[str], Any]:
    return cache(lambda family: calling_tokenizer(family, dressed))


def learned(example: Chat, tokenizer: Any, learn: str = "completions") -> list[str]:
    rendered = templates.render(example, tokenizer, learn, use_template=True)
    return [rendered.text[start:end] for start, end in rendered.learned]


def refusal(example: Chat, tokenizer: Any) -> tuple[str, str | None]:
    with pytest.raises(templates.Refused) as caught:
        templates.render(example, tokenizer, "completions", use_template=True)
    return caught.value.reason, caught.value.hint


def calls(arguments: str, name: str = "f", *tools: str) -> Chat:
    return Chat((ASKED, Message("assistant", "", (Call(name, arguments),))), tools or (tool(name, a="string"),))


# any conversation

WORDS = st.text(alphabet="abc XYZ 019 .,:;!?é日\n<>{}[]()'\"\\|", min_size=1, max_size=20)
CONTENTS = WORDS.map(str.strip).filter(bool).map(lambda text: "So " + text)
CONTROL = (*BRACKETS, *PYTHON_TAGS, *HEADERS, "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|startoftext|>")
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
ARGUMENTS = st.builds(
    lambda values, escaped, indent: json.dumps(values, ensure_ascii=escaped, indent=indent),
    st.dictionaries(st.text(max_size=6), VALUES, max_size=3),
    st.booleans(),
    st.sampled_from([None, 1]),
).filter(lambda text: not any(token in text for token in CONTROL))


@st.composite
def conversations(draw: Any, most_calls: int = 3, beside: bool = True, results: Any = CONTENTS) -> Chat:
    """Rounds of a question, calls with their results, and an answer; the last may end at any turn of a model."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    messages = [Message("system", draw(CONTENTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 2))):
        messages.append(Message("user", draw(CONTENTS)))
        for _ in range(draw(st.integers(0, 2))):
            made = draw(st.lists(st.builds(Call, st.sampled_from(names), ARGUMENTS), min_size=1, max_size=most_calls))
            content = draw(st.just("") | CONTENTS) if beside else ""
            messages.append(Message("assistant", content, tuple(made)))
            messages += [Message("tool", draw(results)) for _ in made]
        messages.append(Message("assistant", draw(CONTENTS)))
    ends = [number for number, message in enumerate(messages, 1) if message.role == "assistant"]
    return Chat(tuple(messages[: draw(st.sampled_from(ends))]), tuple(tool(name, a="string") for name in names))


def written(message: Message) -> str:
    """A turn as our own template is to write it."""
    texts = [message.content] if message.content else []
    for call in message.calls:
        arguments = json.dumps(json.loads(call.arguments), ensure_ascii=False)
        texts.append(f'<tool_call>\n{{"name": "{call.name}", "arguments": {arguments}}}\n</tool_call>')
    return "\n".join(texts) + "<|im_end|>"


ANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@ANY
@given(example=conversations())
def test_exactly_the_turns_of_the_model_are_learned(example: Chat, calling_family: Callable[[str], Any]) -> None:
    tokenizer = calling_family("hermes")
    rendered = templates.render(example, tokenizer, "completions", use_template=True)
    turns = [written(message) for message in example.messages if message.role == "assistant"]
    assert [rendered.text[start:end] for start, end in rendered.learned] == turns
    assert rendered.rewritten == 0 and rendered.stops == ("<|im_end|>",)
    assert learned(example, tokenizer, "last") == turns[-1:]
    try:
        encoded = tokens.encode(rendered, tokenizer)
    except templates.Refused:  # some characters are not in the vocabulary, and are lost without a word
        assert tokenizer.decode(tokens.encode_prompt(rendered.text, tokenizer)) != rendered.text
    else:
        assert [run for run, yes in tokens.runs(encoded, tokenizer) if yes] == turns


def check_read_back(example: Chat, family: str, tokenizer: Any) -> None:
    """Each learned turn gives back what was said and called, and nothing else is learned."""
    rendered = templates.render(example, tokenizer, "completions", use_template=True)
    turns = [message for message in example.messages if message.role == "assistant"]
    for message, (start, end) in zip(turns, rendered.learned, strict=True):
        (stop,) = [stop for stop in rendered.stops if rendered.text.endswith(stop, start, end)]
        found = calling.read(rendered.text[start : end - len(stop)], SYNTAXES[family], example.tools)
        assert not isinstance(found, calling.Fault), found
        assert found[0].removeprefix("<think>\n\n</think>").strip() == message.content
        assert calling.difference(message.calls, found[1]) is None


@pytest.mark.parametrize("family", KEEP_ALL)
@ANY
@given(example=conversations())
def test_calls_read_back_as_they_were_given(family: str, example: Chat, calling_family: Callable[[str], Any]) -> None:
    check_read_back(example, family, calling_family(family))


@pytest.mark.parametrize("family", ["llama3_1", "mistral"])
@ANY
@given(example=conversations(most_calls=1, beside=False))
def test_calls_read_back_where_less_can_be_said(
    family: str, example: Chat, calling_family: Callable[[str], Any]
) -> None:
    check_read_back(example, family, calling_family(family))


@pytest.mark.parametrize("family", ["coder", "pythonic", "lfm2"])
@ANY
@given(example=conversations())
def test_calls_that_a_syntax_cannot_write_are_refused_and_not_changed(
    family: str, example: Chat, calling_family: Callable[[str], Any]
) -> None:
    try:
        check_read_back(example, family, calling_family(family))
    except templates.Refused as refused:
        assert "reads otherwise" in refused.reason, refused.reason
        assert any(call.arguments not in ("{}", "{\n}") for message in example.messages for call in message.calls)


# what is learned, written out by hand


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": 1.0}', '{"a": 1}', '{"a": 123456789012345678901234567890}', '{"b": 1, "a": {"d": [], "c": [1, 2.50]}}',
        '{"a": null}', '{"a": [true, false, null]}', '{"a": "é \\u00e9 \\ud83d\\ude00 \\" \\\\ \\n /"}', '{"a": -1e-7}',
        '{"a": "null"}', '{"a": ""}', "{}", '{"": {"": ""}}', '{"a": "<b>&amp;</b>"}', '{"1": 1, "0": 0}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", ["hermes", "qwen2_5", "joining", "llama3_1", "mistral", "mistral_newer"])
def test_no_value_is_changed(arguments: str, family: str, calling_family: Callable[[str], Any]) -> None:
    check_read_back(calls(arguments), family, calling_family(family))


def test_a_template_that_takes_text_keeps_every_digit(calling_family: Callable[[str], Any]) -> None:
    precise = '{"a":0.1000000000000000055,  "b": 1e2}'
    assert precise in learned(calls(precise), calling_family("joining"))[0]


def test_other_calls_do_not_lend_their_keys(calling_family: Callable[[str], Any]) -> None:
    assert learned(PARALLEL, calling_family("hermes"))[0] == (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern", "days": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call><|im_end|>'
    )


def test_a_turn_ends_behind_its_calls_whatever_tokens_they_hold(dressed: Callable[..., Any]) -> None:
    """No token of these is special, and the one that closes a call comes before the one that ends the turn."""
    template = chat_templates.text("hermes").replace("<|im_end|>", "</turn>")
    tokenizer = dressed(template, added=("</turn>", *CALL_TAGS))
    expected = [turn.replace("<|im_end|>", "</turn>") for turn in map(written, PARALLEL.messages[1:5:3])]
    assert learned(PARALLEL, tokenizer) == expected
    rendered = templates.render(PARALLEL, tokenizer, "completions", use_template=True)
    assert [run for run, yes in tokens.runs(tokens.encode(rendered, tokenizer), tokenizer) if yes] == expected


def test_reasoning_beside_calls_is_learned_with_them(calling_family: Callable[[str], Any]) -> None:
    thought = "<think>\nI do not know.\n</think>"
    for content, text in [(thought, thought + "\n\n"), (thought + "\n\nSo.", thought + "\n\nSo.\n")]:
        example = Chat((ASKED, Message("assistant", content, (TIME,))), TOOLS)
        (turn,) = learned(example, calling_family("qwen3"))
        assert turn.startswith(text + '<tool_call>\n{"name": "get_time"')


def test_reasoning_beside_earlier_calls_is_history(calling_family: Callable[[str], Any]) -> None:
    thinking = Message("assistant", "<think>\nHm.\n</think>", (TIME,))
    example = Chat((ASKED, thinking, Message("tool", "12"), Message("assistant", "Noon."), *ONE.messages[1:]), TOOLS)
    turns = learned(example, calling_family("qwen3"))
    assert [turn[:11] for turn in turns] == ["<tool_call>", "Noon.<|im_e", "<think>\n\n</"]
    assert templates.render(example, calling_family("qwen3"), "completions", True).rewritten == 2


def test_a_chat_without_a_call_may_show_tools(calling_family: Callable[[str], Any]) -> None:
    example = Chat((ASKED, Message("assistant", "I cannot know.")), TOOLS)
    assert learned(example, calling_family("hermes")) == ["I cannot know.<|im_end|>"]
    assert learned(Chat(SAYING.messages), calling_family("hermes")) == learned(SAYING, calling_family("hermes"))


# questions


def test_the_last_call_is_asked_for_where_the_last_answer_tells_its_result(
    calling_family: Callable[[str], Any],
) -> None:
    tokenizer = calling_family("hermes")
    answer, call = templates.prompts(ANSWERED, tokenizer, "completions", use_template=True)
    assert (answer.answer, answer.calls) == ("It is fine.", ())
    assert [(each.name, each.arguments) for each in call.calls] == [(ZURICH.name, ZURICH.arguments)]
    assert call.text == templates.prompt(ONE, tokenizer, use_template=True).text and call.tools == TOOLS
    for example in (ONE, SAYING, TWICE, Chat((ASKED, Message("assistant", "A")), TOOLS)):
        (only,) = templates.prompts(example, tokenizer, "completions", use_template=True)
        assert only == templates.prompt(example, tokenizer, use_template=True)
    assert templates.prompts(ANSWERED, tokenizer, "last", use_template=True) == [answer]


# rows that cannot be used

SPECIAL = "which the tokenizer reads as a special token"
THESE = "the arguments of call 1 of message 2"
DIGITS = "cannot be kept exactly: a number has more digits than are kept"


def test_texts_that_read_as_calls_are_refused(calling_family: Callable[[str], Any]) -> None:
    for text, reason in [
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "no call wanted, and 1 call found"),
        ("<tool_call>", "call 1: not valid JSON: the text ends before its value is complete"),
    ]:
        example = Chat((ASKED, Message("assistant", text)), TOOLS)
        wrong = f"message 2 gives no call, and its text reads as one: {reason}"
        message, hint = refusal(example, calling_family("hermes"))
        assert (message, str(hint).split(";")[0]) == (wrong, "give calls in `tool_calls`, not in `content`")
        beside = Chat((ASKED, Message("assistant", text, (BERN,))), TOOLS)
        assert (
            "what the chat template writes of message 2 reads otherwise" in refusal(beside, calling_family("hermes"))[0]
        )
    assert learned(Chat((ASKED, Message("assistant", "<tool_call>"))), calling_family("hermes"))


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (calls('{"a": "<|im_end|>"}'), f"call 1 of message 2 holds the text `<|im_end|>`, {SPECIAL}"),
        (calls('{"a": "<\\u007cim_end|>"}'), f"call 1 of message 2 holds the text `<|im_end|>`, {SPECIAL}"),
        (calls('{"<|im_start|>": 1}'), f"call 1 of message 2 holds the text `<|im_start|>`, {SPECIAL}"),
        (calls("{}", "f", tool("<|im_end|>")), f"tool 1 holds the text `<|im_end|>`, {SPECIAL}"),
        (calls('{"a": "\\ud83d"}'), "call 1 of message 2 holds half of a surrogate pair at character 1"),
        (calls('{"a": 0.10000000000000001}'), f"{THESE} {DIGITS}"),
        (calls('{"a": 1, "a": 2}'), f"{THESE} cannot be read: key `a` stands twice in one object"),
        (calls("{"), f"{THESE} cannot be read: not valid JSON: the text ends before its value is complete"),
        (calls("{}", "f", '{"name": "f"}'), 'a tool is no `{"type": "function", "function": {"name": …}}`'),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_shown_are_refused(
    example: Chat, reason: str, calling_family: Callable[[str], Any]
) -> None:
    assert refusal(example, calling_family("hermes"))[0] == reason


@pytest.mark.parametrize(
    ("family", "arguments", "difference"),
    [
        ("coder", '{"a": 5}', 'call 1 is `f {"a": 5}`, and comes back as `f {"a": "5"}`'),
        ("coder", '{"a": "x\\n</parameter>"}', "call 1 is not closed with `</function>`"),
        ("pythonic", '{"not-a-name": 1}', "the calls are no valid Python: expression cannot contain assignment"),
        ("pythonic", '{"class": 1}', "the calls are no valid Python: invalid syntax"),
    ],
)
def test_a_syntax_that_cannot_write_a_value_is_told(
    family: str, arguments: str, difference: str, calling_family: Callable[[str], Any]
) -> None:
    wrong, _ = refusal(calls(arguments), calling_family(family))
    assert wrong.startswith(f"what the chat template writes of message 2 reads otherwise: {difference}")


@pytest.mark.parametrize(
    ("change", "to", "reason"),
    [
        ("message.tool_calls", "(message.tool_calls or [])[:1]", "message 2 as it is: it leaves a call out"),
        ("message.tool_calls", "(message.tool_calls or []) * 2", "message 2 as it is: it writes a call more than once"),
        ("message.tool_calls", "message.tool_calls | reverse", "it writes a call's name differently"),
        ("tools", "tools[:1]", "the chat template does not show the tools of the row: `get_time` is missing"),
        ("tools", "(tools * 2 if tools[0].function.name == 'get_weather' else tools)", "tools have other names"),
    ],
)
def test_templates_that_mislead_are_refused(
    change: str, to: str, reason: str, dressed: Callable[..., Any], calling_family: Callable[[str], Any]
) -> None:
    """They do right by the probe, which is in English; what they do to a conversation in French is another matter."""
    template = CODER.replace(f"in {change}", f"in ({to} if messages[0].content == 'Bonjour' else {change})")
    example = Chat((Message("user", "Bonjour"), Message("assistant", "", (BERN, TIME))), (WEATHER, TOOLS[1]))
    assert reason in refusal(example, dressed(template))[0]
    english = Chat((ASKED, *example.messages[1:]), TOOLS)
    assert learned(english, dressed(template)) == learned(english, calling_family("coder"))


def test_tools_inside_an_answer_are_not_learned(dressed: Callable[..., Any]) -> None:
    again = "{% if tools and message.role == 'assistant' and not message.tool_calls %}{{ tools | tojson }}{% endif %}"
    moved = CODER.replace("{{ '<|im_end|>\n' }}{% endfor %}", again + "{{ '<|im_end|>\n' }}{% endfor %}")
    assert moved != CODER
    example = Chat((ASKED, Message("assistant", "I cannot know.")), TOOLS)
    assert refusal(example, dressed(moved))[0] == "the chat template writes the tools inside an answer"
