"""A rule that a recipe breaks -> the Problem in our own words, with what was found, what would do, and where it is."""

from __future__ import annotations

import re
from typing import Any

from runner import secrets
from runner.errors import Place, Problem, listed
from runner.nearest import bare, nearest
from runner.reading import keys, kinds, schema, syntax
from runner.reading.schema import Failure
from runner.reading.source import Path, Places, closest

LONGEST_SHOWN = 60  # characters of a value in a sentence
MOST_LISTED = 8  # names in a hint

KINDS = {
    "text": "text",
    "boolean": "`true` or `false`",
    "integer": "a whole number",
    "number": "a number",
    "list": "a list",
    "mapping": "a mapping",
}
SWITCH_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d[\d_]*([eE][-+]?\d+)?", re.ASCII)
FIRST_KEYS = {"model": "name", "dataset": "train", "adapter": "type", "output": "directory", "hub": "repository"}
PATTERNS = {
    keys.NAME: "must be 1 to 96 letters, digits, `.`, `_` or `-`, and begin with a letter or digit",
    keys.REPOSITORY: "must be `owner/name`, each of letters, digits, `.`, `_` or `-`",
    keys.VARIABLE: "must be the name of a variable: letters, digits and `_`, and no digit first",
}
# What other tools call our keys.
OTHER_NAMES = {
    "base_model": "model.name",
    "model_name_or_path": "model.name",
    "torch_dtype": "model.dtype",
    "attn_implementation": "model.attention",
    "load_in_4bit": "model.quantization",
    "load_in_8bit": "model.quantization",
    "datasets": "dataset.train",
    "val_set_size": "dataset.evaluation",
    "sequence_len": "dataset.max_length",
    "max_seq_length": "dataset.max_length",
    "cutoff_len": "dataset.max_length",
    "train_on_inputs": "dataset.learn",
    "completion_only_loss": "dataset.learn",
    "r": "adapter.rank",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.target_modules",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.scheduler",
    "lr_scheduler_type": "training.scheduler",
    "optim": "training.optimizer",
    "sample_packing": "training.packing",
    "per_device_train_batch_size": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.batch_size",
    "output_dir": "output.directory",
    "hub_model_id": "output.hub.repository",
    "wandb_project": "tracking.wandb",
}
OTHER_VALUES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "4bit": "nf4",
    "8bit": "int8",
    "flash": "flash_attention_2",
}


def problem(failure: Failure, places: Places) -> Problem:
    """What is wrong, where, and what can be done about it."""
    if failure.rule == "unknown":
        return _unknown(failure, places)
    if failure.rule == "required":
        above = closest(places, failure.path[:-1])
        place = above.key if above else Place(places[()].value.file)
        return Problem(f"missing key `{failure.path[-1]}`{_inside(failure.path)}", place, _example(failure.path))
    written = closest(places, failure.path)
    definition = schema.definition(failure.path)
    assert written is not None and definition is not None  # only what is written and known can break another rule
    message, hint = _broken(failure, definition, places)
    first = FIRST_KEYS.get(str(failure.path[-1])) if schema.types(definition) == ["mapping"] else None
    if first and failure.rule == "type" and hint is None and isinstance(failure.value, str):
        hint = f"write `{{{first}: {shortened(failure.value)}}}`"
    return Problem(f"`{dotted(failure.path)}` {message}", written.value, hint)


def dotted(path: Path) -> str:
    """The path as it is said: `dataset.train[0].weight`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" if text else shortened(part)
    return text


def found(value: Any) -> str:
    """What a value is, in words: the text `three`, the number `3`, a mapping."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"the number `{shortened(_number(value))}`"
    if isinstance(value, str):
        return f"the text `{shortened(value)}`" if value else "an empty text"
    return "a mapping" if isinstance(value, dict) else "a list"


def shortened(text: str) -> str:
    """The text on one line and of a length that fits a sentence."""
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return str(value)
    if not schema.finite(value):
        return ".nan" if value != value else "-.inf" if value < 0 else ".inf"
    return repr(value)


def _inside(path: Path) -> str:
    return f" in `{dotted(path[:-1])}`" if len(path) > 1 else ""


def _example(path: Path) -> str | None:
    examples: dict[Path, str] = {
        ("task",): "write `task: sft`",
        ("model",): "write `model: {name: HuggingFaceTB/SmolLM2-135M-Instruct}`, or a model of your own",
        ("dataset",): "write `dataset: {train: data/train.jsonl}`, with a path or Hub id of your own",
    }
    return examples.get(path)


def _unknown(failure: Failure, places: Places) -> Problem:
    name, path = str(failure.path[-1]), failure.path
    place = places[path].key
    if secrets.names_secret(name):
        bare = Place(place.file, place.line, place.column, place.width)
        hint = "secrets come from the environment, as `HF_TOKEN` or `WANDB_API_KEY`; take the key away"
        return Problem(f"unknown key `{shortened(name)}`{_inside(path)}", bare, hint)
    message = f"unknown key `{shortened(name)}`{_inside(path)}"
    return Problem(message, place, _meant(name, path))


def _meant(name: str, path: Path) -> str | None:
    """A hint at the key that was meant: in the same block, in another, or by the name other tools give it."""
    around = schema.definition(path[:-1])
    here = schema.block(around) if around else {}
    similar = nearest(name, here)
    if similar and bare(similar) == bare(name):
        return f"a similar key exists: `{similar}`"
    item = re.fullmatch(r"(.+)\[(\d+)\]", name, re.ASCII)
    if item and item[1] in here:
        return f"an item of a list is named by its number alone: `{dotted((*path[:-1], item[1]))}.{item[2]}`"
    elsewhere = [other for other, _ in schema.walk() if other[-1] == name and other[:-1] != path[:-1]]
    if elsewhere:
        homes = listed(dotted(other[:-1]) for other in elsewhere if len(other) > 1)
        return f"`{name}` belongs in {homes}" if homes else f"`{name}` belongs at the top of the recipe"
    if name in OTHER_NAMES:
        return f"it is called `{OTHER_NAMES[name]}` here"
    if similar:
        return f"a similar key exists: `{similar}`"
    far = nearest(name, [other[-1] for other, _ in schema.walk()])
    if far:
        home = next(other for other, _ in schema.walk() if other[-1] == far)
        return f"a similar key exists elsewhere: `{dotted(home)}`"
    return f"the keys here are {listed(here)}" if len(here) <= MOST_LISTED else None


def _broken(failure: Failure, definition: kinds.Definition, places: Places) -> tuple[str, str | None]:
    """The rest of the sentence after the key, and a hint."""
    value, rule = failure.value, failure.rule
    if rule == "nullable":
        return "has no value", _remedy(failure, definition)
    if rule in ("type", "words", "allowed"):
        return f"must be {_wanted(definition)}, found {found(value)}", _hint(value, definition)
    if rule == "filled":
        return ("is an empty list" if value == [] else "is an empty text"), _remedy(failure, definition)
    if rule == "finite":
        return f"must be a finite number, found {found(value)}", None
    if rule == "unique":
        return f"names {found(schema.repeated(value))} twice", "keep one of the two"
    if rule == "pattern":
        return f"{PATTERNS[definition['pattern']]}, found {found(value)}", None
    return f"must be {_bounds(definition)}, found {found(value)}", None


def _remedy(failure: Failure, definition: kinds.Definition) -> str:
    if definition.get("required") or isinstance(failure.path[-1], int):
        return "give it a value"
    given = "keys" if "mapping" in schema.types(definition) else "a value"
    return f"give it {given}, or take `{failure.path[-1]}` away for the default"


def _wanted(definition: kinds.Definition) -> str:
    if "allowed" in definition:
        allowed = definition["allowed"]
        if len(allowed) == 1:
            return f"`{allowed[0]}`"
        return f"one of {listed(allowed)}" if len(allowed) <= MOST_LISTED else "a known name"
    if "prefix" in definition:
        return f"a known name, or `{definition['prefix']}` and a name"
    types = schema.types(definition)
    kinds = [KINDS[kind] for kind in types if kind != "text" or "words" not in definition]
    # words come first where they are the usual case, last where they stand in for a number
    words = [f"`{word}`" for word in definition.get("words", ())]
    options = words + kinds if types[0] == "text" else kinds + words
    if "boolean" in types and words:
        options = ["`true`", "`false`", *words]
    if definition.get("nullable") and len(options) == 1 and "mapping" in types:
        options.append("`null`")
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + f" or {options[-1]}"


def _hint(value: Any, definition: kinds.Definition) -> str | None:
    types = schema.types(definition)
    if isinstance(value, str):
        return _hint_for_text(value, definition, types)
    if isinstance(value, dict) and "list" in types:
        return "write it as a list of one item: begin its first line with `- `"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "integer" in types and isinstance(value, float) and schema.finite(value) and value == int(value):
            return f"write `{int(value)}`"
        if types == ["text"] and "allowed" not in definition:
            return "put it in quotes to make it text"
    if value is True and "mapping" in types:
        return "write `{}` for its defaults"
    if isinstance(value, list) and len(value) == 1 and "list" not in types:
        one = isinstance(value[0], dict) == ("mapping" in types)
        return "take the brackets or the `- ` away: it is one value and no list" if one else None
    return None


def _hint_for_text(value: str, definition: kinds.Definition, types: list[str]) -> str | None:
    choices = [*definition.get("allowed", ()), *definition.get("words", ())]
    similar = nearest(value, [choice for choice in choices if isinstance(choice, str)])
    if similar:
        return f"a similar value exists: `{similar}`"
    if OTHER_VALUES.get(value.lower()) in choices:
        return f"it is called `{OTHER_VALUES[value.lower()]}` here"
    if {"number", "integer"} & set(types) and NUMBER.fullmatch(value):
        return f"write `{value.replace('_', '')}`" if "_" in value else f"write `{value}` without quotes"
    if "boolean" in types and value.lower() in ("true", "false"):
        return f"write `{value.lower()}` without quotes"
    if "boolean" in types and value.lower() in SWITCH_WORDS:
        return f"write `{SWITCH_WORDS[value.lower()]}`: in YAML 1.2 `{shortened(value)}` is text"
    if "mapping" in types and syntax.KEY_WITHOUT_SPACE.match(value):
        return syntax.PAIR
    if "list" in types and "text" in types and "words" in definition:
        return f"a list is written `[{shortened(value)}]`"
    if types == ["list"]:
        return f"write `[{shortened(value)}]`"
    if len(definition.get("allowed", ())) > MOST_LISTED:
        return f"the names are {listed(definition['allowed'])}"
    return None


def _bounds(definition: kinds.Definition) -> str:
    low, high = definition.get("min"), definition.get("max")
    above, below = definition.get("above"), definition.get("below")
    if high == kinds.LARGEST:
        high = None
    if low is not None and high is not None:
        return f"from {low} to {high}"
    parts = [
        f"at least {low}" if low is not None else "",
        f"greater than {above}" if above is not None else "",
        f"at most {high}" if high is not None else "",
        f"less than {below}" if below is not None else "",
    ]
    return " and ".join(part for part in parts if part)
