"""The kinds of keys that a recipe has, each a definition in the words of `schema.py`."""

from __future__ import annotations

from typing import Any

Definition = dict[str, Any]
Keys = dict[str, Definition]

LARGEST = 2**63 - 1
UNSET: dict[str, Any] = {"nullable": True, "default": None}


def key(types: str | list[str], help_text: str, **rules: Any) -> Definition:
    return {"type": types, **rules, "meta": {"help": help_text}}


def text(help_text: str, **rules: Any) -> Definition:
    return key("text", help_text, filled=True, **rules)


def choice_or(help_text: str, prefix: str, *choices: str, **rules: Any) -> Definition:
    """One of the choices, or a text that begins with `prefix`."""
    return key("text", help_text, words=list(choices), prefix=prefix, **rules)


def choice(help_text: str, *choices: str, **rules: Any) -> Definition:
    return key("text", help_text, allowed=list(choices), **rules)


def switch(help_text: str, default: bool) -> Definition:
    return key("boolean", help_text, default=default)


def whole(help_text: str, minimum: int, maximum: int = LARGEST, **rules: Any) -> Definition:
    return key("integer", help_text, min=minimum, max=maximum, **rules)


def number(help_text: str, **rules: Any) -> Definition:
    return key("number", help_text, finite=True, **rules)


def whole_or_auto(help_text: str, minimum: int, maximum: int = LARGEST, **rules: Any) -> Definition:
    return key(["integer", "text"], help_text, words=["auto"], min=minimum, max=maximum, **{"default": "auto", **rules})


def switch_or_auto(help_text: str) -> Definition:
    return key(["boolean", "text"], help_text, words=["auto"], default="auto")


def section(help_text: str, keys: Keys, **rules: Any) -> Definition:
    return key("mapping", help_text, schema=keys, **rules)
