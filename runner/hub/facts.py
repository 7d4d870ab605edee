"""What a model card says of a run, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from runner.hub.licences import Licence

FULL = "full"  # the type of what is no adapter: all weights were trained


@dataclass(frozen=True)
class Score:
    """One metric of both models. What was not measured, or cannot be told from so few rows, is None."""

    base: float | None
    adapter: float | None
    rows: int | None = None  # that count
    difference: tuple[float, float] | None = None  # the 95 % interval of adapter less base
    verdict: str | None = None  # better | worse | within noise
    base_interval: tuple[float, float] | None = None  # 95 %
    adapter_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Source:
    """A file or data set that the adapter was trained or scored on."""

    name: str  # a path, or a Hub id
    use: str  # training, scores, or both
    read: int | None  # rows
    kept: int | None
    digest: str | None
    licence: Licence


@dataclass(frozen=True)
class Facts:
    """What a card says. Names in `settings`, `versions` and `ledger` are shown as they are, in their order."""

    name: str
    task: str
    base_model: str  # a Hub id, or a path
    base_model_is_hub_id: bool
    revision: str | None  # of the base model
    adapter_type: str
    recipe_text: str  # as the person wrote it
    overrides: tuple[str, ...]  # what was laid over it, as `--set` takes it
    datasets: tuple[str, ...]  # Hub ids
    scores: Mapping[str, Score]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    ledger: Mapping[str, Any]  # training and held-out rows, learned tokens
    tool_version: str
    sources: tuple[Source, ...] = ()
    repository: str | None = None  # where the adapter is pushed to, and its branch
    branch: str = "main"
    rank: int = 0  # of the adapter
    embeddings: bool = False  # whether they were trained, and are in the adapter whole
    tokens: int = 0  # that were added to the base model's
    chat: bool = False  # whether rows were rendered with the chat template
    own_template: bool = False  # whether that is another one than the base model's
    calls: str | None = None  # the syntax of the calls of tools that it writes
    longest: int | None = None  # tokens of a row in training
    overlap: int = 0  # held-out rows that were trained on as well, word for word
    quantization: str = "none"  # of the base model's weights in training
    base_licence: Licence = Licence()
    license: str | None = None  # of what is published; chosen by nobody but whoever publishes it


def base_is_on_hub(facts: Facts) -> bool:
    """Whether the base model can be named so that a stranger finds it."""
    return facts.base_model_is_hub_id and is_hub_id(facts.base_model)


def base_name(facts: Facts) -> str:
    """The base model's Hub id, or the last name of its path."""
    return facts.base_model if base_is_on_hub(facts) else PurePath(facts.base_model).name


def is_hub_id(text: str) -> bool:
    """Whether the Hub takes a text for the name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return all(part[:1].isalnum() for part in text.split("/"))  # the client lets `_` begin a name, the Hub does not
