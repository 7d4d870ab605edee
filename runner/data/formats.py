"""One row in, what is to be learned from it out: a prompt with its completion, a conversation, a bare prompt, or text.

A row that cannot be used gives every problem in it instead. What a row says is never dropped in silence: other
columns are left alone, and so are keys of a message that change nothing of what is learned (`name`, `id`,
timestamps). A key that would, such as `weight: 0`, `tool_calls` or `reasoning_content`, is a problem. `null`
under a key of a message counts as the key not being there, because Parquet and Arrow write absent keys so.

Which turns follow which is left to the chat template. A conversation may end on a user turn as long as there
is an assistant turn before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from runner.data import strict_json
from runner.data.examples import Chat, Document, Example, Instruction, Message, Question
from runner.data.rows import Row, first_line, has_fixed_columns, text_of
from runner.errors import Problem, listed
from runner.nearest import nearest

ROLES = ("system", "user", "assistant")

OTHER_ROLES = {
    "human": "user", "customer": "user", "prompter": "user",
    "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant", "chatgpt": "assistant",
    "developer": "system", "instruction": "system",
}  # fmt: skip
TOOL_ROLES = ("tool", "function", "function_call", "observation", "tool_call", "tool_response", "ipython")
TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
UNLEARNABLE_KEYS = {
    "reasoning_content": "put the reasoning into `content`, in the marks that the model uses for it",
    "reasoning": "put the reasoning into `content`, in the marks that the model uses for it",
    "thinking": "put the reasoning into `content`, in the marks that the model uses for it",
    "images": "only text can be learned",
    "image": "only text can be learned",
    "audio": "only text can be learned",
    "videos": "only text can be learned",
}
TURN_SWITCHES = ("weight", "train", "training")  # 1 or true: learned, which is what happens anyway
OTHER_COLUMNS = {
    "prompt": ("instruction", "question", "input", "query", "problem"),
    "completion": ("output", "answer", "response", "solution", "target", "chosen"),
    "messages": ("conversations", "conversation", "dialog", "chat", "turns"),
    "text": ("content", "body", "document", "article", "passage", "markdown", "story"),
}
SHAREGPT = {"from": "role", "value": "content"}  # keys of its turns -> ours
FUNCTION_CALLING = "rows with tools belong to `task: function_calling`"
NO_TOOLS: tuple[Any, ...] = (None, "", "[]", [])
MOST_COLUMNS = 10  # that one message names
PLAIN = re.compile(r"[A-Za-z_][\w-]*")  # what YAML takes as text without quotes


Fault = tuple[str, str | None]  # a message and its hint, before they have a place


def choose(row: Row, source_format: str = "auto") -> str | Problem:
    """The format that a row is in, or the problem that it is in none, or not in the one that its source is in.

    Only the columns are looked at, not what they hold.
    """
    columns = row.values
    if source_format == "prompt":
        return source_format if columns.get("prompt") is not None else _no_prompt(row)
    if source_format == "text":
        return source_format if columns.get("text") is not None else _no_text(row)
    if source_format != "auto" and None not in map(columns.get, COLUMNS[source_format]):
        return source_format
    whole = [name for name, needed in COLUMNS.items() if all(columns.get(column) is not None for column in needed)]
    if source_format == "auto" and len(whole) == 1:
        return whole[0]
    if source_format == "auto" and whole:
        message = f"the row is in several formats at once: {listed(whole)}"
        return placed(row, [(message, "set `format` to the one that is meant")])[0]
    if whole:
        message = f"the row is in format `{whole[0]}`, and its source in `{source_format}`"
        return placed(row, [(message, "give rows of each format a source of their own")])[0]

    begun = [name for name, needed in COLUMNS.items() if any(column in columns for column in needed)]
    if source_format != "auto":
        begun = [source_format]
    what = "file" if has_fixed_columns(row.place) else "row"
    if begun:
        missing = [column for column in COLUMNS[begun[0]] if column not in columns]
        if not missing:
            return begun[0]  # a column is null, which its reader says
        noun = "column" if len(missing) == 1 else "columns"
        message = f"missing {noun} {listed(missing)}; the {what} has {columns_of(row)}"
        return placed(row, [(message, _likely_columns(row, missing))])[0]
    formats = " nor ".join(" and ".join(f"`{column}`" for column in needed) for needed in COLUMNS.values())
    message = f"the {what} has neither {formats}; it has {columns_of(row)}"
    return placed(row, [(message, _likely_format(row))])[0]


def read(row: Row, source_format: str = "auto") -> Example | list[Problem]:
    """What a row gives to learn, or all the problems in it, each with the row's place.

    `source_format` is `auto`, `prompt_completion`, `messages`, `prompt` or `text`.
    """
    chosen = choose(row, source_format)
    if isinstance(chosen, Problem):
        return [chosen]
    return READERS[chosen](row)


def format_of(example: Example) -> str:
    """The format that an example was read from."""
    if isinstance(example, Question):
        return "prompt"
    if isinstance(example, Document):
        return "text"
    return "messages" if isinstance(example, Chat) else "prompt_completion"


def ends_unanswered(example: Example) -> bool:
    """Whether it is a conversation whose last turn is not the assistant's, so that nothing is learned from that."""
    return isinstance(example, Chat) and example.messages[-1].role != "assistant"


def _no_prompt(row: Row) -> Problem:
    """A row that asks the model nothing; one that is null is told by its reader."""
    what = "file" if has_fixed_columns(row.place) else "row"
    hint = _likely_columns(row, ("prompt",))
    if "messages" in row.values:
        hint = "set `columns: {prompt: messages}`: a prompt may be a list of turns, which ends on a `user` turn"
    message = f"missing column `prompt`; the {what} has {columns_of(row)}"
    if "prompt" in row.values:
        message, hint = "`prompt` is `null`", None
    return placed(row, [(message, hint)])[0]


def _no_text(row: Row) -> Problem:
    """A row that has no text to learn."""
    what = "file" if has_fixed_columns(row.place) else "row"
    others = [name for name, needed in COLUMNS.items() if all(column in row.values for column in needed)]
    hint = _likely_columns(row, ("text",))
    if others:
        hint = f"rows with {' and '.join(f'`{column}`' for column in COLUMNS[others[0]])} belong to `task: sft`"
    message = f"missing column `text`; the {what} has {columns_of(row)}"
    if "text" in row.values:
        message, hint = "`text` is `null`", None
    return placed(row, [(message, hint)])[0]


def _document(row: Row) -> Document | list[Problem]:
    """Text of any length: an empty one is left to the reader of documents, which counts it."""
    value = row.values["text"]
    faults = text_faults(value, "text", may_be_empty=True)
    return placed(row, faults) if faults else Document(value)


def _question(row: Row) -> Question | list[Problem]:
    value = row.values["prompt"]
    columns = {name: each for name, each in row.values.items() if name not in ("prompt", "split")}
    kept = json.dumps(columns, ensure_ascii=False, default=str)
    if isinstance(value, str) and has_fixed_columns(row.place):
        value = _turns_in_a_cell(value)
    if isinstance(value, str):
        faults = text_faults(value, "prompt")
        return placed(row, faults) if faults else Question(value, kept)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else strict_json.kind(value)
        return placed(row, [(f"`prompt` is {what}, not text or a list of turns", None)])
    read = [_message(item, f"prompt[{index}]") for index, item in enumerate(value)]
    faults = [fault for item in read if isinstance(item, list) for fault in item]
    messages = tuple(item for item in read if isinstance(item, Message))
    if not faults and messages[-1].role != "user":
        faults = [("the prompt ends on no `user` turn", "what every completion begins with goes into `grpo.prefill`")]
    return placed(row, faults) if faults else Question(messages, kept)


def _turns_in_a_cell(text: str) -> Any:
    """The turns that a table's cell holds as JSON, or the text as it is: a CSV file has no lists."""
    try:
        value = strict_json.Decoder().whole(text) if text.lstrip().startswith("[") else None
    except strict_json.Invalid:
        return text
    are_turns = isinstance(value, list) and all(isinstance(item, dict) and "role" in item for item in value)
    return value if value and are_turns else text


def _instruction(row: Row) -> Instruction | list[Problem]:
    prompt, completion = row.values["prompt"], row.values["completion"]
    faults = [*text_faults(prompt, "prompt"), *text_faults(completion, "completion")]
    return placed(row, faults) if faults else Instruction(prompt, completion)


def _chat(row: Row) -> Chat | list[Problem]:
    value = row.values["messages"]
    if isinstance(value, str):
        try:
            value = strict_json.Decoder().whole(value)
        except strict_json.Invalid as error:
            return placed(row, [(f"`messages` at character {error.position + 1}: {error.message}", error.hint)])
    if not isinstance(value, list):
        return placed(row, [(f"`messages` is {strict_json.kind(value)}, not a list", None)])
    if not value:
        return placed(row, [("`messages` is empty", None)])

    if row.values.get("tools") not in NO_TOOLS:
        return placed(row, [("the row has `tools`, which this task does not show to the model", FUNCTION_CALLING)])

    messages: list[Message] = []
    faults: list[Fault] = []
    for index, item in enumerate(value):
        message = _message(item, f"messages[{index}]")
        if isinstance(message, Message):
            messages.append(message)
        else:
            faults.extend(message)
    if not faults:
        roles = [message.role for message in messages]
        if "user" not in roles:
            faults.append(("the conversation has no `user` turn", None))
        if "assistant" not in roles:
            faults.append(("the conversation has no `assistant` turn, so there is nothing to learn", None))
    return placed(row, faults) if faults else Chat(tuple(messages))


def _message(item: Any, path: str) -> Message | list[Fault]:
    """One turn of a conversation, or what is wrong with it. ShareGPT's `from` and `value` are `role` and `content`."""
    if not isinstance(item, dict):
        return [(f"`{path}` is {strict_json.kind(item)}, not an object", None)]
    if item.get("from") is not None and item.get("role") is None:
        others = {key: value for key, value in item.items() if key not in SHAREGPT}
        said = {SHAREGPT[key]: value for key, value in item.items() if key in SHAREGPT}
        who = said["role"]
        said["role"] = OTHER_ROLES.get(who.strip().lower(), who) if isinstance(who, str) else who
        read_turn = _message({**others, **said}, path)
        return [_in_words_of_sharegpt(fault, path) for fault in read_turn] if isinstance(read_turn, list) else read_turn
    role = item.get("role")
    if isinstance(role, str) and role.lower() in TOOL_ROLES:
        return [(f"`{path}.role` is `{role}`", FUNCTION_CALLING)]
    for key in TOOL_KEYS:
        if item.get(key):
            return [(f"`{path}` has `{key}`", FUNCTION_CALLING)]

    faults = list(lost(item, path)) if len(item) > 2 else []
    if role not in ROLES:
        faults.append(_role_fault(item, path))
    content = text_of_turn(item, path)
    if isinstance(content, str):
        faults += text_faults(content, f"{path}.content", may_be_empty=role == "system")
        return faults or Message(str(role), content)
    return faults + content


def _in_words_of_sharegpt(fault: Fault, path: str) -> Fault:
    """A fault of a turn, which names the keys as the row has them."""
    message, hint = fault
    for theirs, ours in SHAREGPT.items():
        message = message.replace(f"`{path}.{ours}", f"`{path}.{theirs}")
    return message, hint


def text_of_turn(item: dict[str, Any], path: str) -> str | list[Fault]:
    """The text of a turn; text parts are joined as they stand."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    path = f"{path}.content"
    if not isinstance(content, list):
        if "content" in item:
            return [(f"`{path}` is {strict_json.kind(content)}, not text", None)]
        similar = next((key for key in ("text", "value") if key in item), None) or nearest("content", item)
        return [(f"`{path}` is missing", f"a similar key exists: `{_short(similar)}`" if similar else None)]
    faults: list[Fault] = []
    for index, part in enumerate(content):
        where = f"{path}[{index}]"
        if not isinstance(part, dict):
            faults.append((f"`{where}` is {strict_json.kind(part)}, not an object", 'a part is `{"type": "text", …}`'))
        elif part.get("type") != "text":
            faults.append((f"`{where}` is of type `{_short(part.get('type'))}`", "only text can be learned"))
        elif not isinstance(part.get("text"), str):
            faults.append((f"`{where}.text` is {strict_json.kind(part.get('text'))}, not text", None))
    return faults or "".join(part["text"] for part in content)


def lost(item: dict[str, Any], path: str) -> Iterator[Fault]:
    """Keys of a turn that ask for something which would not be done."""
    for key, hint in UNLEARNABLE_KEYS.items():
        if item.get(key):
            yield f"`{path}` has `{key}`, which would be lost", hint
    for key in TURN_SWITCHES:
        value = item.get(key)
        if value is not None and value != 1:
            yield (
                f"`{path}.{key}` is `{_short(value)}`, which is not followed",
                "`dataset.learn` picks the turns to learn",
            )


def _role_fault(item: dict[str, Any], path: str) -> Fault:
    role = item.get("role")
    if "role" not in item:
        similar = nearest("role", item)
        return f"`{path}.role` is missing", f"a similar key exists: `{_short(similar)}`" if similar else None
    if not isinstance(role, str):
        return f"`{path}.role` is {strict_json.kind(role)}, not text", None
    meant = OTHER_ROLES.get(role.strip().lower()) or nearest(role, ROLES)
    hint = f"write `{meant}`" if meant else None
    return f"`{path}.role` is `{_short(role)}`, not `system`, `user` or `assistant`", hint


def text_faults(value: Any, path: str, may_be_empty: bool = False) -> list[Fault]:
    """What is wrong with a text that is to be shown to the model, if anything."""
    if not isinstance(value, str):
        hint = "conversations go in the column `messages`" if isinstance(value, list) else None
        return [(f"`{path}` is {strict_json.kind(value)}, not text", hint)]
    if not may_be_empty and not value.strip():
        return [(f"`{path}` is {'only white space' if value else 'empty'}", None)]
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = (
                f"`{path}` has half of a character at position {error.start + 1}: `\\u{ord(value[error.start]):04x}`"
            )
            return [(message, "an escape of this kind means something only with its other half")]
    return []


def columns_of(row: Row) -> str:
    """The names of a row's columns, for a sentence."""
    names = list(row.values)
    if not names:
        return "no columns"
    more = f" and {len(names) - MOST_COLUMNS} more" if len(names) > MOST_COLUMNS else ""
    return listed(_short(name) for name in names[:MOST_COLUMNS]) + more


def _likely_columns(row: Row, missing: Sequence[str]) -> str | None:
    """A hint at the columns that hold what is missing under other names."""
    if {"instruction", "input"} <= row.values.keys():
        return "make the prompt of the two by `templates`; `tunesmith init` writes that"
    known = {name for needed in COLUMNS.values() for name in needed}
    names = {name.lower(): name for name in row.values if name not in known}
    likely: dict[str, str] = {}
    for column in missing:
        other = next((name for name in (column, *OTHER_COLUMNS[column]) if name in names), None)
        other = other or nearest(column, names)
        if other is not None:
            likely[column] = names.pop(other)
    if len(likely) < len(missing):
        return None
    pairs = ", ".join(
        f"{column}: {_short(name) if PLAIN.fullmatch(name) else json.dumps(_short(name), ensure_ascii=False)}"
        for column, name in likely.items()
    )
    return f"if these columns hold it, set `columns: {{{pairs}}}`"


def _likely_format(row: Row) -> str | None:
    """A hint at what a row without any known column is."""
    if "text" in row.values:
        return "plain text belongs to `task: continued_pretraining`"
    wrapped = next((name for name, value in row.values.items() if _is_rows(value)), None)
    if wrapped is not None:
        return f"if the rows are the list in `{_short(wrapped)}`, save that list alone"
    return _likely_columns(row, COLUMNS["prompt_completion"]) or _likely_columns(row, COLUMNS["messages"])


def _is_rows(value: Any) -> bool:
    """Whether a value is a list of rows, and no conversation."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict) and any(needed in item for columns in COLUMNS.values() for needed in columns)
            for item in value[:MOST_COLUMNS]
        )
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def placed(row: Row, faults: Sequence[Fault]) -> list[Problem]:
    """The faults as problems at the row's place, with its text."""
    place = replace(row.place, text=first_line(text_of(row)))
    return [Problem(message, place, hint) for message, hint in faults]


READERS: dict[str, Callable[[Row], Example | list[Problem]]] = {
    "prompt_completion": _instruction,
    "messages": _chat,
    "prompt": _question,
    "text": _document,
}
COLUMNS = {"prompt_completion": ("prompt", "completion"), "messages": ("messages",)}
