"""The keys of a recipe -> a page of reference in Markdown: `docs/recipe.md`, by `tunesmith schema --markdown`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.reading.keys import CALLING_FORMATS, FULL_RATE, GRPO_STEPS, KEYS, REWARD, SOURCE, TASK_DEFAULTS
from runner.reading.kinds import LARGEST, Definition, Keys
from runner.reading.schema import block, types
from runner.reading.sentences import KINDS

FILE = Path(__file__).parents[2] / "docs" / "recipe.md"
FEW = 8  # choices that fit into a table
# Defaults that are computed, by the keys that others depend on.
COMPUTED = {
    "adapter.alpha": "twice `adapter.rank`; `grpo`: the rank",
    "training.epochs": f"3, unless `max_steps` is set; `grpo`: none, and {GRPO_STEPS} steps",
    "name": "the file's name",
}
ALSO = {"training.learning_rate": ("adapter.type: full", FULL_RATE)}

HEAD = """\
# Every key of a recipe

This page is made from the keys themselves: `tunesmith schema --markdown` prints it. A recipe needs `task`, `model.name`
and `dataset.train`; all else has a default, and an unknown key is a fault. Relative paths are relative to the recipe's
directory. `--set training.epochs=1` lays a value over a key, and `--set training.epochs=null` puts its default back.
[recipes/](../recipes/) has recipes that run, and `tunesmith init` writes one for your data.

```yaml
task: sft
model: {name: HuggingFaceTB/SmolLM2-135M-Instruct}
dataset:
  train:
    - rows.jsonl                                    # a file, a glob or a directory
    - {path: HuggingFaceTB/smoltalk, split: train, weight: 0.1}    # a data set of the Hub, a tenth of its rows
```
"""


def text() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    top = {name: key for name, key in KEYS.items() if not block(key) and name != "rewards"}
    yield from _section("", "At the top", top)
    for name, key in KEYS.items():
        if block(key):
            yield from _section(f"{name}.", f"`{name}`", block(key), key["meta"]["help"])
        if name == "dataset":
            help_text = "What an item of `dataset.train` or `dataset.evaluation` may be instead of a path or Hub id."
            items = {
                name: key if name not in ("columns", "templates") else {**key, "schema": {}}
                for name, key in block(SOURCE).items()
            }
            yield from _section("item.", "Items of `dataset.train`", items, help_text)
        if name == "rewards":
            help_text = (
                "Of `task: grpo`, and of `evaluation.rewards`; [rewards.md](rewards.md) says how they are written."
            )
            yield from _section("item.", "Items of `rewards`", block(REWARD), help_text)
    yield "## Long lists of names\n"
    for path, key in _walk(KEYS):
        names = [name for name in (*_choices(key), *_choices(key.get("schema", {}))) if isinstance(name, str)]
        if len(names) > FEW and set(names) != {"auto", *CALLING_FORMATS} and not path.endswith(".format"):
            yield f"`{path}`: {', '.join(f'`{name}`' for name in names)}.\n"
    formats = KEYS["dataset"]["schema"]["format"]["allowed"]
    yield f"`dataset.format`: {', '.join(f'`{name}`' for name in formats)}. [data.md](data.md) has a row of each."


def _section(above: str, title: str, keys: Keys, help_text: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if help_text:
        yield f"{help_text}\n"
    yield "| key | what it may be | default | |"
    yield "|---|---|---|---|"
    for name, key in _walk(keys):
        yield f"| `{name}` | {_values(key)} | {_default(above + name, key)} | {_cell(key['meta']['help'])} |"
    yield ""


def _walk(keys: Keys, above: str = "") -> Iterator[tuple[str, Definition]]:
    """Every key that holds a value, with dots down to it."""
    for name, key in keys.items():
        if block(key) and not (set(types(key)) - {"mapping"}):
            if key.get("nullable"):
                yield above + name, key
            yield from _walk(block(key), f"{above}{name}.")
        else:
            yield above + name, key


def _values(key: Definition) -> str:
    choices = _choices(key)
    if len(choices) > FEW:
        return f"one of {len(choices)} names, see below"
    if choices and ("allowed" in key or types(key) == ["text"]) and "prefix" not in key:
        return " or ".join(", ".join(f"`{_plain(choice)}`" for choice in choices).rsplit(", ", 1))
    said = [f"`{word}`" for word in choices]
    said += [f"`{key['prefix']}…`"] if "prefix" in key else []
    for kind in types(key):
        if kind == "text" and choices:
            continue
        if kind == "mapping":
            said.append("a mapping")
        elif kind in ("integer", "number"):
            said.append(KINDS[kind] + _bounds(key))
        else:
            said.append(KINDS[kind])
    return " or ".join(said)


def _choices(key: Definition) -> list[Any]:
    return list(key.get("allowed") or key.get("words") or ())


def _bounds(key: Definition) -> str:
    low, high = key.get("min"), key.get("max")
    said = []
    if low is not None and high not in (None, LARGEST):
        return f", {_plain(low)} to {_plain(high)}"
    said += [f"{_plain(low)} or more"] if low is not None else []
    said += [f"above {_plain(key['above'])}"] if "above" in key else []
    said += [f"below {_plain(key['below'])}"] if "below" in key else []
    said += [f"at most {_plain(high)}"] if high not in (None, LARGEST) else []
    return ", " + " and ".join(said) if said else ""


def _default(path: str, key: Definition) -> str:
    if key.get("required"):
        return "**needed**"
    own = COMPUTED.get(path)
    if own is None:
        value = key.get("default")
        own = "" if value in (None, {}, []) else f"`{_plain(value)}`"
    section, _, name = path.partition(".")
    said = [own] if own else []
    for task, defaults in TASK_DEFAULTS.items():
        if (section, name) in defaults:
            said.append(f"`{task}`: `{_plain(defaults[section, name])}`")
    if path in ALSO:
        said.append(f"`{ALSO[path][0]}`: `{_plain(ALSO[path][1])}`")
    return "; ".join(said)


def _plain(value: Any) -> str:
    """A value as a recipe writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:g}".replace("e-05", "e-5")
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
