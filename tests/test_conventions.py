"""What a template makes of calls, found by trying: its syntax, its arguments, its ids; and templates that cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from calling_families import ASKED, BERN, CODER, JOINING, MISTRAL, ONE, PARALLEL, SYNTAXES, TIME, calling_tokenizer
from families import HEADERS, THINKING, shipped
from test_templates import CHATML

from runner.data.examples import Call, Chat, Message
from runner.errors import RecipeError
from runner.text import conventions, rendering, templates
from runner.text.conventions import Convention

HERMES_HINT = "take one that shows tools and calls: `model.chat_template: hermes`"
MODEL_HINT = (
    "take a model that was trained to call tools, such as Qwen 2.5 or 3, Llama 3.1 or Mistral 7B v0.3, "
    "or write a template of your own: `model.chat_template: template.jinja`"
)


@pytest.mark.parametrize("family", SYNTAXES)
def test_each_template_is_given_what_it_takes(family: str, dressed: Callable[..., Any]) -> None:
    expected = Convention(SYNTAXES[family], arguments_as_text=family == "joining", nine=family == "mistral")
    assert conventions.of(calling_tokenizer(family, dressed)) == expected


def test_the_templates_that_ship_with_trl_and_call_tools_are_known(dressed: Callable[..., Any]) -> None:
    known = {
        "qwen3_instruct_2507": "hermes", "qwen3_vl": "hermes", "llama3_2": "llama", "qwen3_5_think": "xml",
        "nemotron_3_nano": "xml", "lfm2_2_5": "pythonic",
    }  # fmt: skip
    for name, syntax in known.items():
        assert conventions.of(dressed(shipped(name), (*THINKING, *HEADERS))).syntax == syntax, name


def refusal(tokenizer: Any, example: Chat = ONE) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as caught:
        templates.render(example, tokenizer, "completions", use_template=True)
    (problem,) = caught.value.problems
    return problem.message, problem.hint


def test_a_template_without_tools_is_a_fault_of_the_recipe(tokenizer: Any, dressed: Callable[..., Any]) -> None:
    assert refusal(tokenizer) == ("the model's chat template does not show tools to the model", HERMES_HINT)
    assert refusal(dressed(shipped("llama3"), bos_token="<s>"))[1] == HERMES_HINT
    with pytest.raises(RecipeError, match="does not show tools"):
        templates.prompt(ONE, tokenizer, use_template=True)


def test_tools_that_are_named_but_not_described_are_not_shown(dressed: Callable[..., Any]) -> None:
    names = "{% for tool in tools %}{{ tool.function.name + ' ' }}{% endfor %}"
    assert "does not show tools" in refusal(dressed(names + CHATML))[0]


@pytest.mark.parametrize(
    "calls",
    [
        "",
        "{% if message.tool_calls %}{{ message.tool_calls[0].function.name }}{% endif %}",
        "{% for call in message.tool_calls %}<tool_call>{{ call.function | tojson | upper }}</tool_call>{% endfor %}",
        "{% if message.tool_calls %}<tool_call>{{ {'name': 'f', 'arguments': {}} | tojson }}</tool_call>{% endif %}",
    ],
)
def test_a_template_that_drops_or_changes_calls_is_a_fault_of_the_recipe(
    calls: str, dressed: Callable[..., Any]
) -> None:
    begin, end = CODER.split("{% for call in message.tool_calls %}")[0], CODER[CODER.rindex("{{ '<|im_end|>") :]
    assert refusal(dressed(begin + calls + end)) == (
        "the model's chat template drops calls, or writes them in no known syntax",
        HERMES_HINT,
    )


def test_a_template_that_refuses_every_call_says_why(dressed: Callable[..., Any]) -> None:
    template = CODER.replace("{% for call in", "{{ raise_exception('no calls here') }}{% for call in")
    message, _ = refusal(dressed("{% if not tools %}" + CHATML + "{% else %}" + template + "{% endif %}"))
    assert message.endswith("the chat template refuses the conversation: no calls here")


def test_a_tokenizer_that_cannot_have_our_template_is_not_sent_to_it(tokenizer: Any) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a")))
    other.eos_token = "</s>"
    other.chat_template = "{% for message in messages %}{{ message.content }}</s>{% endfor %}"
    assert refusal(other)[1] == MODEL_HINT


def test_a_template_is_tried_once_and_again_when_it_changes(dressed: Callable[..., Any]) -> None:
    tokenizer = calling_tokenizer("coder", dressed)
    found = conventions.of(tokenizer)
    assert conventions.of(tokenizer) is found
    tokenizer.chat_template = JOINING
    assert conventions.of(tokenizer) == Convention("hermes", arguments_as_text=True, nine=False)


def test_one_call_at_a_time_is_a_matter_of_the_row(dressed: Callable[..., Any]) -> None:
    llama = calling_tokenizer("llama3_1", dressed)
    assert templates.render(ONE, llama, "completions", use_template=True)
    with pytest.raises(templates.Refused, match="only supports single tool-calls at once"):
        templates.render(PARALLEL, llama, "completions", use_template=True)


# ids


def ids(messages: tuple[Message, ...], nine: bool) -> tuple[list[str], list[str]]:
    """The ids of the calls, and those that the answers name."""
    paired = rendering.paired(messages, nine)
    return (
        [call.id for message in paired for call in message.calls],
        [message.call_id for message in paired if message.role == "tool"],
    )


def test_ids_that_the_template_takes_are_kept() -> None:
    assert ids(PARALLEL.messages, nine=False) == (["call_a", "call_c"], ["call_a", "call_c"])


def test_ids_of_another_form_are_replaced_and_stay_paired() -> None:
    swapped = (*PARALLEL.messages[:2], PARALLEL.messages[3], PARALLEL.messages[2])
    assert ids(swapped, nine=True) == (["000000001", "000000002"], ["000000002", "000000001"])
    kept = Call("get_weather", "{}", "000000001")
    messages = (ASKED, Message("assistant", "", (kept, TIME)), Message("tool", "x", (), "call_c"))
    assert ids(messages, nine=True) == (["000000001", "000000002"], ["000000002"])


def test_missing_ids_are_made_and_answers_find_their_calls() -> None:
    bare = [Call(call.name, call.arguments) for call in (BERN, TIME, BERN)]
    messages = (
        ASKED, Message("assistant", "", tuple(bare)), Message("tool", "12:00", name="get_time"), Message("tool", "1"),
        Message("tool", "2"), Message("tool", "3"), Message("assistant", "", (bare[1],)), Message("tool", "4"),
    )  # fmt: skip
    made, named = ids(messages, nine=False)
    assert made == ["call_1", "call_2", "call_3", "call_4"]
    assert named == ["call_2", "call_1", "call_3", "", "call_4"]
    assert [message.name for message in rendering.paired(messages, False) if message.role == "tool"] == [
        "get_time", "get_weather", "get_weather", "", "get_time",
    ]  # fmt: skip


def test_the_beginning_of_a_conversation_has_the_ids_of_the_whole() -> None:
    messages = PARALLEL.messages + PARALLEL.messages
    for nine in (True, False):
        whole = rendering.paired(messages, nine)
        for end in range(len(messages)):
            assert rendering.paired(messages[:end], nine) == whole[:end]


def test_an_answer_to_no_call_is_left_to_the_template(dressed: Callable[..., Any]) -> None:
    mistral = calling_tokenizer("mistral", dressed)
    assert mistral.chat_template == MISTRAL
    lost = Chat((*ONE.messages, Message("tool", "x", (), "call_z"), Message("assistant", "A")), ONE.tools)
    with pytest.raises(templates.Refused, match="ids have nine characters"):
        templates.render(lost, mistral, "completions", use_template=True)
