"""Examples to full text, and which of its characters the model is to learn.

In: an `Instruction` or a `Chat`, and the model's tokenizer. Out: `Rendered`, the one full text of the
row with its learned spans, or `Refused` with the reason why no mask can be proved. How the answers of a
conversation are found is told in `turns.py`. A prompt and completion without a template need no
search: the completion and the end-of-sequence token are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.data.examples import Chat, Instruction, Message, Question
from runner.errors import Problem, RecipeError
from runner.text import marks, special_tokens, turns
from runner.text.turns import Refused

__all__ = ["Prompt", "Refused", "Rendered", "prompt", "question", "reads_clock", "render"]


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
    """What a server would give to the model, special tokens written out, and the answer that the row gives."""

    text: str
    answer: str


def render(example: Instruction | Chat, tokenizer: Any, learn: str, use_template: bool) -> Rendered:
    """The full text of an example, with what is to be learned of it.

    `learn` is `completions` (every answer), `last` (the last answer) or `all` (the whole text).
    Raises `Refused` if this row cannot be used, `RecipeError` if no row can.
    """
    if isinstance(example, Instruction) and not use_template:
        return _plain(example, tokenizer, learn)
    messages = _messages(example, tokenizer, use_template)
    try:
        return _conversation(messages, tokenizer, learn)
    except Refused:
        if not reads_clock(tokenizer):
            raise
        return _conversation(messages, tokenizer, learn)  # the day may have changed between two renders


def prompt(example: Instruction | Chat, tokenizer: Any, use_template: bool) -> Prompt:
    """What a server would be asked for the last answer of an example. Raises as `render` does.

    Its text is the beginning of the text that `render` gives, up to the last learned span, unless the
    template renders earlier messages otherwise once the last answer is there.
    """
    if isinstance(example, Instruction) and not use_template:
        _check_plain(example, tokenizer)
        return Prompt(_plain_prompt(example, tokenizer), example.completion)
    messages = _messages(example, tokenizer, use_template)
    last = turns.answers(messages)[-1]
    if last == 0:
        raise Refused("the conversation opens with its only answer: there is nothing to ask a model")
    return Prompt(turns.apply(messages[:last], tokenizer, generate=True), messages[last].content)


def question(example: Question, tokenizer: Any, use_template: bool) -> str:
    """What a server would give to the model for a bare prompt, special tokens written out. Raises as `render` does."""
    if use_template or not isinstance(example.prompt, str):
        return turns.apply(_messages(example, tokenizer, use_template), tokenizer, generate=True)
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
            raise Refused(f"the completion holds the special token `{token}` before its end", turns.EDIT_ROW)
        ending -= len(token)
    return special.end


def _messages(example: Instruction | Chat | Question, tokenizer: Any, use_template: bool) -> tuple[Message, ...]:
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
        messages: tuple[Message, ...] = (Message("user", example.prompt), Message(turns.ANSWERER, example.completion))
    elif isinstance(example, Question):
        prompt = example.prompt
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    else:
        messages = tuple(example.messages)
    if not messages:
        raise Refused("the conversation holds no message")
    control = special_tokens.of(tokenizer).control
    for number, message in enumerate(messages, start=1):
        _check_characters(message.content, f"message {number} (`{message.role}`)")
        for token in control.finditer(message.content):
            # Templates take reasoning apart at these two, and some tokenizers make special tokens of them.
            if message.role != turns.ANSWERER or token[0] not in (marks.THINK, marks.END_OF_THINKING):
                raise Refused(
                    f"message {number} (`{message.role}`) holds the text `{token[0]}`, "
                    "which the tokenizer reads as a special token",
                    turns.EDIT_ROW,
                )
    return messages


def _check_characters(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{what} holds half of a surrogate pair at character {error.start + 1}", turns.EDIT_ROW) from None


def _conversation(messages: tuple[Message, ...], tokenizer: Any, learn: str) -> Rendered:
    text = turns.apply(messages, tokenizer)
    if learn == "all" and all(message.role != turns.ANSWERER for message in messages):
        return Rendered(text, ((0, len(text)),))
    answers = turns.answers(messages)
    found = turns.locate(text, messages, answers if learn == "completions" else answers[-1:], tokenizer)
    return Rendered(
        text=text,
        learned=((0, len(text)),) if learn == "all" else tuple((turn.start, turn.end) for turn in found),
        boundaries=_inside(text, [turn.start for turn in found]),
        stops=tuple(sorted({turn.stop for turn in found})),
        rewritten=sum(turn.rewritten for turn in found),
    )


def _inside(text: str, positions: list[int]) -> tuple[int, ...]:
    return tuple(position for position in positions if 0 < position < len(text))
