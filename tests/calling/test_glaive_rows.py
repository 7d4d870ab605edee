"""Rows of Glaive: two texts, with calls whose arguments are in single quotes."""

from __future__ import annotations

import json

import pytest
from calling_rows import WEATHER, chat, chosen, told, tool

from runner.data.examples import Call, Chat, Message

SYSTEM = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
TOOLS = json.dumps(WEATHER, indent=4)
OTHER = {"name": "other", "description": "", "parameters": {}}
CALL = '<functioncall> {"name": "get_weather", "arguments": \'{"city": "Rome", "days": 1.0}\'}'
ROME = Call("get_weather", '{"city": "Rome", "days": 1.0}')


def row(chat: str, system: str = SYSTEM + TOOLS) -> dict[str, str]:
    return {"system": system, "chat": chat}


def answers(text: str) -> str:
    return f"USER: q\n\n\nASSISTANT: {text} <|endoftext|>\n\n\n"


def test_a_row() -> None:
    values = row(answers(CALL) + 'FUNCTION RESPONSE: {"degrees": 21}\n\n\nASSISTANT: Warm: 21.\nASSISTANTS agree.')
    assert chosen(values) == "glaive"
    assert chat(values) == chat(values, "glaive") == Chat(
        (
            Message("user", "q"),
            Message("assistant", "", (ROME,)),
            Message("tool", '{"degrees": 21}'),
            Message("assistant", "Warm: 21.\nASSISTANTS agree."),
        ),
        (tool(),),
    )  # fmt: skip


def test_functions_stand_one_after_another_and_other_text_stays() -> None:
    values = row(answers("No."), f"{SYSTEM}{TOOLS}\n\n{json.dumps(OTHER)}\nBe brief.")
    assert chat(values).tools == (tool(), tool(OTHER))
    assert chat(values).messages[0] == Message("system", "Be brief.")
    values = row(answers("No."), "SYSTEM: You are a helpful assistant, with no access to external functions.\n\n")
    expected = Message("system", "You are a helpful assistant, with no access to external functions.")
    assert chat(values).messages == (expected, Message("user", "q"), Message("assistant", "No."))
    assert chat(row(answers("No."), "SYSTEM: Other words. - " + TOOLS)).messages[0].content == "Other words. -"


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"name": "get_weather", "arguments": \'{"city": "L\'Aquila"}\'}', '{"city": "L\'Aquila"}'),
        ('{"name": "get_weather", "arguments": \'{"city": "L\\\'Aquila"}\'}', '{"city": "L\'Aquila"}'),
        ('{"name": "get_weather", "arguments": \'{"city": "a\\\\"}\'}', '{"city": "a\\\\"}'),
        ('{"name":"get_weather","arguments":{"city": "a", "days": 1.0}}', '{"city": "a", "days": 1.0}'),
        ('{"name": "get_weather", "arguments": "{\\"city\\": \\"a\\"}"}', '{"city": "a"}'),
        ('{"name": "get_weather", "arguments": \'{\n  "city": "a"\n}\'}', '{\n  "city": "a"\n}'),
    ],
)
def test_arguments_in_single_quotes(written: str, arguments: str) -> None:
    assert chat(row(answers(f"Let me see. <functioncall> {written}"))).messages[1:] == (
        Message("assistant", "Let me see.", (Call("get_weather", arguments),)),
    )


def test_several_calls_in_a_turn() -> None:
    assert chat(row(answers(f"{CALL} {CALL}"))).messages[1].calls == (ROME, ROME)


def test_a_row_on_one_line() -> None:
    text = f'USER: q ASSISTANT: {CALL} <|endoftext|> FUNCTION RESPONSE: {{"degrees": 21}} ASSISTANT: Warm.'
    roles = [(message.role, message.content) for message in chat(row(text)).messages]
    assert roles == [("user", "q"), ("assistant", ""), ("tool", '{"degrees": 21}'), ("assistant", "Warm.")]


BEFORE = len("USER: q\n\n\nASSISTANT: ")
BROKEN: dict[str, tuple[str, str, str | None]] = {
    "a turn within a line": (
        "USER: say\nUSER: hi, ASSISTANT: hello\nASSISTANT: hi",
        "`chat` at character 21: `ASSISTANT:` stands within a line, and may begin a turn or not",
        "begin each turn on a line of its own",
    ),
    "no turns": ("Hello", "`chat` does not begin with `USER:`, `ASSISTANT:` or `FUNCTION RESPONSE:`", None),
    "a quoted turn": (
        "USER: q\n\nASSISTANT: A play:\nUSER: hi\nASSISTANT: hello <|endoftext|>",
        "`chat` at character 10: the turn does not end on `<|endoftext|>`, as others of the row do",
        "what follows may be a turn, or text that quotes one",
    ),
    "an end within a turn": (
        answers("a <|endoftext|> b"),
        f"`chat` at character {BEFORE + 3}: `<|endoftext|>` stands within a turn", None,
    ),
    "an empty turn": ("USER: q\n\nASSISTANT: <|endoftext|>", "`chat` at character 21 is empty", None),
    "arguments cut off": (
        answers(CALL.replace("1.0}", "1.0")),
        f"`chat` at character {BEFORE + CALL.index('1.0') + 4}: not valid JSON: the text ends before its value is "
        "complete", None,
    ),
    "arguments a list": (
        answers('<functioncall> {"name": "get_weather", "arguments": \'[1]\'}'),
        f"`chat` at character {BEFORE + 54}: the arguments are a list, not an object", None,
    ),
    "text after the call": (
        answers(f"{CALL} Wait."),
        f"`chat` at character {BEFORE + CALL.index('{', 20) + 0}: not valid JSON: a string is in single quotes",
        "JSON strings take double quotes; `json.dumps` writes them",
    ),
    "an unknown argument": (
        answers(CALL.replace("days", "day")),
        f"`chat` at character {BEFORE + CALL.index(chr(39)) + 2}: `get_weather` has no argument `day`",
        "a similar argument exists: `days`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(text: str, message: str, hint: str | None) -> None:
    assert told(row(text)) == [(message, hint)]


def test_functions_that_cannot_be_read() -> None:
    message = f"`system` at character {len(SYSTEM) + 11}: not valid JSON: the text ends before its value is complete"
    assert told(row(answers("a"), SYSTEM + '{"name": 3')) == [(message, None)]
    message = f"`system` at character {len(SYSTEM) + 1}: `name` is a number, not text"
    assert told(row(answers("a"), SYSTEM + '{"name": 3}')) == [(message, None)]
