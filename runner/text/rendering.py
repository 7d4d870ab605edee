"""Messages and tools in, the text that the model's chat template makes of them out, as a server would ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.data import strict_json
from runner.data.examples import Message
from runner.errors import Problem, RecipeError
from runner.text.calling import exact

ANSWERER = "assistant"
EDIT_ROW = "take it out of the row, or skip such rows: `dataset.on_bad_row: skip`"


class Refused(Exception):
    """This row cannot be used. `reason` is a lower-case statement, `hint` what can be done about it."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def apply(
    messages: Sequence[Message],
    tokenizer: Any,
    tools: Sequence[str] = (),
    generate: bool = False,
    arguments_as_text: bool = False,
) -> str:
    """The text that the chat template makes of messages. The template is somebody's program, and can fail as one.

    Tools and arguments become objects here and nowhere earlier; `arguments_as_text` leaves arguments as they are
    written. Raises `Refused`, or `RecipeError` for a template that is no Jinja.
    """
    from jinja2.exceptions import TemplateError, TemplateSyntaxError

    shown = [value(tool, f"tool {number}") for number, tool in enumerate(tools, 1)] or None
    conversation = [_plain(message, number, arguments_as_text) for number, message in enumerate(messages, 1)]
    try:
        return str(
            tokenizer.apply_chat_template(conversation, tools=shown, tokenize=False, add_generation_prompt=generate)
        )
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


def value(text: str, what: str) -> Any:
    """The value of a JSON text that a row holds, not to be changed. Raises `Refused` where it would not be kept."""
    try:
        return exact.value(text)
    except strict_json.Invalid as error:
        raise Refused(f"{what} cannot be kept exactly: {error.message}", error.hint or EDIT_ROW) from None


def paired(messages: Sequence[Message], nine: bool) -> tuple[Message, ...]:
    """The messages with an id for each call, and with each tool's answer naming its call by id and by tool.

    An id that is missing is made from the number of the call in the conversation, and so is any other than nine
    letters and digits where the template wants those, as Mistral's do. An answer without an id belongs to the first
    call of the turn before that nobody has answered, and that has the answer's name if it has one.
    """
    kept = {call.id for message in messages for call in message.calls}
    found: list[Message] = []
    waiting: list[tuple[str, str, str]] = []  # calls of the turn before: the row's id, ours, and the tool's name
    number = 0
    for message in messages:
        calls = []
        for call in message.calls:
            identity = call.id
            while not identity or (nine and not _is_nine(identity)):
                number += 1
                made = f"{number:09d}" if nine else f"call_{number}"
                identity = "" if made in kept else made
            calls.append(replace(call, id=identity))
        if calls:
            waiting = [(old.id, new.id, new.name) for old, new in zip(message.calls, calls, strict=True)]
            message = replace(message, calls=tuple(calls))
        elif message.role == "tool":
            message = _paired(message, waiting)
        found.append(message)
    return tuple(found)


def _paired(answer: Message, waiting: list[tuple[str, str, str]]) -> Message:
    for place, (theirs, ours, name) in enumerate(waiting):
        if answer.call_id == theirs if answer.call_id else answer.name in ("", name):
            del waiting[place]
            return replace(answer, call_id=ours, name=answer.name or name)
    return answer


def _is_nine(identity: str) -> bool:
    return len(identity) == 9 and identity.isascii() and identity.isalnum()


def _plain(message: Message, number: int, arguments_as_text: bool) -> dict[str, Any]:
    """A message as everybody writes it: keys that say nothing are left out."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        plain["tool_calls"] = [
            {
                "type": "function",
                **({"id": call.id} if call.id else {}),
                "function": {
                    "name": call.name,
                    "arguments": call.arguments
                    if arguments_as_text
                    else value(call.arguments, f"the arguments of call {place} of message {number}"),
                },
            }
            for place, call in enumerate(message.calls, 1)
        ]
    if message.role == "tool":
        if message.call_id:
            plain["tool_call_id"] = message.call_id
        if message.name:
            plain["name"] = message.name
    return plain
