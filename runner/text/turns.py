"""Where the answers stand in a rendered conversation, each with the proof that it is learned as it is served.

In: a conversation, the model's tokenizer, and the chat template's text of the whole. Out: `Turn`s, or `Refused`.

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
- The name of each of its calls stands in it once, in order, and what a reader of the template's syntax finds
  in it is exactly these calls. A turn without calls reads as one without.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from runner.data.examples import Chat, Message
from runner.text import calling, conventions, marks, rendering, special_tokens
from runner.text.rendering import ANSWERER, EDIT_ROW, Refused

LEARN_LAST = "learn the last answer alone: `dataset.learn: last`"
OTHER_TEMPLATE = "mend a copy of the template, and name it: `model.chat_template: template.jinja`"
OTHER_SYNTAX = "skip such rows (`dataset.on_bad_row: skip`), or name a chat template that writes calls as JSON"
CALL_IN_TEXT = (
    "give calls in `tool_calls`, not in `content`; "
    "rows of marked text have `conversations`, and are of `format: hermes`"
)
REASON = "write reasoning into the answer (`<think> … </think>`), or name a chat template that does not ask for it"


@dataclass(frozen=True)
class Turn:
    """One learned turn: characters `start` to `end`, the special token it ends with, and whether a server
    would have asked for it in other words than stand in the text."""

    start: int
    end: int
    stop: str
    rewritten: bool


def locate(text: str, chat: Chat, numbers: Sequence[int], tokenizer: Any) -> list[Turn]:
    """The turns of the messages with these numbers (from 0) in `text`, which is `apply(chat, tokenizer)`.

    Raises `Refused` where one of them cannot be proved.
    """
    said = (part for message in chat.messages for part in (message.content, *(call.name for call in message.calls)))
    first = marks.alphabet([text, *said])
    if first is None:
        raise Refused("the row uses every private-use character that its answers could be marked with", EDIT_ROW)
    reading = _read_all(chat, text, tokenizer, first)
    return [_turn(number, chat, reading, tokenizer, first) for number in numbers]


def answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the messages that are answers. Raises `Refused` if there is none."""
    found = [number for number, message in enumerate(messages) if message.role == ANSWERER]
    if not found:
        raise Refused("the conversation holds no `assistant` message, so there is nothing to learn")
    return found


def apply(chat: Chat, tokenizer: Any, generate: bool = False) -> str:
    """The text that the chat template makes of a conversation, calls as it takes them. Raises as `rendering` does."""
    as_text = calls_tools(chat) and conventions.of(tokenizer).arguments_as_text
    return rendering.apply(chat.messages, tokenizer, chat.tools, generate, as_text)


def calls_tools(chat: Chat) -> bool:
    """Whether there is a call in a conversation, or a tool to be called."""
    return bool(chat.tools) or any(message.calls for message in chat.messages)


def beginning(chat: Chat, number: int) -> Chat:
    """The conversation before a message."""
    return replace(chat, messages=chat.messages[:number])


def _read_all(chat: Chat, text: str, tokenizer: Any, first: int) -> marks.Reading:
    """Where all contents stand in the text, or all that can be told: they are marked one by one if need be."""
    everything = {number for number, message in enumerate(chat.messages) if _worth_marking(message)}
    places: dict[tuple[int, bool], tuple[int, ...]] = {}
    calls: dict[int, tuple[int, ...]] = {}
    for group in ([everything], [{number} for number in everything]):
        for numbers in group:
            try:
                reading = _read(chat, numbers, tokenizer, first)
            except Refused:
                continue
            if reading.plain == text:
                places.update(reading.places)
                calls.update(reading.calls)
        if places or calls:
            break
    return marks.Reading(text, places, calls)


def _worth_marking(message: Message) -> bool:
    # An empty content has nothing that could be learned by mistake, and templates ask whether a content is empty.
    return message.role == ANSWERER or bool(message.content.strip())


def _read(chat: Chat, numbers: Set[int], tokenizer: Any, first: int, generate: bool = False) -> marks.Reading:
    marked = tuple(
        _marked(message, number, first) if number in numbers else message
        for number, message in enumerate(chat.messages)
    )
    return marks.read(apply(replace(chat, messages=marked), tokenizer, generate), first)


def _marked(message: Message, number: int, first: int) -> Message:
    content = message.content
    if not message.calls or content.strip():
        content = marks.mark(content, number, first, beside_calls=bool(message.calls))
    calls = tuple(replace(call, name=marks.mark_name(call.name, number, first)) for call in message.calls)
    return replace(message, content=content, calls=calls)


def _turn(number: int, chat: Chat, reading: marks.Reading, tokenizer: Any, first: int) -> Turn:
    text, messages = reading.plain, chat.messages
    extent = _find(number, messages, reading)
    if extent.thinking_dropped and number == answers(messages)[-1]:
        raise Refused(
            f"the chat template leaves out the reasoning of the last answer (message {number + 1})", OTHER_TEMPLATE
        )
    before = apply(beginning(chat, number), tokenizer, generate=True) if number else ""
    start: int | None
    straight = bool(number) and text.startswith(before) and _asked(text, extent.start, len(before))
    if straight:
        start = len(before)
    elif number:
        start = _start_behind(number, chat, reading, before, tokenizer, first)
    else:
        start = extent.start  # no server asks for a first message: the template's words before it are not learned
    if start is None or not _asked(text, extent.start, start):
        raise _other_prompt(number, messages, before)
    if number + 1 == len(messages):
        cut_off, tail = text, text[extent.end :]
    else:
        alone = _read(beginning(chat, number + 1), {number}, tokenizer, first)
        cut_off, tail = alone.plain, alone.plain[_find(number, messages, alone).end :]
    stop = _stop(number, chat, text[start : extent.end], tail, text[extent.end : extent.end + len(tail)], tokenizer)
    end = extent.end + stop[1]
    lead = text[start : extent.start]
    if number and lead.strip() and before == apply(beginning(chat, number), tokenizer):
        lead = _lead_of_text(number, chat, before, tokenizer, first) if messages[number].calls else lead
        if lead.strip():
            raise Refused(
                f"the chat template has no generation prompt: a server would not write {_shown(lead)}", OTHER_TEMPLATE
            )
    if marks.END_OF_THINKING in lead and marks.has_thinking(messages[number].content):
        raise Refused(
            f"the chat template writes empty reasoning in front of the reasoning of message {number + 1}",
            OTHER_TEMPLATE,
        )
    others = [(other, positions) for (other, _), positions in reading.places.items()]
    for other, positions in (*others, *reading.calls.items()):
        if other != number and any(start <= position < end for position in positions):
            raise Refused(
                f"the chat template writes message {other + 1} inside the answer of message {number + 1}",
                OTHER_TEMPLATE,
            )
    # What a server would have been asked, with what would have been learned from a conversation that ends here.
    as_served = straight and cut_off.startswith(before + text[start:end])
    return Turn(start, end, stop[0], rewritten=bool(number) and not as_served)


def _find(number: int, messages: Sequence[Message], reading: marks.Reading) -> marks.Extent:
    """Where an answer stands, its calls included: from the first of what it says to the last."""
    message = messages[number]
    found: list[marks.Extent | None] = []
    try:
        if message.calls:
            found.append(marks.find_calls([call.name for call in message.calls], number, reading))
        if not message.calls or marks.has_answer(message.content):
            found.append(marks.find(message.content, number, reading))
        elif marks.has_thinking(message.content):
            found.append(marks.find_thinking(message.content, number, reading))
    except marks.Changed as change:
        raise Refused(
            f"the chat template does not give back the answer of message {number + 1} as it is: it {change}",
            OTHER_TEMPLATE,
        ) from None
    extents = [extent for extent in found if extent is not None]
    return marks.Extent(
        min(extent.start for extent in extents),
        max(extent.end for extent in extents),
        thinking_dropped=None in found or any(extent.thinking_dropped for extent in extents),
    )


def _lead_of_text(number: int, chat: Chat, before: str, tokenizer: Any, first: int) -> str:
    """What the template writes between a prompt and an answer without calls: not the sign that opens a call."""
    plain = replace(chat, messages=(*chat.messages[:number], Message(ANSWERER, "x")))
    reading = _read(plain, {number}, tokenizer, first)
    extent = _find(number, plain.messages, reading)
    return reading.plain[len(before) if reading.plain.startswith(before) else 0 : extent.start]


def _asked(text: str, content: int, start: int) -> bool:
    """Whether an answer can begin at `start`: before its content, or behind the `<think>` that opens its content."""
    return start <= content or text[content:start].strip() == marks.THINK


def _start_behind(
    number: int, chat: Chat, reading: marks.Reading, before: str, tokenizer: Any, first: int
) -> int | None:
    """Where the answer begins in a text whose earlier messages read otherwise than in a server's prompt.

    What the prompt writes behind the content of the message before must follow that content in the text as well;
    `None` if it does not.
    """
    previous = number - 1
    asked = _read(beginning(chat, number), {previous}, tokenizer, first, generate=True)
    try:
        tail = asked.plain[_find(previous, chat.messages, asked).end :]
        place = _find(previous, chat.messages, reading).end
    except Refused:
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


def _stop(number: int, chat: Chat, said: str, tail: str, following: str, tokenizer: Any) -> tuple[str, int]:
    """The token that ends a turn, and how many characters behind what the turn says it ends.

    Behind the name of a call stand its arguments, and in them special tokens of the syntax: there it is the first
    token before which the turn reads back.
    """
    special = special_tokens.of(tokenizer)
    shared = os.path.commonprefix([tail, following])
    found = [*special.control.finditer(shared), *special.added.finditer(shared)]
    if not chat.messages[number].calls:
        found = found[:1]
    if calls_tools(chat):
        found = found[_reading_back(number, chat, [said + shared[: each.start()] for each in found], tokenizer) :]
    if found:
        return found[0][0], found[0].end()
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


def _reading_back(number: int, chat: Chat, turns: Sequence[str], tokenizer: Any) -> int:
    """The first of some texts that reads back as the message's calls. Raises `Refused` with what the last reads as."""
    wanted = chat.messages[number].calls
    wrong: str | None = None
    for place, turn in enumerate(turns):
        found = calling.read(turn, conventions.of(tokenizer).syntax, chat.tools)
        wrong = found.reason if isinstance(found, calling.Fault) else calling.difference(wanted, found[1])
        if wrong is None:
            return place
    if wrong is not None and not wanted:
        raise Refused(f"message {number + 1} gives no call, and its text reads as one: {wrong}", CALL_IN_TEXT)
    if wrong is not None:
        raise Refused(f"what the chat template writes of message {number + 1} reads otherwise: {wrong}", OTHER_SYNTAX)
    return 0
