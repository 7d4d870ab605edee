"""The facts of a finished run in, `README.md` of the adapter out: the model card that the Hub shows.

The metadata holds only what the Hub takes: ids of the Hub, and numbers. The body says what the adapter is, how to
load it, what it was trained on, how it scores beside the base model, and the recipe that makes it again. A card is
read by strangers, so it holds no secret, and of a local path only the last name.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from runner.secrets import redact

FULL = "full"  # the type of what is no adapter: all weights were trained
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


@dataclass(frozen=True)
class Score:
    """One metric of both models. What was not measured, or cannot be told from so few rows, is None."""

    base: float | None
    adapter: float | None
    rows: int | None = None  # that count
    difference: tuple[float, float] | None = None  # the 95 % interval of adapter less base
    verdict: str | None = None  # better | worse | within noise


@dataclass(frozen=True)
class Facts:
    """What a card says. Names in `settings`, `versions`, `ledger` and `data` are shown as they are, in their order."""

    name: str
    task: str
    base_model: str  # a Hub id, or a path
    base_model_is_hub_id: bool
    revision: str | None  # of the base model
    adapter_type: str
    recipe_text: str  # as the person wrote it
    datasets: tuple[str, ...]  # Hub ids
    scores: Mapping[str, Score]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    ledger: Mapping[str, Any]  # rows read, kept and dropped, learned tokens, steps
    data: Mapping[str, str]  # name of a file or data set -> its hash
    tool_version: str
    repository: str | None = None  # where the adapter is pushed to, and its branch
    branch: str = "main"
    tokens: int = 0  # that were added to the base model's
    chat: bool = False  # whether rows were rendered with the chat template
    license: str | None = None


def write(directory: Path, facts: Facts, environment: Mapping[str, str] | None = None) -> None:
    """Write `directory/README.md`, over the one that PEFT leaves there.

    `environment` is where the values of secrets are looked up, by default this process's own. Raises `OSError`
    where the file cannot be written.
    """
    from huggingface_hub import ModelCard

    secrets = os.environ if environment is None else environment
    facts = replace(facts, **{name: _clean(value, secrets) for name, value in vars(facts).items()})
    card = ModelCard(f"---\n{_metadata(facts)}\n---\n\n{redact(_body(facts), secrets)}")
    card.save(directory / "README.md")


def _metadata(facts: Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    datasets = [name for name in facts.datasets if _is_hub_id(name)]
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
    base = facts.base_model if _base_is_on_hub(facts) else None
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
    base = facts.base_model if _base_is_on_hub(facts) else PurePath(facts.base_model).name
    kind = f"A {facts.adapter_type} adapter for {_code(base)}, trained"
    if facts.adapter_type == FULL:
        kind = f"{_code(base)}, all of whose weights were trained"
    parts = [
        f"# {_plain(facts.name)}",
        f"{kind} on the task {_code(facts.task)} with Tunesmith {_plain(facts.tool_version)}.",
        "## Load it",
        _base_remark(facts),
        _fenced(_snippet(facts), "python"),
        *_scores(facts),
        "## Training",
        _table(("", "value"), facts.ledger.items()),
        _table(("data", "hash"), ((_public(name), value) for name, value in facts.data.items())),
        _table(("setting", "value"), facts.settings.items()),
        _table(("library", "version"), facts.versions.items()),
        "## Make it again",
        "Save the recipe as `recipe.yaml` where the paths in it lead to the data, and run:",
        _fenced("tunesmith train recipe.yaml", "sh"),
        _fenced(facts.recipe_text.replace("\r\n", "\n").replace("\r", "\n").strip("\n"), "yaml"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _base_remark(facts: Facts) -> str:
    if _base_is_on_hub(facts) or facts.adapter_type == FULL:
        return ""
    name = PurePath(facts.base_model).name
    return f"The base model is a local copy, {_code(name)}, which is not on the Hub: put its place into the code."


def _snippet(facts: Facts) -> str:
    """Python that loads the adapter and generates from it."""
    place = facts.repository or "path/to/this/directory"
    branch = "" if facts.branch == "main" or not facts.repository else f", revision={facts.branch!r}"
    if _base_is_on_hub(facts):
        base = repr(facts.base_model) + (f", revision={facts.revision!r}" if facts.revision else "")
    elif facts.base_model.endswith(".gguf"):
        base = f"'path/to/its/directory', gguf_file={PurePath(facts.base_model).name!r}"
    else:
        base = repr(f"path/to/{PurePath(facts.base_model).name}")
    prompt = 'inputs = tokenizer("Hello", return_tensors="pt")'
    if facts.chat:
        prompt = (
            'messages = [{"role": "user", "content": "Hello"}]\n'
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
            ")"
        )
    generate = (
        f"{prompt}\n"
        "output = model.generate(**inputs, max_new_tokens=100)\n"
        'print(tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )
    if facts.adapter_type == FULL:
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"place = {place!r}\n"
            f"tokenizer = AutoTokenizer.from_pretrained(place{branch})\n"
            f'model = AutoModelForCausalLM.from_pretrained(place{branch}, dtype="auto")\n\n'
            f"{generate}"
        )
    rows = "max(len(tokenizer), base.get_input_embeddings().num_embeddings)"
    resize = f"base.resize_token_embeddings({rows})\n" if facts.tokens else ""
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"adapter = {place!r}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(adapter{branch})\n"
        f'base = AutoModelForCausalLM.from_pretrained({base}, dtype="auto")\n'
        f"{resize}model = PeftModel.from_pretrained(base, adapter{branch})\n\n"
        f"{generate}"
    )


def _scores(facts: Facts) -> list[str]:
    if not facts.scores:
        return []
    rows = []
    for metric, score in facts.scores.items():
        both = ("not measured" if value is None else value for value in (score.base, score.adapter))
        rows.append((metric, *both, _difference(score), score.verdict or "not told", score.rows or "not told"))
    head = ("metric", "base model", "adapter", "difference, 95 % interval", "adapter is", "rows")
    return [
        "## Scores",
        "On rows that were held out of training. Intervals come from drawing rows again, the same for both models, and "
        "tell what other such rows would give. A difference whose interval holds 0 is within noise.",
        _table(head, rows),
    ]


def _difference(score: Score) -> str:
    if score.difference is None:
        return "not told"
    return " to ".join(f"{end:+.3g}" if end else "0" for end in score.difference)


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A Markdown table, or nothing where there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    lines = [list(head), ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value) or "none"
    return _code(_public(str(value))).replace("|", "\\|")


def _public(text: str) -> str:
    """The text, or the last name of a local path: the folders above it are nobody's business."""
    return PurePath(text).name if text.startswith(("/", "~")) and PurePath(text).name else text


def _plain(text: str) -> str:
    """Text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _code(text: str) -> str:
    """Text on one line as code, between more backticks than it holds in a row."""
    text = " ".join(text.split()) or " "
    ticks = "`" * (_longest_run(text) + 1)
    room = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{room}{text}{room}{ticks}"


def _fenced(text: str, language: str) -> str:
    """Text as a block of code that no line of it can end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _base_is_on_hub(facts: Facts) -> bool:
    return facts.base_model_is_hub_id and _is_hub_id(facts.base_model)


def _is_hub_id(text: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return all(part[:1].isalnum() for part in text.split("/"))  # the client lets `_` begin a name, the Hub does not


def _clean(value: Any, secrets: Mapping[str, str]) -> Any:
    """The same value with secrets masked, and nothing in its texts that cannot be written as UTF-8."""
    if isinstance(value, str):
        return redact(value.encode("utf-8", "replace").decode("utf-8"), secrets)
    if isinstance(value, Mapping):
        return {_clean(key, secrets): _clean(item, secrets) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_clean(item, secrets) for item in value)
    return [_clean(item, secrets) for item in value] if isinstance(value, list) else value
