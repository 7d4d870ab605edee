"""What was found of the data in, the text of a recipe with comments out. It is checked before anybody sees it."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import printable
from runner.init.answers import Answers
from runner.init.proposals import Proposal

PLAIN = re.compile(
    r"(?:[A-Za-z_]|\.{0,2}/|~/)[\w./ ~-]*", re.ASCII
)  # what YAML takes as text without quotes, but for the next
NOT_TEXT = ("true", "false", "null", "yes", "no", "on", "off")
COMMENT_COLUMN = 32
LONGEST = 2048  # tokens of a row, where some have more: what a small machine still learns from


@dataclass(frozen=True)
class Draft:
    """Everything that a recipe is written of. Paths are as the recipe is to say them."""

    name: str
    proposal: Proposal
    model: str
    why_model: str
    train: tuple[str, ...]
    evaluation: tuple[str, ...] | float | None  # files, or a share
    held_out: int  # rows, about
    answers: Answers | None
    rows: int  # looked at
    skip: int  # of them, those that cannot be used
    longer: int = 0  # of them, those that are likely longer than `LONGEST`
    model_on_disk: bool = False
    shows_tools: bool | None = None  # whether the model's chat template does, where that can be seen
    counted: bool = True  # whether `skip` is of the rows looked at, and not of others


def text(draft: Draft) -> str:
    """The recipe as YAML."""
    return "".join(f"{line}\n" for line in _lines(draft))


def _lines(draft: Draft) -> Iterator[str]:
    proposal = draft.proposal
    yield f"# Written by `tunesmith init`: {' '.join(printable(proposal.because).split())}."
    yield "# Every key: docs/recipe.md; `tunesmith plan` shows what the others are."
    yield ""
    yield "version: 1"
    yield _noted(f"name: {scalar(draft.name)}", "the run's folder below output.directory")
    yield f"task: {proposal.task}"
    yield ""
    yield "model:"
    yield _noted(f"  name: {scalar(draft.model)}", draft.why_model or "a Hub id, a directory or a .gguf file")
    if draft.model_on_disk:
        yield _noted("  # hub_id: owner/name", "what the Hub calls it, for what is pushed to name its base")
    if proposal.task == "function_calling":
        if draft.shows_tools is False:
            yield _noted("  chat_template: hermes", "the model's own template shows no tools")
        elif draft.shows_tools is None:
            yield _noted("  # chat_template: hermes", "where the model's own template shows no tools")
    yield ""
    yield "dataset:"
    yield from _paths("train", draft.train)
    if isinstance(draft.evaluation, float):
        share = f"a share to hold out, about {draft.held_out} rows; or the path of other rows"
        yield _noted(f"  evaluation: {draft.evaluation:g}", share)
    elif draft.evaluation is not None:
        yield from _paths("evaluation", draft.evaluation)
    if proposal.task in ("sft", "function_calling") and proposal.format != "auto":
        yield f"  format: {proposal.format}"
    if proposal.columns:
        yield _noted(f"  columns: {flow(proposal.columns)}", "our name: the name in the data")
    if proposal.templates:
        yield _noted("  templates:", "Jinja, of a row's columns")
        yield from (f"    {role}: {json.dumps(made, ensure_ascii=False)}" for role, made in proposal.templates.items())
    if draft.longer:
        yield _noted(
            f"  max_length: {LONGEST}", f"tokens of a row; about {draft.longer} of {draft.rows} rows have more"
        )
        yield _noted("  overflow: drop", "leave these out; or `truncate`, `split`, `error`")
    if draft.skip:
        many = f"{draft.skip} of {draft.rows} rows" if draft.counted else f"some rows ({draft.skip})"
        yield _noted("  on_bad_row: skip", f"{many} cannot be used; `error` stops at the first")
    yield ""
    yield from _training(draft)
    if draft.answers is not None and proposal.task == "grpo":
        yield ""
        yield "rewards:"
        for reward in draft.answers.rewards:
            yield f"  - {flow(reward)}"
    yield ""
    yield from _evaluation(draft)
    yield ""
    yield "output:"
    yield "  directory: outputs"
    yield f"  # hub: {{repository: your-name/{draft.name}, private: true}}    # pushes with the token in HF_TOKEN"


def _training(draft: Draft) -> Iterator[str]:
    yield "adapter: {type: lora, rank: 16}"
    yield ""
    if draft.proposal.task == "grpo":
        longest = draft.answers.tokens if draft.answers else 256
        yield "grpo:"
        yield _noted("  num_generations: 8", "completions of a prompt, scored against each other")
        yield _noted(f"  max_completion_length: {longest}", "tokens")
        yield ""
        yield "training:"
        yield _noted("  max_steps: 200", "look at the rewards then, and go on if they rise")
        yield _noted("  batch_size: 32", "completions an optimizer step: four prompts")
        yield "  learning_rate: 1e-5"
        return
    yield "training:"
    epochs = 1 if draft.proposal.task == "continued_pretraining" or draft.rows > 20_000 else 3
    yield _noted(f"  epochs: {epochs}", "how often each row is seen")
    yield "  learning_rate: 2e-4"
    yield _noted("  batch_size: 16", "rows an optimizer step, over all devices")


def _evaluation(draft: Draft) -> Iterator[str]:
    yield "evaluation:"
    if draft.answers is None:
        yield _noted("  metrics: [loss, perplexity]", "of held-out text, before and after")
    elif draft.proposal.task == "grpo":
        yield _noted("  samples: 32", "held-out prompts that both models answer, scored by the rewards")
    else:
        yield _noted(f"  metrics: [{', '.join(draft.answers.metrics)}]", f"answers are {draft.answers.what}")
        yield _noted(f"  samples: {100 if draft.answers.short else 20}", "held-out rows to write answers for")
        yield _noted(f"  max_new_tokens: {draft.answers.tokens}", "the longest answer")


def _paths(role: str, paths: Sequence[str]) -> Iterator[str]:
    if len(paths) == 1:
        yield f"  {role}: {scalar(paths[0])}"
        return
    yield f"  {role}:"
    yield from (f"    - {scalar(path)}" for path in paths)


def scalar(value: Any) -> str:
    """A value as YAML reads it back; of a text, without quotes where it needs none."""
    if not isinstance(value, str):
        return json.dumps(value)
    bare = PLAIN.fullmatch(value) and value == value.strip() and value.lower() not in (*NOT_TEXT, "~")
    return value if bare else json.dumps(value, ensure_ascii=False)


def flow(values: Mapping[str, Any]) -> str:
    """A mapping on one line."""
    pairs = (f"{key}: {flow(value) if isinstance(value, Mapping) else scalar(value)}" for key, value in values.items())
    return f"{{{', '.join(pairs)}}}"


def _noted(line: str, note: str) -> str:
    return f"{line.ljust(COMMENT_COLUMN - 2)}  # {note}"


def relative(path: str, output: str) -> str:
    """A path of the command line as a recipe at `output` says it. Absolute ones stay as they are, as a Hub id does."""
    expanded = os.path.expanduser(path)
    if os.path.isabs(expanded) or not (os.path.exists(expanded) or glob.has_magic(expanded)):
        return path
    return os.path.relpath(expanded, os.path.dirname(output) or ".")
