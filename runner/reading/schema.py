"""Plain values -> what is wrong with them by the keys of a recipe, or the same values with every default filled in.

The only file that imports Cerberus, and the types are our own: its own take `True` for a whole number and NaN for
a number within bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cerberus import TypeDefinition, Validator
from cerberus.errors import BaseErrorHandler, ErrorDefinition, ValidationError

from runner.reading.keys import FULL_RATE, GRPO_STEPS, KEYS, TASK_DEFAULTS
from runner.reading.kinds import Definition, Keys
from runner.reading.source import Path

RULE_NAMES = {0x02: "required", 0x03: "unknown"}  # Cerberus names the first oddly, and the second not at all


@dataclass(frozen=True)
class Failure:
    """A rule that a setting breaks. `rule` is `unknown`, `required`, or the name of a rule in `keys.py`."""

    path: Path
    rule: str
    value: Any


class _Failures(BaseErrorHandler):  # type: ignore[misc]
    """Hands the errors back as they are, without their texts."""

    def __call__(self, errors: Sequence[ValidationError]) -> list[ValidationError]:
        return list(errors)


class _Validator(Validator):  # type: ignore[misc]
    """Cerberus with our types and rules. The docstrings of rules are read by Cerberus: they are schemas.

    A rule meets null too, where a value is missing, and every type that its key allows.
    """

    types_mapping = {
        "text": TypeDefinition("text", (str,), ()),
        "boolean": TypeDefinition("boolean", (bool,), ()),
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "number": TypeDefinition("number", (int, float), (bool,)),
        "list": TypeDefinition("list", (list,), ()),
        "mapping": TypeDefinition("mapping", (dict,), ()),
    }

    def _break(self, field: str, rule: str) -> None:
        self._error(field, ErrorDefinition(0x100, rule))

    def _validate_filled(self, filled: bool, field: str, value: Any) -> None:
        """{'type': 'boolean'}"""
        if filled and (value == [] or (isinstance(value, str) and not value.strip())):
            self._break(field, "filled")

    def _validate_words(self, words: list[str], field: str, value: Any) -> None:
        """{'type': 'list'}"""
        prefix = self.schema[field].get("prefix")
        named = prefix is not None and isinstance(value, str) and value.startswith(prefix) and value != prefix
        if isinstance(value, str) and value not in words and not named:
            self._break(field, "words")

    def _validate_prefix(self, prefix: str, field: str, value: Any) -> None:
        """{'type': 'string'}"""  # of what `words` allows beside them

    def _validate_above(self, bound: float, field: str, value: Any) -> None:
        """{'type': 'number'}"""
        if isinstance(value, int | float) and value <= bound:
            self._break(field, "above")

    def _validate_below(self, bound: float, field: str, value: Any) -> None:
        """{'type': 'number'}"""
        if isinstance(value, int | float) and value >= bound:
            self._break(field, "below")

    def _validate_unique(self, unique: bool, field: str, value: Any) -> None:
        """{'type': 'boolean'}"""
        if unique and isinstance(value, list) and repeated(value) is not None:
            self._break(field, "unique")

    def _validate_pattern(self, pattern: str, field: str, value: Any) -> None:
        """{'type': 'string'}"""
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            self._break(field, "pattern")

    def _validate_finite(self, finite_only: bool, field: str, value: Any) -> None:
        """{'type': 'boolean'}"""
        if finite_only and isinstance(value, int | float) and not finite(value):
            self._break(field, "finite")

    def _normalize_default_setter_alpha(self, adapter: dict[str, Any]) -> Any:
        return 2 * adapter["rank"]

    def _normalize_default_setter_epochs(self, training: dict[str, Any]) -> Any:
        return None if training.get("max_steps") is not None else 3

    def _normalize_coerce_sources(self, value: Any) -> Any:
        items = [value] if isinstance(value, str) else value
        return (
            [{"path": item} if isinstance(item, str) else item for item in items] if isinstance(items, list) else items
        )


def failures(values: Mapping[str, Any]) -> list[Failure]:
    """Every rule that the values break, the first of each setting."""
    validator = _Validator(KEYS, error_handler=_Failures())
    validator.validate(values, normalize=False)
    found = [failure for error in validator.errors for failure in _leaves(error)]
    return list(_first_of_each(found))


def normalized(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every default filled in, and sources as lists of mappings. They break no rule but `required`."""
    filled: dict[str, Any] = _Validator(KEYS).normalized(_with_task_defaults(values), always_return_document=True)
    return filled


def _with_task_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the defaults of their task under them."""
    laid_out = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    task = str(values.get("task"))
    for (section, name), default in TASK_DEFAULTS.get(task, {}).items():
        block = laid_out.setdefault(section, {})
        if isinstance(block, dict):
            block.setdefault(name, default)
    kind = laid_out["adapter"].get("type") if isinstance(laid_out.get("adapter"), dict) else None
    if kind == "full" and isinstance(laid_out.setdefault("training", {}), dict):
        laid_out["training"].setdefault("learning_rate", FULL_RATE)
    if task == "grpo" and isinstance(laid_out["adapter"], dict):
        laid_out["adapter"].setdefault("alpha", laid_out["adapter"]["rank"])
    if task == "grpo" and isinstance(laid_out["training"], dict) and laid_out["training"].get("epochs") is None:
        laid_out["training"].setdefault("max_steps", GRPO_STEPS)
    return laid_out


def definition(path: Path) -> Definition | None:
    """The definition of the key at a path, or None for a key that does not exist."""
    found: Definition = {"type": "mapping", "schema": KEYS}
    for part in path:
        below = found.get("schema", {})
        if isinstance(part, int):
            if not is_list(found):
                return None
            found = below
            continue
        keys = block(found)
        if part not in keys:
            return None
        found = keys[part]
    return found


def block(of: Definition) -> Keys:
    """The keys below a definition; none for one that is no mapping."""
    keys: Keys = of["schema"] if "mapping" in types(of) and "schema" in of else {}
    return keys


def types(of: Definition) -> list[str]:
    """The types that a definition allows."""
    return [of["type"]] if isinstance(of["type"], str) else list(of["type"])


def is_list(of: Definition) -> bool:
    """Whether a definition allows a list."""
    return "list" in types(of)


def walk(keys: Keys = KEYS, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Definition]]:
    """Every key with the path to it, blocks before what is in them; what is in list items is left out."""
    for name, key in keys.items():
        yield (*above, name), key
        yield from walk(block(key), (*above, name))


def finite(value: int | float) -> bool:
    """Whether a number fits a float, and is one."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def repeated(values: list[Any]) -> Any:
    """The first value that stands in a list twice, or None."""
    return next((value for index, value in enumerate(values) if value in values[:index]), None)


def _leaves(error: ValidationError) -> Iterator[Failure]:
    if error.is_group_error:
        for child in error.child_errors:
            yield from _leaves(child)
    else:
        yield Failure(tuple(error.document_path), RULE_NAMES.get(error.code, error.rule), error.value)


def _first_of_each(found: list[Failure]) -> Iterator[Failure]:
    """One failure a setting: a value that is no text is not reported for its pattern as well."""
    seen = set()
    for failure in found:
        if failure.path not in seen:
            seen.add(failure.path)
            yield failure
