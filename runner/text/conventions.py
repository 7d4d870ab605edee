"""A tokenizer in, what its chat template makes of tools and calls out, learned by rendering a conversation with them.

No template says which syntax it writes, whether it wants arguments as an object or as JSON text, or which ids it
takes. So each way is tried, and the first one counts whose calls read back exactly as they were given. Arguments go
in as an object where that will do, as servers give them: a template that writes `arguments | tojson` makes a quoted
text of a text, and one that puts them between two texts fails on an object or writes Python.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from runner import chat_templates
from runner.data.examples import Call, Message
from runner.errors import Problem, RecipeError
from runner.text import calling, rendering, special_tokens
from runner.text.rendering import ANSWERER, Refused


@dataclass(frozen=True)
class Convention:
    """How a template is given calls, and how they are read from what it writes."""

    syntax: str  # a name of `calling.SYNTAXES`
    arguments_as_text: bool
    nine: bool  # ids of calls are nine letters and digits


NAMES = ("weather_probe", "time_probe")
PARAMETERS = ("place_probe", "days_probe")
TOOLS = tuple(
    f'{{"type": "function", "function": {{"name": "{name}", "description": "Looks something up.", "parameters": '
    f'{{"type": "object", "properties": {{"{PARAMETERS[0]}": {{"type": "string", "description": "Where."}}, '
    f'"{PARAMETERS[1]}": {{"type": "integer", "description": "How long."}}}}, "required": ["{PARAMETERS[0]}"]}}}}}}'
    for name in NAMES
)
CALLS = (
    Call(NAMES[0], f'{{"{PARAMETERS[0]}": "Zürich \\"north\\"", "{PARAMETERS[1]}": 3}}', "call_probe_1"),
    Call(NAMES[1], f'{{"{PARAMETERS[1]}": 12, "{PARAMETERS[0]}": "Bern"}}', "call_probe_2"),
)
ASKED = Message("user", "What will it be like?")

_known: weakref.WeakKeyDictionary[Any, tuple[str, Convention]] = weakref.WeakKeyDictionary()


def of(tokenizer: Any) -> Convention:
    """What the tokenizer's template makes of calls. Raises `RecipeError` where it drops tools or calls."""
    template = str(tokenizer.chat_template)
    known = _known.get(tokenizer)
    if known is None or known[0] != template:
        known = (template, _tried(tokenizer))
        _known[tokenizer] = known
    return known[1]


def _tried(tokenizer: Any) -> Convention:
    refusal: Refused | None = None
    drops = "does not show tools to the model"
    for nine, as_text in itertools.product((False, True), repeat=2):
        try:
            if not _shows_tools(tokenizer):
                break
            drops = "drops calls, or writes them in no known syntax"
            syntaxes = _reading(tokenizer, CALLS[:1], nine, as_text)
        except Refused as refused:
            refusal = refusal or refused
            continue
        try:
            both = _reading(tokenizer, CALLS, nine, as_text)
        except Refused:
            both = []  # it takes one call at a time, and will say so of a row with more
        if syntaxes:
            return Convention(next((syntax for syntax in both if syntax in syntaxes), syntaxes[0]), as_text, nine)
    reason = f": {refusal.reason}" if refusal is not None else ""
    raise RecipeError(Problem(f"the model's chat template {drops}{reason}", hint=_hint(tokenizer)))


def _shows_tools(tokenizer: Any) -> bool:
    """Whether the names of tools and parameters stand in a prompt, and only because the tools were given."""
    shown = rendering.apply([ASKED], tokenizer, TOOLS, generate=True)
    bare = rendering.apply([ASKED], tokenizer, generate=True)
    return all(name in shown and name not in bare for name in (*NAMES, *PARAMETERS))


def _reading(tokenizer: Any, calls: tuple[Call, ...], nine: bool, as_text: bool) -> list[str]:
    """The syntaxes that give back the calls from the turn that a template writes of them."""
    messages = rendering.paired(
        [ASKED, Message(ANSWERER, "", calls), *(Message("tool", "mild", (), call.id) for call in calls)], nine
    )
    rendering.apply(messages, tokenizer, TOOLS, generate=True, arguments_as_text=as_text)  # tools can answer, too
    text = rendering.apply(messages[:2], tokenizer, TOOLS, arguments_as_text=as_text)
    turns = list(_turns(text, tokenizer))
    return [syntax for syntax in calling.SYNTAXES if any(_reads(turn, syntax, calls) for turn in turns)]


def _reads(turn: str, syntax: str, calls: tuple[Call, ...]) -> bool:
    found = calling.read(turn, syntax, TOOLS)
    return not isinstance(found, calling.Fault) and calling.difference(calls, found[1]) is None


def _turns(text: str, tokenizer: Any) -> Iterator[str]:
    """What may be the turn: from the end of a prompt for it to each special token behind that, or to the end."""
    special = special_tokens.of(tokenizer)
    for generate in (True, False):
        start = len(commonprefix([rendering.apply([ASKED], tokenizer, TOOLS, generate=generate), text]))
        for found in special.added.finditer(text, start):
            yield text[start : found.start()]
        yield text[start:]


def _hint(tokenizer: Any) -> str:
    if not chat_templates.missing("hermes", tokenizer.get_vocab()):
        return "take one that shows tools and calls: `model.chat_template: hermes`"
    return (
        "take a model that was trained to call tools, such as Qwen 2.5 or 3, Llama 3.1 or Mistral 7B v0.3, "
        "or write a template of your own: `model.chat_template: template.jinja`"
    )
