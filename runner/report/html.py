"""What every page is made with: the template's surroundings, our own style and script, and data for a script.

A page allows its own style and script by their hashes and nothing else. No text of a recipe, a model or a data set is
anything but text in it.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import runner
from runner import runfile
from runner.errors import Problem, RunError
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
    environment.filters["flat"] = lambda row: [row[0], *row[1]]
    environment.filters["code"] = lambda text: _code(redact(text, secrets))
    return environment.get_template(name)


def own(styles: Sequence[str], **scripts: str) -> dict[str, Any]:
    """Our style and scripts by name, the hash of each by which the page allows it alone, and what made the page."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    found: dict[str, Any] = {"made": f"Tunesmith {runner.__version__}, {now}"}
    for name, files in {"style": styles, **{name: (script,) for name, script in scripts.items()}}.items():
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


def write(target: Path, page: str, resolved: bool, option: str = "--output") -> None:
    """Put a page into a file in one piece; `resolved` follows a link. Raises RunError, which names the option."""
    try:
        place = target.resolve() if resolved else target
        if place.exists() and not place.is_file():
            raise OSError(errno.EINVAL, "it is no regular file")
        runfile.write(place, page)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        hint = f"name a file that this user may write with `{option}`"
        raise RunError(Problem(f"cannot write `{target}`: {reason.lower()}", hint=hint)) from error


def _code(text: str) -> Markup:
    """A sentence of ours, in which what stands in backticks is code."""
    parts = visible(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else Markup("{}").format(part)
        for number, part in enumerate(parts)
    )
