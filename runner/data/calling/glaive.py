"""Rows of Glaive in, conversations out: two texts, `system` and `chat`.

- `system` is `SYSTEM:`, one sentence that says that there are functions, and the functions as JSON objects one after
  another. The sentence leaves with them, since the chat template has one of its own; text without functions stays,
  and so does any other sentence.
- `chat` is turns that begin with `USER:`, `ASSISTANT:` or `FUNCTION RESPONSE:` at the start of a line, or of the text,
  or after `<|endoftext|>`. In a row without line breaks, blanks part them. A row in which such a name also stands
  within a line is refused, since nobody can tell whether a turn begins there, and so is one in which some turns of the
  assistant end on `<|endoftext|>` and another does not before the next turn.
- `<functioncall>` stands before a call whose `arguments` are an object in single quotes, which is kept as it is but for
  `\\'`, a single quote in such quotes. The text before it is the text of the turn.
"""

from __future__ import annotations

import re

from runner.data import strict_json
from runner.data.calling import conversation, nodes, system_text, tools
from runner.data.calling.conversation import Conversation, ReadCall, Turn
from runner.data.calling.nodes import At, Node
from runner.data.examples import Call
from runner.data.formats import Fault
from runner.data.rows import Row

END = "<|endoftext|>"
TURNS = "for a list of turns in this column set `columns: {messages: chat}`"
CALL = "<functioncall>"
ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
NAMES = "|".join(ROLES)
MARKER = re.compile(rf"(?:(?<=\n)|(?<=\A)|(?<={re.escape(END)}))[ \t]*({NAMES}):[ \t]*")
LOOSE_MARKER = re.compile(rf"(?:(?<=\s)|(?<=\A)|(?<={re.escape(END)}))({NAMES}):[ \t]*")
BOILERPLATE = (
    re.compile(r"\A\s*SYSTEM:"),
    system_text.sentence(
        r"You are a helpful assistant with access to the following functions?\. Use (?:them|it) if required\s*-?"
    ),
)
QUOTED = re.compile(r"\{\s*\"name\"\s*:\s*(\"(?:[^\"\\]|\\.)*\")\s*,\s*\"arguments\"\s*:\s*'(.*)'\s*\}", re.DOTALL)
QUOTE = re.compile(r"(?<!\\)((?:\\\\)*)\\'")


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    system, chat = row.values.get("system"), row.values.get("chat")
    if isinstance(system, str):
        _system(system, found)
    elif system is not None:
        found.faults.append((f"`system` is {strict_json.kind(system)}, not text", None))
    if isinstance(chat, str):
        _chat(chat, found)
    else:
        hint = TURNS if isinstance(chat, list) else None
        found.faults.append((f"`chat` is {strict_json.kind(chat)}, not text", hint))
    return found


def _system(text: str, found: Conversation) -> None:
    start = text.find("{")
    if start < 0:
        kept = BOILERPLATE[0].sub("", text).strip()
    else:
        at, end, given = start, start, []
        try:
            while text[at : at + 1] == "{":
                node, end = nodes.within(text, at, "system")
                given.append(node)
                at = strict_json.skip_space(text, end)
        except strict_json.Invalid as error:
            found.tool_faults.append(nodes.invalid(error, At("system")))
        found.add_tools(*tools.of_nodes(given))
        kept = system_text.without(text, (start, max(end, start)), BOILERPLATE)
    if kept:
        found.add(conversation.said("system", kept, At("system")))


def _chat(text: str, found: Conversation) -> None:
    markers = list(MARKER.finditer(text))
    loose = list(LOOSE_MARKER.finditer(text))
    if "\n" not in text.strip():
        markers = loose
    if not markers or text[: markers[0].start()].strip():
        found.faults.append(("`chat` does not begin with `USER:`, `ASSISTANT:` or `FUNCTION RESPONSE:`", None))
        return
    known = {match.start(1) for match in markers}
    for match in loose:
        if match.start(1) not in known:
            at = At("chat", match.start(1))
            message = f"{at}: `{match[1]}:` stands within a line, and may begin a turn or not"
            found.faults.append((message, "begin each turn on a line of its own"))
    for match, end in zip(markers, [*(later.start() for later in markers[1:]), len(text)], strict=True):
        ends = text[:end].rstrip().endswith(END)
        if END in text and match[1] == "ASSISTANT" and end < len(text) and not ends:
            message = f"{At('chat', match.start(1))}: the turn does not end on `{END}`, as others of the row do"
            found.faults.append((message, "what follows may be a turn, or text that quotes one"))
        found.add(_turn(ROLES[match[1]], text[:end], match.end()))


def _turn(role: str, text: str, start: int) -> Turn | list[Fault]:
    """The turn that the text from `start` on is."""
    content = text[start:].strip().removesuffix(END).rstrip()
    at = At("chat", start)
    if END in content:
        inner = At("chat", text.index(END, start))
        return [(f"{inner}: `{END}` stands within a turn", None)]
    if role != "assistant" or CALL not in content:
        return conversation.said(role, content, at)
    before, *written = content.split(CALL)
    calls: list[ReadCall] = []
    faults: list[Fault] = []
    position = text.index(CALL, start) + len(CALL)
    for each in written:
        read_call = _call(each, position)
        if isinstance(read_call, ReadCall):
            calls.append(read_call)
        else:
            faults += read_call
        position += len(each) + len(CALL)
    return faults or conversation.calling(before.rstrip(), calls, at)


def _call(text: str, start: int) -> ReadCall | list[Fault]:
    """A call whose text begins at a character of the chat."""
    at = At("chat", start + len(text) - len(text.lstrip()))
    quoted = QUOTED.fullmatch(text.strip())
    if quoted is None:
        node = nodes.of_text(text, At("chat", start))
        return conversation.call(node) if isinstance(node, Node) else [node]
    name = nodes.of_text(quoted[1], at)
    if not isinstance(name, Node):
        return [name]
    assert at.start is not None
    inner = At("chat", at.start + quoted.start(2))
    written = QUOTE.sub(r"\1'", quoted[2])
    given = nodes.of_text(written, inner)
    if not isinstance(given, Node):
        return [given]
    if not isinstance(given.value, dict):
        return [(f"{inner}: the arguments are {strict_json.kind(given.value)}, not an object", None)]
    if not name.value:
        return [(f"{at}: the name of the call is empty", None)]
    return ReadCall(Call(name.value, written), given.value, at, inner)
