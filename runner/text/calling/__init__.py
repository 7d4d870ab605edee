"""What a model wrote -> its content and its calls of tools, in the syntax that its chat template writes them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.data.examples import Call
from runner.text.calling import exact, json_syntaxes, parameter_tags, pythonic
from runner.text.calling.faults import Broken, Fault

__all__ = ["SYNTAXES", "Fault", "difference", "read"]

Reader = Callable[[str, Sequence[str]], tuple[str, list[Call]]]

# Where several read a text alike, the first one counts.
SYNTAXES: dict[str, Reader] = {
    "hermes": json_syntaxes.hermes,
    "mistral": json_syntaxes.mistral,
    "xml": parameter_tags.read,
    "llama": json_syntaxes.llama,
    "pythonic": pythonic.read,
}

SHOWN = 80  # characters of a call in a sentence


def read(text: str, syntax: str, tools: Sequence[str] = ()) -> tuple[str, tuple[Call, ...]] | Fault:
    """The content of an assistant turn, less the white space round it, and its calls in order; or what breaks a call.

    `text` is the turn without the token that ends it, special tokens of calls included. `tools` are JSON objects, as
    in `Chat`: `xml` does not say the types of its values, which are those of the tool's parameters. Arguments are the
    JSON text that stands in the turn, or for `xml` and `pythonic` JSON of the values that do.
    """
    try:
        content, calls = SYNTAXES[syntax](text, tools)
    except Broken as broken:
        return Fault(str(broken))
    except RecursionError:
        return Fault("values are nested too deeply")
    return content.strip(), tuple(calls)


def difference(wanted: Sequence[Call], found: Sequence[Call]) -> str | None:
    """How calls differ from those that were wanted: in number, name, order or arguments. `None` if in nothing."""
    if len(wanted) != len(found):
        return f"{_counted(len(wanted))} wanted, and {_counted(len(found))} found"
    for number, (one, other) in enumerate(zip(wanted, found, strict=True), 1):
        if one.name != other.name or not exact.same(one.arguments, other.arguments):
            return f"call {number} is {_shown(one)}, and comes back as {_shown(other)}"
    return None


def _counted(number: int) -> str:
    return {0: "no call", 1: "1 call"}.get(number, f"{number} calls")


def _shown(call: Call) -> str:
    text = f"{call.name} {call.arguments}"
    return f"`{text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}`"
