"""Examples to full text, and which of its characters the model is to learn.

In: an `Instruction` or a `Chat`, and the model's tokenizer. Out: `Rendered`, the one full text of the
row with its learned spans, or `Refused` with the reason why no mask can be proved. How the answers of a
conversation are found is told in `turns.py`. A prompt and completion without a template need no
search: the completion and the end-of-sequence token are learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from runner.data.examples import Call, Chat, Instruction, Message, Question
from runner.errors import Problem, RecipeError
from runner.text import conventions, marks, rendering, shown_tools, special_tokens, turns
from runner.text.rendering import ANSWERER, EDIT_ROW, Refused

__all__ = ["Prompt", "Refused", "Rendered", "prompt", "prompts", "question", "reads_clock", "render"]


@dataclass(frozen=True)
class Rendered:
    """The full text of a row. All positions count characters from 0.

    `learned` holds spans (first, one past the last), sorted and disjoint, that each end in a token that
    stops the model, unless all is learned. `boundaries` are the places inside the text where no token may
    reach across, because a server's prompt ends there. `stops` are the tokens that end the learned turns.
    `rewritten` counts learned turns that a server would have asked for in other words, because the template
    renders them otherwise once the conversation goes on.
    """

    text: str
    learned: tuple[tuple[int, int], ...]
    boundaries: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()
    rewritten: int = 0


@dataclass(frozen=True)
class Prompt:
    """What a server would give to the model, special tokens written out, and the answer that the row gives.

    An answer may be a text, calls, or both. `tools` are those that the prompt shows, as in `Chat`.
    """

    text: str
    answer: str
    calls: tuple[Call, ...] = ()
    tools: tuple[str, ...] = ()


def render(example: Instruction | Chat, tokenizer: Any, learn: str, use_template: bool) -> Rendered:
    """The full text of an example, with what is to be learned of it.

    `learn` is `completions` (every answer), `last` (the last answer) or `all` (the whole text).
    Raises `Refused` if this row cannot be used, `RecipeError` if no row can.
    """
    if isinstance(example, Instruction) and not use_template:
        return _plain(example, tokenizer, learn)
    chat = _chat(example, tokenizer, use_template)
    try:
        return _conversation(chat, tokenizer, learn)
    except Refused:
        if not reads_clock(tokenizer):
            raise
        return _conversation(chat, tokenizer, learn)  # the day may have changed between two renders


def prompt(example: Instruction | Chat, tokenizer: Any, use_template: bool) -> Prompt:
    """What a server would be asked for the last answer of an example. Raises as `render` does.

    Its text is the beginning of the text that `render` gives, up to the last learned span, unless the
    template renders earlier messages otherwise once the last answer is there.
    """
    if isinstance(example, Instruction) and not use_template:
        _check_plain(example, tokenizer)
        return Prompt(_plain_prompt(example, tokenizer), example.completion)
    chat = _chat(example, tokenizer, use_template)
    return _asked(chat, turns.answers(chat.messages)[-1], tokenizer)


def prompts(example: Instruction | Chat, tokenizer: Any, learn: str, use_template: bool) -> list[Prompt]:
    """What a server would be asked to see whether a model has learned an example. Raises as `render` does.

    That is the last answer. Where that is a text which tells a tool's result, it says little about calling, so the
    last turn that calls is asked for as well, if that is learned.
    """
    found = [prompt(example, tokenizer, use_template)]
    if isinstance(example, Chat) and not found[0].calls and learn != "last":
        answers = turns.answers(example.messages)
        calling = [number for number in answers if example.messages[number].calls]
        if calling and calling[-1] > 0 and example.messages[answers[-1] - 1].role == "tool":
            found.append(_asked(_chat(example, tokenizer, use_template), calling[-1], tokenizer))
    return found


def _asked(chat: Chat, number: int, tokenizer: Any) -> Prompt:
    if number == 0:
        raise Refused("the conversation opens with its only answer: there is nothing to ask a model")
    answer = chat.messages[number]
    text = turns.apply(turns.beginning(chat, number), tokenizer, generate=True)
    return Prompt(text, answer.content, answer.calls, chat.tools)


def question(example: Question, tokenizer: Any, use_template: bool) -> str:
    """What a server would give to the model for a bare prompt, special tokens written out. Raises as `render` does."""
    if use_template or not isinstance(example.prompt, str):
        return turns.apply(_chat(example, tokenizer, use_template), tokenizer, generate=True)
    _check_characters(example.prompt, "the prompt")
    return _started(example.prompt, tokenizer)


def reads_clock(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template can write today's date, so that tomorrow's text may differ."""
    return "strftime_now" in str(tokenizer.chat_template)


def _plain(example: Instruction, tokenizer: Any, learn: str) -> Rendered:
    end = _check_plain(example, tokenizer)
    before = _plain_prompt(example, tokenizer)
    text = before + example.completion
    if not example.completion.endswith(end):
        text += end
    learned = (0, len(text)) if learn == "all" else (len(before), len(text))
    return Rendered(text, (learned,), _inside(text, [len(before)]), (end,))


def _plain_prompt(example: Instruction, tokenizer: Any) -> str:
    return _started(example.prompt, tokenizer)


def _started(prompt: str, tokenizer: Any) -> str:
    start = special_tokens.of(tokenizer).start or ""
    return prompt if prompt.startswith(start) else start + prompt


def _check_plain(example: Instruction, tokenizer: Any) -> str:
    """Special tokens may stand in a prompt, where templates are written by hand, and at the end of a completion."""
    special = special_tokens.of(tokenizer)
    if special.end is None:
        raise RecipeError(
            Problem(
                "the model's tokenizer has no end-of-sequence token, so the model would never learn to stop",
                hint="use the model's chat template: `dataset.apply_chat_template: true`",
            )
        )
    _check_characters(example.prompt, "the prompt")
    _check_characters(example.completion, "the completion")
    found = [(token.end(), token[0]) for token in special.control.finditer(example.completion)]
    ending = len(example.completion)
    for end, token in reversed(found):
        if end != ending:
            raise Refused(f"the completion holds the special token `{token}` before its end", EDIT_ROW)
        ending -= len(token)
    return special.end


def _chat(example: Instruction | Chat | Question, tokenizer: Any, use_template: bool) -> Chat:
    """An example as a conversation that the template can be given, with nothing in it that would be misread."""
    if not use_template:
        raise Refused(
            "the row is a conversation, and `dataset.apply_chat_template` is off",
            "turn it on, or give the row as `prompt` and `completion`",
        )
    if tokenizer.chat_template is None:
        raise RecipeError(
            Problem(
                "the model's tokenizer has no chat template to render conversations with",
                hint="give one (`model.chat_template: template.jinja`), or train on `prompt` and `completion` "
                "as they are (`dataset.apply_chat_template: false`)",
            )
        )
    if isinstance(example, Instruction):
        chat = Chat((Message("user", example.prompt), Message(ANSWERER, example.completion)))
    elif isinstance(example, Question):
        prompt = example.prompt
        chat = Chat((Message("user", prompt),) if isinstance(prompt, str) else prompt)
    else:
        chat = example
    if not chat.messages:
        raise Refused("the conversation holds no message")
    for what, text, thinks in _texts(chat):
        _check_text(text, what, tokenizer, thinks)
    if turns.calls_tools(chat):
        chat = replace(chat, messages=rendering.paired(chat.messages, conventions.of(tokenizer).nine))
    return chat


def _texts(chat: Chat) -> Iterator[tuple[str, str, bool]]:
    """Every text that is shown to the model, with what it is and whether reasoning may be marked in it."""
    for number, message in enumerate(chat.messages, start=1):
        yield f"message {number} (`{message.role}`)", message.content, message.role == ANSWERER
        yield f"the tool's name in message {number}", message.name, False
        yield f"the id of the call that message {number} answers", message.call_id, False
        for place, call in enumerate(message.calls, start=1):
            what = f"call {place} of message {number}"
            for text in (call.name, call.id, *shown_tools.texts(call.arguments, f"the arguments of {what}")):
                yield what, text, False
    for number, tool in enumerate(chat.tools, start=1):
        for text in shown_tools.texts(tool, f"tool {number}"):
            yield f"tool {number}", text, False


def _check_text(text: str, what: str, tokenizer: Any, thinks: bool) -> None:
    _check_characters(text, what)
    for token in special_tokens.of(tokenizer).control.finditer(text):
        # Templates take reasoning apart at these two, and some tokenizers make special tokens of them.
        if not thinks or token[0] not in (marks.THINK, marks.END_OF_THINKING):
            raise Refused(f"{what} holds the text `{token[0]}`, which the tokenizer reads as a special token", EDIT_ROW)


def _check_characters(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{what} holds half of a surrogate pair at character {error.start + 1}", EDIT_ROW) from None


def _conversation(chat: Chat, tokenizer: Any, learn: str) -> Rendered:
    text = turns.apply(chat, tokenizer)
    tools = shown_tools.places(text, chat, tokenizer)
    if learn == "all" and all(message.role != ANSWERER for message in chat.messages):
        return Rendered(text, ((0, len(text)),))
    answers = turns.answers(chat.messages)
    found = turns.locate(text, chat, answers if learn == "completions" else answers[-1:], tokenizer)
    if any(turn.start <= place < turn.end for turn in found for place in tools):
        raise Refused("the chat template writes the tools inside an answer", turns.OTHER_TEMPLATE)
    return Rendered(
        text=text,
        learned=((0, len(text)),) if learn == "all" else tuple((turn.start, turn.end) for turn in found),
        boundaries=_inside(text, [turn.start for turn in found]),
        stops=tuple(sorted({turn.stop for turn in found})),
        rewritten=sum(turn.rewritten for turn in found),
    )


def _inside(text: str, positions: list[int]) -> tuple[int, ...]:
    return tuple(position for position in positions if 0 < position < len(text))
