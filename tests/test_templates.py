"""Which characters are learned: texts written out by hand, and templates made to mislead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from families import LONG, REASONED, SHORT, chat, tokenizer_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data.examples import Chat, Instruction, Message
from runner.errors import RecipeError
from runner.text import templates, tokens

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def learned(example: Any, tokenizer: Any, learn: str = "completions") -> list[str]:
    rendered = templates.render(example, tokenizer, learn, use_template=True)
    return [rendered.text[start:end] for start, end in rendered.learned]


def reason(example: Any, tokenizer: Any, learn: str = "completions", use_template: bool = True) -> str:
    with pytest.raises(templates.Refused) as caught:
        templates.render(example, tokenizer, learn, use_template)
    return caught.value.reason


def chatml(change: str, to: str) -> str:
    assert change in CHATML
    return CHATML.replace(change, to)


# what is learned, against texts written out here by hand


def test_the_answer_and_its_end_are_learned_and_nothing_else(tokenizer: Any) -> None:
    example = chat("system: S", "user: U", "assistant: A")
    rendered = templates.render(example, tokenizer, "completions", use_template=True)
    before = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert rendered.text == before + "A<|im_end|>\n"
    assert rendered.learned == ((len(before), len(before) + len("A<|im_end|>")),)
    assert rendered.boundaries == (len(before),)
    assert rendered.stops == ("<|im_end|>",)
    assert rendered.rewritten == 0


def test_a_default_system_prompt_is_not_learned(tokenizer: Any) -> None:
    rendered = templates.render(SHORT, tokenizer, "completions", use_template=True)
    assert "SmolLM" in rendered.text
    assert learned(SHORT, tokenizer) == ["4<|im_end|>"]


def test_which_answers_are_learned(tokenizer: Any) -> None:
    example = chat("user: U", "assistant: A", "user: U", "assistant: B", "user: more")
    assert learned(example, tokenizer, "completions") == ["A<|im_end|>", "B<|im_end|>"]
    assert learned(example, tokenizer, "last") == ["B<|im_end|>"]
    whole = templates.render(example, tokenizer, "all", use_template=True)
    assert whole.learned == ((0, len(whole.text)),)


def test_a_prompt_and_completion_through_the_template_are_a_conversation(tokenizer: Any) -> None:
    assert templates.render(Instruction("U", "A"), tokenizer, "completions", True) == templates.render(
        chat("user: U", "assistant: A"), tokenizer, "completions", True
    )


@pytest.mark.parametrize(
    "answers",
    [("same", "same"), ("user", "4"), ("assistant\n", "x"), ("a", "aa"), ("", "x"), ("\n\n", "  "), ("{{ x }}", "{%")],
)
def test_answers_that_look_like_other_text_are_told_apart(answers: tuple[str, str], tokenizer: Any) -> None:
    turns = [Message("user", answers[1]), Message("assistant", answers[0]), Message("user", answers[0])]
    example = Chat((*turns, Message("assistant", answers[1])))
    assert learned(example, tokenizer) == [answer + "<|im_end|>" for answer in answers]


def test_a_very_long_answer(tokenizer: Any) -> None:
    answer = "<b>a</b> " * 50_000
    assert learned(Chat((Message("user", "U"), Message("assistant", answer))), tokenizer) == [answer + "<|im_end|>"]


def test_a_conversation_of_many_turns(tokenizer: Any) -> None:
    turns = tuple(Message(role, f"{role} {number}") for number in range(60) for role in ("user", "assistant"))
    assert learned(Chat(turns), tokenizer) == [f"assistant {number}<|im_end|>" for number in range(60)]


def test_icons_from_the_private_use_planes_do_not_collide_with_marks(tokenizer: Any) -> None:
    answer = "\uf800 \U0010f00a\U0010f000\U0010f00b \U000f0001"
    assert learned(Chat((Message("user", "\U0010f00a1"), Message("assistant", answer))), tokenizer) == [
        answer + "<|im_end|>"
    ]
    everywhere = "\U0010f000\U000ff000\uf800"
    assert "private-use" in reason(chat("user: U", f"assistant: {everywhere}"), tokenizer)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "<think>",
        "</think>a",
        "a<think>b</think>c",
        "<think>x</think>y",
        " <b> ",
        "<|im",
        "end|>",
        "\r\n",
        "\x00",
        "\ufeff",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_any_text_is_learned_to_the_letter(contents: list[tuple[str, str]], tokenizer: Any) -> None:
    turns = [turn for asked, answer in contents for turn in (Message("user", asked), Message("assistant", answer))]
    rendered = templates.render(Chat(tuple(turns)), tokenizer, "completions", use_template=True)
    answers = [answer + "<|im_end|>" for _, answer in contents]
    assert [rendered.text[start:end] for start, end in rendered.learned] == answers
    try:
        encoded = tokens.encode(rendered, tokenizer)
    except templates.Refused:  # some control characters are not in the vocabulary, and are lost without a word
        assert tokenizer.decode(tokens.encode_prompt(rendered.text, tokenizer)) != rendered.text
    else:
        assert [run for run, yes in tokens.runs(encoded, tokenizer) if yes] == answers


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_any_text_is_learned_as_a_trimming_template_gives_it(
    contents: list[tuple[str, str]], tokenizer: Any, llama: Any
) -> None:
    turns = [turn for asked, answer in contents for turn in (Message("user", asked), Message("assistant", answer))]
    answers = [answer.strip() + "<|eot_id|>" for _, answer in contents]
    try:
        assert learned(Chat(tuple(turns)), llama) == answers
    except templates.Refused as refused:
        assert any(answer and not answer.strip() for _, answer in contents), refused.reason  # nothing is left of it


@pytest.fixture(scope="session")
def llama(tokenizer: Any, dressed: Callable[..., Any]) -> Any:
    return tokenizer_of("llama3", tokenizer, dressed)


# templates that do something to answers


REFUSING = {
    "content twice": (
        chatml("message.content", "message.content + message.content"),
        "does not give back the answer of message 2 as it is: it writes it more than once",
    ),
    "upper case": (chatml("message.content", "message.content | upper"), "does not give back the answer of message 2"),
    "cut short": (chatml("message.content", "message.content[:9]"), "does not give back the answer of message 2"),
    "no content": (chatml("message.content", "'fixed'"), "it leaves it out"),
    "no end of turn": (chatml("<|im_end|>\n' }}", "\n' }}"), "the model would never learn to stop"),
    "end only behind the last turn": (
        chatml("+ '<|im_end|>\n' }}", "+ ('<|im_end|>\n' if loop.last or message.role == 'user' else '\n') }}"),
        "ends message 2 with `<|im_end|>` only where nothing follows it",
    ),
    "no generation prompt": (
        chatml("{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", ""),
        "has no generation prompt: a server would not write `<|im_start|>assistant\\n`",
    ),
    "another generation prompt": (
        chatml("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>bot\n' }}"),
        "asks for an answer in one way and shows it in another: the prompt for message 2 ends with",
    ),
    "the question again in the answer": (
        chatml(
            "message.content",
            "((loop.previtem.content + ': ') if message.role == 'assistant' else '') + message.content",
        ),
        "writes message 1 inside the answer of message 2",
    ),
    "raises": ("{{ raise_exception('roles must alternate') }}", "refuses the conversation: roles must alternate"),
    "a fault in the template": ("{{ messages[0].content + 1 }}", "refuses the conversation: "),
}


@pytest.mark.parametrize("case", REFUSING)
def test_a_template_that_cannot_be_proved_is_refused(case: str, dressed: Callable[..., Any]) -> None:
    template, expected = REFUSING[case]
    example = chat("user: a longer question", "assistant: a longer answer", "user: more", "assistant: still more")
    assert expected in reason(example, dressed(template))


def test_a_system_message_that_a_template_does_not_take_is_refused(tokenizer: Any, dressed: Callable[..., Any]) -> None:
    gemma = tokenizer_of("gemma", tokenizer, dressed)
    assert reason(LONG, gemma) == "the chat template refuses the conversation: System role not supported"


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("message.content", "message.content | trim", "x  y<|im_end|>"),
        ("+ message.content", "+ ' ' + message.content + ' '", "   x  y \n <|im_end|>"),
        ("<|im_start|>' + message.role", "<|im_start|>' + strftime_now('%H:%M') + message.role", "  x  y \n<|im_end|>"),
        ("{% for", "{{ messages[0].content }}{% for", "  x  y \n<|im_end|>"),
    ],
)
def test_harmless_habits_of_templates(change: str, to: str, expected: str, dressed: Callable[..., Any]) -> None:
    template = chatml(change, to)
    if "strftime" in to:
        template = template.replace(
            "'<|im_start|>assistant\n'", "'<|im_start|>' + strftime_now('%H:%M') + 'assistant\n'"
        )
    example = Chat((Message("user", "U"), Message("assistant", "  x  y \n")))
    assert learned(example, dressed(template)) == [expected]


def test_a_clock_in_the_template_is_told(tokenizer: Any, dressed: Callable[..., Any]) -> None:
    assert templates.reads_clock(tokenizer_of("llama3_2", tokenizer, dressed))
    assert not templates.reads_clock(tokenizer)


def test_an_end_of_turn_that_is_an_added_token_but_not_marked_special(dressed: Callable[..., Any]) -> None:
    other = dressed(CHATML.replace("<|im_end|>", "</turn>"), added=("</turn>",))
    assert learned(SHORT, other) == ["4</turn>"]


def test_a_template_that_behaves_otherwise_for_some_contents(dressed: Callable[..., Any]) -> None:
    """An empty system message is left out, which marking must not undo; and one content decides about another."""
    template = "{% for message in messages if message.content %}" + CHATML.split("%}", 1)[1]
    assert learned(chat("system: ", "user: U", "assistant: A"), dressed(template)) == ["A<|im_end|>"]
    template = "{% if messages[0].content == 'magic' %}{{ 'Hocus.' }}{% endif %}" + CHATML
    assert learned(chat("user: magic", "assistant: A"), dressed(template)) == ["A<|im_end|>"]


def test_an_answer_that_opens_the_conversation(dressed: Callable[..., Any], tokenizer: Any) -> None:
    example = chat("assistant: Welcome", "user: U", "assistant: A")
    assert learned(example, tokenizer) == ["Welcome<|im_end|>", "A<|im_end|>"]
    with pytest.raises(templates.Refused, match="nothing to ask"):
        templates.prompt(chat("assistant: Welcome", "user: U"), tokenizer, use_template=True)


def test_a_template_that_moves_the_system_message_to_the_last_question(
    tokenizer: Any, dressed: Callable[..., Any]
) -> None:
    """Then the first prompt is not a beginning of the text, and the answer is found behind the question."""
    mistral = tokenizer_of("mistral", tokenizer, dressed)
    example = chat("system: S", "user: 1", "assistant: a", "user: 2", "assistant: b")
    rendered = templates.render(example, mistral, "completions", use_template=True)
    assert rendered.text == "<s>[INST] 1 [/INST] a</s>[INST] S\n\n2 [/INST] b</s>"
    assert [rendered.text[start:end] for start, end in rendered.learned] == [" a</s>", " b</s>"]
    assert rendered.rewritten == 1


# reasoning


def test_reasoning_is_learned_in_the_last_answer_and_is_history_before(
    tokenizer: Any, dressed: Callable[..., Any]
) -> None:
    qwen = tokenizer_of("qwen3", tokenizer, dressed)
    assert learned(REASONED, qwen) == ["First.<|im_end|>", "<think>\nTwo.\n</think>\n\nSecond.<|im_end|>"]
    assert templates.render(REASONED, qwen, "completions", use_template=True).rewritten == 1
    assert templates.render(REASONED, qwen, "last", use_template=True).rewritten == 0


def test_reasoning_that_a_template_loses_is_refused(dressed: Callable[..., Any]) -> None:
    template = chatml("message.content", "message.content.split('</think>')[-1]")
    assert "leaves out the reasoning of the last answer (message 4)" in reason(REASONED, dressed(template), "last")


def test_text_before_the_reasoning_is_not_lost_in_silence(tokenizer: Any, dressed: Callable[..., Any]) -> None:
    qwen = tokenizer_of("qwen3", tokenizer, dressed)
    assert "does not give back" in reason(chat("user: U", "assistant: Well. <think>\nOne.\n</think>\n\nFirst."), qwen)


def test_a_prompt_that_opens_the_reasoning(dressed: Callable[..., Any]) -> None:
    template = chatml("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
    thinker = dressed(template, added=("<think>", "</think>"))
    assert learned(REASONED, thinker, "last") == ["Two.\n</think>\n\nSecond.<|im_end|>"]
    with pytest.raises(templates.Refused) as caught:
        templates.render(SHORT, thinker, "last", use_template=True)
    assert caught.value.hint is not None and "write reasoning into the answer" in caught.value.hint


def test_reasoning_that_a_template_does_not_know_of_is_refused(dressed: Callable[..., Any]) -> None:
    template = chatml(
        "message.content", "('<think>\n\n</think>\n\n' if message.role == 'assistant' else '') + message.content"
    )
    assert learned(SHORT, dressed(template)) == ["<think>\n\n</think>\n\n4<|im_end|>"]
    assert "empty reasoning in front of the reasoning of message 2" in reason(REASONED, dressed(template))


def test_reasoning_between_special_tokens_is_an_answers_alone(dressed: Callable[..., Any]) -> None:
    thinker = dressed(CHATML, special=("<think>", "</think>"))
    answers = [message.content + "<|im_end|>" for message in REASONED.messages if message.role == "assistant"]
    assert learned(REASONED, thinker) == answers
    assert "message 1 (`user`) holds the text `<think>`" in reason(chat("user: <think>", "assistant: A"), thinker)


# rows that cannot be used


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_special_tokens_in_a_message_are_refused_by_name(role: str, tokenizer: Any) -> None:
    turns = [Message("system", "S"), Message("user", "U"), Message("assistant", "A")]
    number = [turn.role for turn in turns].index(role)
    turns[number] = Message(role, "fine <|im_end|>\n<|im_start|>system\nnot fine")
    found = reason(Chat(tuple(turns)), tokenizer)
    assert (
        found
        == f"message {number + 1} (`{role}`) holds the text `<|im_end|>`, which the tokenizer reads as a special token"
    )
    with pytest.raises(templates.Refused, match="holds the text `<|im_end|>`"):
        templates.prompt(Chat(tuple(turns)), tokenizer, use_template=True)


def test_parts_of_special_tokens_are_text(tokenizer: Any) -> None:
    assert learned(chat("user: <|im_", "assistant: end|> <|im_end >"), tokenizer) == ["end|> <|im_end ><|im_end|>"]


def test_half_a_surrogate_pair_is_refused(tokenizer: Any) -> None:
    assert reason(chat("user: U", "assistant: ab\ud83d"), tokenizer) == (
        "message 2 (`assistant`) holds half of a surrogate pair at character 3"
    )


def test_a_conversation_without_answer_or_message_is_refused(tokenizer: Any) -> None:
    assert "no `assistant` message" in reason(chat("user: U"), tokenizer)
    assert "no message" in reason(Chat(()), tokenizer)
    whole = templates.render(chat("user: U"), tokenizer, "all", use_template=True)
    assert whole.learned == ((0, len(whole.text)),)


def test_a_conversation_needs_a_template(tokenizer: Any, dressed: Callable[..., Any]) -> None:
    assert "`dataset.apply_chat_template` is off" in reason(SHORT, tokenizer, use_template=False)
    with pytest.raises(RecipeError, match="no chat template"):
        templates.render(SHORT, dressed(None), "completions", use_template=True)
    with pytest.raises(RecipeError, match="not valid Jinja: line 2"):
        templates.render(SHORT, dressed("\n{% for %}"), "completions", use_template=True)


# prompts


def test_messages_behind_the_last_answer_are_no_part_of_the_prompt(tokenizer: Any) -> None:
    example = chat("user: U", "assistant: A", "user: more")
    assert templates.prompt(example, tokenizer, True) == templates.prompt(
        chat("user: U", "assistant: A"), tokenizer, True
    )
