"""Where the answers stand in a rendered conversation, each with the proof that it is learned as it is served.

In: messages, the model's tokenizer, and the chat template's text of the whole. Out: `Turn`s, or `Refused`.

The usual ways to find the answers fail on stock templates. Rendering ever longer beginnings and taking
their lengths is wrong where a template rewrites what was said before (Qwen 3 takes reasoning out of
earlier turns). `{% generation %}` tags stand in few templates. Looking for a header such as
`<|im_start|>assistant` finds it in a user's text, too, and has to be told each family's header. Here
each content is marked, and the template itself shows where it puts it (`marks.py`):

- A turn begins where a server's prompt for that answer ends: the messages before it, rendered with the
  generation prompt. So the model learns what it will have to write, white space and empty reasoning
  included, and the text is cut into tokens there, as it will be when the model is served.
- It ends with the special token that ends it: the first one behind the content, both in the full text
  and in the same conversation cut off after this turn. What follows that belongs to the next turn.
- Nothing between the two may come from any other message.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from runner.data.examples import Message
from runner.errors import Problem, RecipeError
from runner.text import marks, special_tokens

ANSWERER = "assistant"
LEARN_LAST = "learn the last answer alone: `dataset.learn: last`"
OTHER_TEMPLATE = "mend a copy of the template, and name it: `model.chat_template: template.jinja`"
REASON = "write reasoning into the answer (`<think> … </think>`), or name a chat template that does not ask for it"
EDIT_ROW = "take it out of the row, or skip such rows: `dataset.on_bad_row: skip`"


class Refused(Exception):
    """This row cannot be used. `reason` is a lower-case statement, `hint` what can be done about it."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Turn:
    """One learned turn: characters `start` to `end`, the special token it ends with, and whether a server
    would have asked for it in other words than stand in the text."""

    start: int
    end: int
    stop: str
    rewritten: bool


def locate(text: str, messages: Sequence[Message], numbers: Sequence[int], tokenizer: Any) -> list[Turn]:
    """The turns of the messages with these numbers (from 0) in `text`, which is `apply(messages, tokenizer)`.

    Raises `Refused` where one of them cannot be proved.
    """
    first = marks.alphabet([text, *(message.content for message in messages)])
    if first is None:
        raise Refused("the row uses every private-use character that its answers could be marked with", EDIT_ROW)
    reading = _read_all(messages, text, tokenizer, first)
    return [_turn(number, messages, reading, tokenizer, first) for number in numbers]


def answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the messages that are answers. Raises `Refused` if there is none."""
    found = [number for number, message in enumerate(messages) if message.role == ANSWERER]
    if not found:
        raise Refused("the conversation holds no `assistant` message, so there is nothing to learn")
    return found


def apply(messages: Sequence[Message], tokenizer: Any, generate: bool = False) -> str:
    """The text that the chat template makes of messages. The template is somebody's program, and can fail as one."""
    from jinja2.exceptions import TemplateError, TemplateSyntaxError

    conversation = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generate))
    except TemplateSyntaxError as error:
        raise RecipeError(
            Problem(
                f"the chat template is not valid Jinja: line {error.lineno}: {error.message}",
                hint="mend it, or name another: `model.chat_template: template.jinja`",
            )
        ) from None
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise Refused(f"the chat template refuses the conversation: {error}") from None


def _read_all(messages: Sequence[Message], text: str, tokenizer: Any, first: int) -> marks.Reading:
    """Where all contents stand in the text, or all that can be told: they are marked one by one if need be."""
    everything = {number for number, message in enumerate(messages) if _worth_marking(message)}
    places: dict[tuple[int, bool], tuple[int, ...]] = {}
    for group in ([everything], [{number} for number in everything]):
        for numbers in group:
            try:
                reading = _read(messages, numbers, tokenizer, first)
            except Refused:
                continue
            if reading.plain == text:
                places.update(reading.places)
        if places:
            break
    return marks.Reading(text, places)


def _worth_marking(message: Message) -> bool:
    # An empty content has nothing that could be learned by mistake, and templates ask whether a content is empty.
    return message.role == ANSWERER or bool(message.content.strip())


def _read(
    messages: Sequence[Message], numbers: Set[int], tokenizer: Any, first: int, generate: bool = False
) -> marks.Reading:
    marked = tuple(
        Message(message.role, marks.mark(message.content, number, first)) if number in numbers else message
        for number, message in enumerate(messages)
    )
    return marks.read(apply(marked, tokenizer, generate), first)


def _turn(number: int, messages: Sequence[Message], reading: marks.Reading, tokenizer: Any, first: int) -> Turn:
    text = reading.plain
    extent = _find(number, messages, reading)
    if extent.thinking_dropped and number == answers(messages)[-1]:
        raise Refused(
            f"the chat template leaves out the reasoning of the last answer (message {number + 1})", OTHER_TEMPLATE
        )
    before = apply(messages[:number], tokenizer, generate=True) if number else ""
    start: int | None
    straight = bool(number) and text.startswith(before) and _asked(text, extent.start, len(before))
    if straight:
        start = len(before)
    elif number:
        start = _start_behind(number, messages, reading, before, tokenizer, first)
    else:
        start = extent.start  # no server asks for a first message: the template's words before it are not learned
    if start is None or not _asked(text, extent.start, start):
        raise _other_prompt(number, messages, before)
    if number + 1 == len(messages):
        cut_off, tail = text, text[extent.end :]
    else:
        alone = _read(messages[: number + 1], {number}, tokenizer, first)
        cut_off, tail = alone.plain, alone.plain[_find(number, messages, alone).end :]
    stop = _stop(number, tail, text[extent.end : extent.end + len(tail)], tokenizer)
    end = extent.end + stop[1]
    lead = text[start : extent.start]
    if number and lead.strip() and before == apply(messages[:number], tokenizer):
        raise Refused(
            f"the chat template has no generation prompt: a server would not write {_shown(lead)}", OTHER_TEMPLATE
        )
    if marks.END_OF_THINKING in lead and marks.has_thinking(messages[number].content):
        raise Refused(
            f"the chat template writes empty reasoning in front of the reasoning of message {number + 1}",
            OTHER_TEMPLATE,
        )
    for (other, _), positions in reading.places.items():
        if other != number and any(start <= position < end for position in positions):
            raise Refused(
                f"the chat template writes message {other + 1} inside the answer of message {number + 1}",
                OTHER_TEMPLATE,
            )
    # What a server would have been asked, with what would have been learned from a conversation that ends here.
    as_served = straight and cut_off.startswith(before + text[start:end])
    return Turn(start, end, stop[0], rewritten=bool(number) and not as_served)


def _find(number: int, messages: Sequence[Message], reading: marks.Reading) -> marks.Extent:
    try:
        return marks.find(messages[number].content, number, reading)
    except marks.Changed as change:
        raise Refused(
            f"the chat template does not give back the answer of message {number + 1} as it is: it {change}",
            OTHER_TEMPLATE,
        ) from None


def _asked(text: str, content: int, start: int) -> bool:
    """Whether an answer can begin at `start`: before its content, or behind the `<think>` that opens its content."""
    return start <= content or text[content:start].strip() == marks.THINK


def _start_behind(
    number: int, messages: Sequence[Message], reading: marks.Reading, before: str, tokenizer: Any, first: int
) -> int | None:
    """Where the answer begins in a text whose earlier messages read otherwise than in a server's prompt.

    What the prompt writes behind the content of the message before must follow that content in the text as well;
    `None` if it does not.
    """
    previous = number - 1
    asked = _read(messages[:number], {previous}, tokenizer, first, generate=True)
    try:
        tail = asked.plain[marks.find(messages[previous].content, previous, asked).end :]
        place = marks.find(messages[previous].content, previous, reading).end
    except marks.Changed:
        return None
    return place + len(tail) if asked.plain == before and reading.plain.startswith(tail, place) else None


def _other_prompt(number: int, messages: Sequence[Message], before: str) -> Refused:
    hint = OTHER_TEMPLATE
    if number != answers(messages)[-1]:
        hint = LEARN_LAST
    elif before.rstrip().endswith(marks.THINK):
        hint = REASON
    return Refused(
        f"the chat template asks for an answer in one way and shows it in another: the prompt for message {number + 1} "
        f"ends with {_shown(before[-40:])}, and the finished conversation does not have that in front of the answer",
        hint,
    )


def _shown(text: str) -> str:
    return "`" + text.replace("\n", "\\n") + "`"


def _stop(number: int, tail: str, following: str, tokenizer: Any) -> tuple[str, int]:
    """The token that ends a turn, and how many characters behind the content it ends."""
    special = special_tokens.of(tokenizer)
    shared = os.path.commonprefix([tail, following])
    found = special.control.search(shared) or special.added.search(shared)
    if found is not None:
        return found[0], found.end()
    at_the_end = special.control.search(tail)
    if at_the_end is not None:
        raise Refused(
            f"the chat template ends message {number + 1} with `{at_the_end[0]}` only where nothing follows it",
            LEARN_LAST,
        )
    raise Refused(
        "the chat template does not end an assistant turn with a special token; the model would never learn to stop",
        OTHER_TEMPLATE,
    )
