"""A Jinja template and a row's columns in, the text that they make out; or what is wrong with either.

Templates run in Jinja's sandbox, where they reach nothing but the row; `row["a name"]` is a column whose name is no
identifier. A list, an object and a boolean are written as JSON.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.nearest import nearest

Fault = tuple[str, str | None]  # a message and its hint


class Broken(Exception):
    """A template that is none, or that names nothing of a row; with a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def check(text: str) -> frozenset[str]:
    """The columns that a template names. Raises Broken."""
    try:
        names = meta.find_undeclared_variables(_environment().parse(text))
    except TemplateSyntaxError as error:
        reason = (error.message or "it cannot be read").rstrip(".")
        where = f", on its line {error.lineno}" if text.count("\n") > 1 else ""
        raise Broken(f"is no Jinja template{where}: {reason[:1].lower()}{reason[1:]}") from None
    except (TemplateError, RecursionError) as error:
        raise Broken(f"is no Jinja template: {error}") from None
    if not names:
        raise Broken("names no column", "write a column's name in double braces: `{{ question }}`")
    return frozenset(names)


def fill(text: str, values: Mapping[str, Any]) -> str | Fault:
    """The text that a sound template makes of a row."""
    try:
        return _compiled(text).render({"row": values, **values})
    except TemplateError as error:
        missing = sorted(check(text) - {"row", *values})
        similar = nearest(missing[0], values) if missing else None
        hint = f"a similar column exists: `{similar}`" if similar else None
        if missing and not similar:
            hint = f"where only some rows have it, write `{{% if {missing[0]} is defined %}}`"
        return (str(error.message or error).replace("'", "`"), hint)
    except Exception as error:  # whatever a template does to a value that it was not made for
        return (f"{type(error).__name__}: {error}", None)


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_shown)


@functools.lru_cache(maxsize=64)
def _compiled(text: str) -> Template:
    return _environment().from_string(text)


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, bool | dict | list) else value
