"""What every page is made with: the template's surroundings, our own style and script, and data for a script.

A page allows its own style and script by their hashes and nothing else. No text of a recipe, a model or a data set is
anything but text in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runner.report.reading import visible
from runner.secrets import redact


def template(name: str, secrets: Mapping[str, str]) -> Any:
    """The template of a page, which shows no value of `secrets`."""

    def shown(value: Any) -> Any:
        """What the template puts on the page: text with no secret and nothing hidden in it, or markup of our own."""
        return visible(redact(value, secrets)) if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = PackageLoader("runner.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )
    environment.filters["code"] = lambda text: _code(redact(text, secrets))
    return environment.get_template(name)


def own(styles: Sequence[str], script: str) -> dict[str, Markup]:
    """Our style and script, and the hashes by which the page allows them alone."""
    found: dict[str, Markup] = {}
    for name, files in (("style", styles), ("script", (script,))):
        text = "".join((resources.files("runner.report") / file).read_text(encoding="utf-8") for file in files)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found |= {name: Markup(text), f"{name}_hash": Markup(f"'sha256-{digest}'")}
    return found


def as_json(value: Any) -> Markup:
    """JSON that cannot end the element it stands in, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # which stand in texts alone
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _code(text: str) -> Markup:
    """A sentence of ours, in which what stands in backticks is code."""
    parts = visible(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else Markup("{}").format(part)
        for number, part in enumerate(parts)
    )
