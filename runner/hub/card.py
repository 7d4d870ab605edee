"""The facts of a finished run in, `README.md` of the adapter out: the model card that the Hub shows.

The metadata holds only what the Hub takes: ids of the Hub, and numbers. The body says what the adapter is, how it
scores beside the base model, how to load it, what it was trained on, where it ends, whose licences are on it, and the
recipe that makes it again. A card is read by strangers: it holds no secret, and of a local path only the last name.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.hub import loading
from runner.hub.facts import FULL, Facts, Score, base_is_on_hub, base_name, is_hub_id
from runner.hub.licences import Licence
from runner.hub.markdown import Words, code, fenced, plain, public, table
from runner.secrets import redact

MOST_SOURCES = 20  # that are listed
NOT_TOLD = Words("not told")
VERDICTS = {"better": "better than its base model in", "worse": "worse in", "within noise": "within noise of it in"}
METRIC_NAMES = {
    "exact_match": "exact match",
    "json_valid": "valid JSON",
    "json_match": "matching JSON",
    "token_f1": "F1 of words",
    "rouge_l": "ROUGE-L",
    "numeric_match": "matching number",
    "choice_accuracy": "accuracy of choices",
    "json_schema": "JSON that fits the schema",
    "call_parsed": "calls that can be read",
    "call_name": "calls of the right tools",
    "call_arguments": "calls with the right arguments",
    "call_match": "right calls",
    "no_call_precision": "precision of not calling",
    "no_call_recall": "recall of not calling",
}


def write(directory: Path, facts: Facts, environment: Mapping[str, str] | None = None) -> None:
    """Write `directory/README.md`, over the one that PEFT leaves there.

    `environment` is where the values of secrets are looked up, by default this process's own. Raises `OSError`
    where the file cannot be written.
    """
    from huggingface_hub import ModelCard

    secrets = os.environ if environment is None else environment
    facts = _clean(facts, secrets)
    card = ModelCard(f"---\n{_metadata(facts)}\n---\n\n{redact(_body(facts), secrets)}")
    card.save(directory / "README.md")


def _metadata(facts: Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    datasets = [name for name in facts.datasets if is_hub_id(name)]
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=datasets[0] if len(datasets) == 1 else "held-out",
            dataset_name="held-out rows",
            metric_type=metric,
            metric_name=METRIC_NAMES.get(metric, metric),
            metric_value=score.adapter,
        )
        for metric, score in facts.scores.items()
        if score.adapter is not None and math.isfinite(score.adapter)
    ]
    base = facts.base_model if base_is_on_hub(facts) else None
    full = facts.adapter_type == FULL
    data = ModelCardData(
        base_model=base,
        base_model_relation=("finetune" if full else "adapter") if base else None,
        library_name="transformers" if full else "peft",
        pipeline_tag="text-generation",
        tags=["tunesmith", *(() if full else ("lora",)), facts.adapter_type, facts.task.replace("_", "-")],
        datasets=datasets or None,
        license=facts.license,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _body(facts: Facts) -> str:
    parts = [
        f"# {plain(facts.name)}",
        _summary(facts),
        *_scores(facts),
        *loading.sections(facts),
        *_data(facts),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(facts)),
        *_licences(facts),
        "## How it was made",
        table(("", "value"), facts.ledger.items()),
        table(("setting", "value"), facts.settings.items()),
        table(("library", "version"), facts.versions.items()),
        "To make it again, save the recipe as `recipe.yaml` where the paths in it lead to the data, and run:",
        fenced(_command(facts), "sh"),
        fenced(facts.recipe_text.replace("\r\n", "\n").replace("\r", "\n").strip("\n"), "yaml"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _command(facts: Facts) -> str:
    """The command of the run, in which a local path is but its last name."""
    parts = ["tunesmith train recipe.yaml"]
    for text in facts.overrides:
        key, equals, value = text.partition("=")
        parts.append(f"--set {shlex.quote(key + equals + public(value))}")
    return " \\\n    ".join(parts)


def _summary(facts: Facts) -> str:
    base = code(base_name(facts))
    kind = f"A {facts.adapter_type} adapter for {base}, trained"
    if facts.adapter_type == FULL:
        kind = f"{base}, all of whose weights were trained"
    told = {verdict: [name for name, score in facts.scores.items() if score.verdict == verdict] for verdict in VERDICTS}
    found = [
        f"{VERDICTS[verdict]} {', '.join(plain(_named(name)) for name in names)}"
        for verdict, names in told.items()
        if names
    ]
    scored = f" On rows held out of training it is {'; '.join(found)}." if found else ""
    return f"{kind} on the task {code(facts.task)} with Tunesmith {plain(facts.tool_version)}.{scored}"


def _scores(facts: Facts) -> list[str]:
    if not facts.scores:
        return []
    rows = [
        (
            Words(_named(metric)),
            Words(_with_interval(score.base, score.base_interval)),
            Words(_with_interval(score.adapter, score.adapter_interval)),
            Words(_difference(score)),
            Words(score.verdict or NOT_TOLD),
            score.rows or NOT_TOLD,
        )
        for metric, score in facts.scores.items()
    ]
    head = ("metric", "base model", "this model", "difference, 95 % interval", "this model is", "rows")
    return [
        "## Scores",
        "On rows that were held out of training, with 95 % intervals. They come from drawing rows again, the same for "
        "both models, and tell what other such rows would give. A difference whose interval holds 0 is within noise.",
        table(head, rows),
    ]


def _data(facts: Facts) -> list[str]:
    rows = []
    for each in facts.sources[:MOST_SOURCES]:
        known = (NOT_TOLD if value is None else value for value in (each.read, each.kept, each.digest))
        rows.append((each.name, Words(each.use), *known))
    what = "What it was trained on and scored by. Rows that were not kept could not be read, or did not fit."
    more = len(facts.sources) - len(rows)
    left_out = f"{more} more files are not listed." if more else ""
    return ["## Data", what, table(("data", "used for", "rows", "kept", "SHA-256"), rows), left_out] if rows else []


def _limits(facts: Facts) -> Iterator[str]:
    """What is known of where it ends, and that nothing else is."""
    if not facts.scores:
        yield "It was not scored: how good it is at its task is unknown."
    for verdict, sentence in (
        ("worse", "It is worse than its base model in"),
        ("within noise", "It cannot be told from its base model, by these rows, in"),
    ):
        if names := [plain(_named(name)) for name, score in facts.scores.items() if score.verdict == verdict]:
            yield f"{sentence} {', '.join(names)}."
    if facts.overlap:
        yield f"{facts.overlap} held-out rows were trained on as well, word for word: its scores may be better for it."
    if facts.longest:
        yield f"The longest row of training has {facts.longest} tokens: beyond that it is untried."
    if facts.quantization != "none":
        yield f"It was trained on a base model of {code(facts.quantization)} weights, and is shown here on plain ones."
    if facts.adapter_type != FULL:
        yield (
            "It works on its own base model alone, of the revision that is named here."
            if facts.revision
            else ("It works on its own base model alone.")
        )
    yield (
        "Nothing but the metrics above was measured: no other task or language, no safety. What the base model gets "
        "wrong, it may get wrong too."
    )


def _licences(facts: Facts) -> list[str]:
    rows = [(base_name(facts), Words("base model"), *_told(facts.base_licence))]
    rows += [(each.name, Words("data"), *_told(each.licence)) for each in facts.sources[:MOST_SOURCES]]
    chosen = (
        "No licence is named for what was trained here. Whoever publishes it chooses one that those above allow, and "
        "finds out the ones that are unknown."
    )
    return ["## Licences", table(("of", "which is", "licence", "told by"), rows), "" if facts.license else chosen]


def _told(licence: Licence) -> tuple[str, str]:
    name: str = Words("unknown")
    if licence.name is not None:
        name = f"{licence.name} ({licence.link})" if licence.link else licence.name
    return name, Words(licence.told_by or "nothing on the machine that trained it")


def _named(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric)


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" + (f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else "")


def _difference(score: Score) -> str:
    if score.difference is None:
        return NOT_TOLD
    return " to ".join(f"{end:+.3g}" if end else "0" for end in score.difference)


def _clean(value: Any, secrets: Mapping[str, str]) -> Any:
    """The same value with secrets masked, and nothing in its texts that cannot be written as UTF-8."""
    if isinstance(value, str):
        return redact(value.encode("utf-8", "replace").decode("utf-8"), secrets)
    if isinstance(value, Mapping):
        return {_clean(key, secrets): _clean(item, secrets) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _clean(item, secrets) for name, item in vars(value).items()})
    if isinstance(value, tuple):
        return tuple(_clean(item, secrets) for item in value)
    return [_clean(item, secrets) for item in value] if isinstance(value, list) else value
