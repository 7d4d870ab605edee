"""What columns hold in, the tasks and formats that rows of them could be read for out, the likeliest first.

A proposal is a guess by names and kinds. Whether rows can be read so is found by reading them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.data import formats
from runner.data.calling import formats as calling
from runner.errors import Place, Problem, RecipeError, listed
from runner.init.columns import Column
from runner.nearest import nearest

PROMPTS = ("prompt", *formats.OTHER_COLUMNS["prompt"], "request", "user", "ask")
COMPLETIONS = ("completion", *formats.OTHER_COLUMNS["completion"], "reply", "assistant", "summary", "label")
TEXTS = ("text", *formats.OTHER_COLUMNS["text"])
TURNS = ("messages", *formats.OTHER_COLUMNS["messages"])
LABELS = (
    "label_text",
    "label",
    "labels",
    "category",
    "class",
    "sentiment",
    "intent",
    "topic",
    "rating",
    "stars",
    "tag",
)
CONTEXTS = ("context", "passage", "document", "article", "background", "paragraph")  # read beside a question
INSTRUCTION, INPUT = "instruction", "input"  # Alpaca's: the second is what the first is about
SYSTEMS = ("system", "system_prompt")  # read before a question, too
CHOICES = ("choices", "options")
LETTERS = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ'"  # of choices, in a template
TOOLS = ("tools", "functions")
KINDS = {  # of the columns that a role may be given
    "prompt": ("text",),
    "text": ("text",),
    "messages": ("turns",),
    "completion": ("text", "number", "flag", "list", "object"),
}
HELD = {"turns": "turns", "text": "text", "number": "numbers", "flag": "booleans", "list": "lists", "empty": "nothing"}
PREFERENCE = ("chosen", "rejected")


@dataclass(frozen=True)
class Proposal:
    """One way to read the rows. `columns` and `templates` are those of a recipe."""

    task: str
    because: str  # what tells so, for a sentence
    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    used: tuple[str, ...] = ()  # the columns that it takes
    answer: str | None = None  # of `task: grpo`: the column that rewards compare with
    doubts: tuple[str, ...] = ()  # what could not be known


@dataclass(frozen=True)
class Wanted:
    """What the command line says. `columns`: our name -> the column."""

    task: str | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def propose(columns: Sequence[Column], wanted: Wanted) -> list[Proposal]:
    """Every proposal that goes with what is wanted. Raises RecipeError for columns that are not there."""
    _check(columns, wanted.columns)
    return [
        each if wanted.format is None else replace(each, format=wanted.format)
        for each in _all(columns, wanted.columns)
        if wanted.task in (None, each.task)
        and (
            wanted.format in (None, each.format)
            or (each.task == "function_calling" and calling.is_calling(str(wanted.format)))
        )
    ]


def _check(columns: Sequence[Column], given: Mapping[str, str]) -> None:
    names = [column.name for column in columns]
    kinds = {column.name: column.kind for column in columns}
    for role, name in given.items():
        if name in names and role in KINDS and kinds[name] not in KINDS[role]:
            message = f"`{role}={name}`: the column `{name}` holds {HELD.get(kinds[name], kinds[name])}"
            raise RecipeError(Problem(message, Place("--column"), f"a column of {role} holds {HELD[KINDS[role][0]]}"))
        if name not in names:
            similar = nearest(name, names)
            hint = f"a similar column exists: `{similar}`" if similar else f"the columns are {listed(names[:10])}"
            raise RecipeError(Problem(f"`{role}={name}`: there is no column `{name}`", Place("--column"), hint))


def _all(columns: Sequence[Column], given: Mapping[str, str]) -> Iterator[Proposal]:
    if set(PREFERENCE) <= {column.name for column in columns}:
        columns = [column for column in columns if column.name != PREFERENCE[1]]
    texts = [column for column in columns if column.kind == "text"]
    turns = _by_name(TURNS, [column for column in columns if column.kind == "turns"], given.get("messages"), True)
    yield from _calls(columns, turns, given)
    if turns is not None and not {"prompt", "completion", "text"} & given.keys():
        yield from _chats(columns, turns)
        return
    label = _by_name(LABELS, [column for column in columns if column.is_labels], given.get("completion"))
    rest = [column for column in columns if column.kind not in ("empty", "turns")]
    prompt = _by_name(PROMPTS, texts, given.get("prompt"))
    completion = _by_name(COMPLETIONS, [each for each in rest if each != prompt], given.get("completion"))
    by_name = prompt is not None and completion is not None
    if prompt is None and label is not None:
        others = [each for each in texts if each != label and not each.is_labels]
        prompt, completion = _by_name(TEXTS, others) or max(others, key=_length, default=None), label
    text = _by_name(TEXTS, texts, given.get("text"))
    alone = [each for each in texts if not each.is_labels or each.filled < 1] or texts
    doubts: tuple[str, ...] = ()
    if "text" not in given and (prompt is None or completion is None) and len(texts) == 2 and text is None:
        prompt = prompt or next(each for each in texts if each != completion)
        completion = next(each for each in texts if each != prompt)
        doubts = (f"that `{completion.name}` answers `{prompt.name}` is a guess by their order",)
    if prompt is not None and completion is not None:
        yield from _pairs(columns, prompt, completion, by_name or bool(given), doubts)
    if prompt is not None:
        yield _prompts(prompt, completion)
    if text is None and "prompt" not in given and len(alone) == 1:
        text = alone[0]
    if text is not None:
        why, told = f"`{text.name}` holds text", (_preference(text.name),) if text.name == PREFERENCE[0] else ()
        yield Proposal("continued_pretraining", why, "text", _renamed("text", text), {}, (text.name,), None, told)
    elif prompt is not None:
        why = f"`{prompt.name}` holds text"
        yield Proposal("continued_pretraining", why, "text", _renamed("text", prompt), {}, (prompt.name,))


def _calls(columns: Sequence[Column], turns: Column | None, given: Mapping[str, str]) -> Iterator[Proposal]:
    """Rows with tools or calls; whether there are some is told by reading."""
    names = [column.name for column in columns]
    renamed: dict[str, str] = {}
    if turns is not None and turns.name not in TURNS[:2]:
        renamed["messages"] = turns.name
    tools = given.get("tools") or next((name for name in TOOLS if name in names), None)
    if tools not in (None, "tools"):
        renamed["tools"] = str(tools)
    others = any(all(name in names for name in needed) for needed in calling.COLUMNS.values())
    if turns is not None or others:
        used = tuple(
            name for name in names if name in (*TURNS, *TOOLS, "system", "query", "answers", *renamed.values())
        )
        yield Proposal("function_calling", "rows have tools or calls of them", "auto", renamed, {}, used)


def _chats(columns: Sequence[Column], turns: Column) -> Iterator[Proposal]:
    why = f"`{turns.name}` holds conversations"
    doubts = (_preference(turns.name),) if turns.name == PREFERENCE[0] else ()
    yield Proposal("sft", why, "messages", _renamed("messages", turns), {}, (turns.name,), None, doubts)
    yield Proposal("grpo", why, "prompt", _renamed("prompt", turns), {}, (turns.name,))


def _pairs(
    columns: Sequence[Column], prompt: Column, completion: Column, by_name: bool, doubts: tuple[str, ...]
) -> Iterator[Proposal]:
    named, made = _asked(columns, prompt, completion)
    shown = [f"{{{{ {each.in_template} }}}}" for each in columns]
    within = [each.name for each, text in zip(columns, shown, strict=True) if made and text in made["prompt"]]
    choices = [name for name in CHOICES if made and f" in {name} %}}" in made["prompt"]]
    answered = _renamed("completion", completion) if completion.kind == "text" else {}
    written = {} if completion.kind == "text" else {"completion": f"{{{{ {completion.in_template} }}}}"}
    if choices and completion.kind == "number":
        written = {"completion": f"{{{{ {LETTERS}[{completion.in_template}] }}}}"}
    because = f"`{prompt.name}` asks and `{completion.name}` answers"
    if completion.is_labels and not by_name:
        because = f"`{prompt.name}` holds texts, and `{completion.name}` one of {completion.distinct} labels"
    if completion.name == PREFERENCE[0]:
        doubts = (*doubts, _preference(completion.name))
    verdicts = [each.name for each in columns if each.kind == "flag" and each.name in LABELS and each != completion]
    if verdicts:
        doubts = (*doubts, f"`{verdicts[0]}` is not looked at: answers that it says no to are learned as well")
    taken = tuple(dict.fromkeys([prompt.name, *within, *choices, completion.name]))
    yield Proposal("sft", because, "prompt_completion", {**named, **answered}, {**made, **written}, taken, None, doubts)
    # rewards look at columns of the row: what stands in none, or in other words, is made one
    kept = bool(len(completion.parts) > 1 or (choices and written))
    column = "completion" if kept else completion.name
    own = (written or {"completion": f"{{{{ {completion.in_template} }}}}"}) if kept else {}
    yield Proposal("grpo", because, "prompt", named, {**made, **own}, taken, column, doubts)


def _asked(columns: Sequence[Column], prompt: Column, completion: Column) -> tuple[dict[str, str], dict[str, str]]:
    """The prompt as one column, or made of it and of what belongs to it: a system text, what it is about, choices."""
    others = [column for column in columns if column not in (prompt, completion)]
    texts = [column for column in others if column.kind == "text"]
    name = prompt.parts[-1].lower()
    before = [next((column for column in texts if column.parts[-1].lower() in SYSTEMS), None)]
    behind: list[Column | None] = []
    if name == INSTRUCTION:
        behind.append(_by_name((INPUT, *CONTEXTS), texts))
    elif name in ("question", "query"):
        before.append(_by_name(CONTEXTS, texts))
    made = "".join(_part(column, f"{{{{ {column.in_template} }}}}\n\n") for column in before if column)
    made += f"{{{{ {prompt.in_template} }}}}"
    made += "".join(_part(column, f"\n\n{{{{ {column.in_template} }}}}") for column in behind if column)
    listed_choices = next((column for column in others if column.kind == "list" and column.name in CHOICES), None)
    if listed_choices is not None:
        letter = f"{{{{ {LETTERS}[loop.index0] }}}}"
        made += (
            f"\n{{% for choice in {listed_choices.in_template} %}}\n{letter}. {{{{ choice }}}}{{% endfor %}}\nAnswer:"
        )
    return (_renamed("prompt", prompt), {}) if made == f"{{{{ {prompt.in_template} }}}}" else ({}, {"prompt": made})


def _part(column: Column, text: str) -> str:
    """A part of a template, which is left out where a row has nothing for it."""
    if column.filled == 1:
        return text
    there = column.in_template
    return f"{{% if {f'{there} is defined and ' if column.there < 1 else ''}{there} %}}{text}{{% endif %}}"


def _prompts(prompt: Column, completion: Column | None) -> Proposal:
    why = f"`{prompt.name}` asks, and no column answers" if completion is None else f"`{prompt.name}` asks"
    return Proposal("grpo", why, "prompt", _renamed("prompt", prompt), {}, (prompt.name,))


def _preference(name: str) -> str:
    return f"these are preference pairs, and no task learns from `{PREFERENCE[1]}`: the answers in `{name}` are learned"


def _renamed(role: str, column: Column) -> dict[str, str]:
    return {} if column.name == role else {role: column.name}


def _by_name(
    names: Sequence[str], columns: Sequence[Column], given: str | None = None, otherwise_first: bool = False
) -> Column | None:
    """The column that is given; or called by one of the names; or has one among the words of its name, or above it."""
    if given is not None:
        return next((column for column in columns if column.name == given), None)
    for name in names:
        if found := next((column for column in columns if column.parts[-1].strip().lower() == name), None):
            return found
    for name in names:
        if found := next((column for column in columns if name in _words(column.parts[-1])), None):
            return found
    for name in names:
        if found := next((column for column in columns if name in column.parts), None):
            return found
    return columns[0] if otherwise_first and columns else None


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))]


def _length(column: Column) -> float:
    return column.characters
