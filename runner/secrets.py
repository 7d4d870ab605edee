"""Text in, the secrets in it out: found and refused in a recipe, masked in all that a run prints, writes or pushes.

A secret is known by its shape, by the name of the environment variable that holds it, or by its place in an address.
`holds_secret` and `hide` know shapes alone, and are for recipes, whose meaning must not depend on an environment.
`redact` knows all three, and is for whatever leaves the run.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TextIO, cast
from urllib.parse import quote, unquote

# Tokens that say what they are: Hugging Face, OpenAI and Anthropic, AWS, GitHub, GitLab, Slack, Google, and
# Weights & Biases.
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|A[KS]IA[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35}|wandb_v1_[A-Za-z0-9_-]{30,})"
)
# A Weights & Biases key of the old kind looks like a git commit, so it counts only where no commit can stand.
COMMIT_OR_KEY = re.compile(r"(?<![\w/.-])[0-9a-f]{40}(?![\w/.-])")
COMMIT_KEY = "revision"
SECRET_KEY = re.compile(r"token|api_?key|access_?key|private_?key|secret|passw(?:or)?d|credential")
# What names of variables add: `PGPASS`, `JENKINS_PAT`; and those that name a place or an account and not a secret.
SECRET_VARIABLE = re.compile(r"(?:^|_)(?:KEY|PAT|PASS|AUTH|DSN|JWT)$|PASS$")
NAME_OF_A_PLACE = re.compile(r"_(?:FILE|PATH|DIR|URL|URI|ID|NAME|HOST|PORT|TYPE|SOCK)$")
# All up to the last `@` before the host: a password may hold one itself. Without a colon a long word is a token.
LOGIN = re.compile(r"(?<=://)(?:[^\s/?#\"'<>@:]*:[^\s/?#\"'<>]*|[^\s/?#\"'<>@:]{16,})(?=@)")

MASK = "[redacted]"
SHORTEST_SECRET = 8  # characters; shorter values are words such as `false`, and masking them would hide the text
SHORTEST_LINE = 16  # characters of one line of a secret that has several, such as a private key


def holds_secret(value: str, key: str = "") -> bool:
    """Whether a text value holds something shaped like a secret; `key` is the last key on the way to it."""
    if SHAPES.search(value) or LOGIN.search(value):
        return True
    return key != COMMIT_KEY and COMMIT_OR_KEY.fullmatch(value.strip()) is not None


def names_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret; `tokenizer` and `max_new_tokens` do not."""
    return SECRET_KEY.search(key.lower().replace("-", "_").replace("tokens", "").replace("tokeniz", "")) is not None


def names_a_secret(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret, and not the place where one lies."""
    name = variable.upper()
    return NAME_OF_A_PLACE.search(name) is None and (names_secret(name) or SECRET_VARIABLE.search(name) is not None)


def hide(text: str) -> str:
    """The text with a star for each character of a secret, so that columns stay where they were."""
    for shape in (SHAPES, LOGIN):
        text = shape.sub(lambda match: "*" * len(match.group()), text)
    if COMMIT_KEY in text:
        return text
    return COMMIT_OR_KEY.sub(lambda match: "*" * len(match.group()), text)


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every secret replaced by `[redacted]`.

    A secret is the value of an environment variable whose name says so (`HF_TOKEN`, `…_API_KEY`, `…_PASSWORD`),
    as it is, in JSON or in an address; the login in an address, and in the environment's addresses its password by
    itself; and any text that has the shape of a known kind of token. Secrets that overlap are masked as one, so that
    no part of either is left.
    """
    return masker(environment)(text)


def cleaned(value: Any, environment: Mapping[str, str]) -> Any:
    """The same value of JSON with the secrets in its texts masked, names included."""
    mask = masker(environment)

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return mask(value)
        if isinstance(value, Mapping):
            return {mask(str(key)): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list | tuple) else value

    return clean(value)


def holding(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that hold a secret, for whoever goes through them often."""
    return {name: value for name, value in environment.items() if names_a_secret(name) or LOGIN.search(value)}


def masker(environment: Mapping[str, str]) -> Callable[[str], str]:
    """`redact` for one environment, made once for many texts."""
    return _masker(frozenset(_values(environment)))


@contextmanager
def masked_output(environment: Mapping[str, str]) -> Iterator[None]:
    """Mask what this process prints while the block runs, and after an exception, whose traceback is still to come."""
    mask, before = masker(environment), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = (cast(TextIO, _Masked(stream, mask)) for stream in before)
    try:
        yield
    except SystemExit:
        sys.stdout, sys.stderr = before
        raise
    sys.stdout, sys.stderr = before


class _Masked:
    """A text stream that writes what it is given without secrets, a call at a time."""

    def __init__(self, stream: TextIO, mask: Callable[[str], str]) -> None:
        self._stream, self._mask = stream, mask

    def write(self, text: str) -> int:
        self._stream.write(self._mask(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@lru_cache(maxsize=8)
def _masker(values: frozenset[str]) -> Callable[[str], str]:
    written = {form for value in values for form in (value, json.dumps(value)[1:-1], quote(value, safe=""))}

    def places(text: str) -> Iterator[tuple[int, int]]:
        for shape in (SHAPES, LOGIN):
            yield from (match.span() for match in shape.finditer(text))
        for form in written:
            start = text.find(form)
            while start >= 0:
                yield start, start + len(form)
                start = text.find(form, start + 1)

    def mask(text: str) -> str:
        parts, end = [], 0
        for first, last in sorted(places(text)):
            if first >= end:
                parts += [text[end:first], MASK]
            end = max(end, last)
        return "".join([*parts, text[end:]])

    return mask


def _values(environment: Mapping[str, str]) -> Iterator[str]:
    """The secrets that an environment holds. A file's path is none, whatever its variable is called."""
    for name, value in environment.items():
        found = []
        if names_a_secret(name) and not (value.startswith("/") and os.path.exists(value)):
            found = [value.strip(), *(line for line in value.split("\n") if len(line.strip()) >= SHORTEST_LINE)]
        elif login := LOGIN.search(value):
            found = [login.group().partition(":")[2], unquote(login.group().partition(":")[2])]
        yield from (each.strip() for each in found if len(each.strip()) >= SHORTEST_SECRET)
