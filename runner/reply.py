"""The stage that answers: questions on standard input, the base model's and the adapter's answers as events.

A question is what a server would be asked: turns go through the chat template as in training, a text through it as well
where the recipe did so with prompts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner import generation, model, reload
from runner.data.examples import Message, Question
from runner.drawing import Sampling
from runner.errors import Problem, RecipeError
from runner.events import tell
from runner.plan import Plan
from runner.reload import Trained
from runner.text import encoding, templates, tokens
from runner.text.templates import Refused


def run(plan: Plan, requests: Iterable[str] = sys.stdin) -> None:
    """Answer until there are no more requests. Raises UserError for a model or an adapter that cannot be loaded."""
    settings = json.loads((Path(plan.directory) / "replying.json").read_text(encoding="utf-8"))
    model.use_all_cores(plan)
    tokenizer = model.tokenizer(plan.recipe.model)
    trained = reload.load(plan, settings["adapter"])
    sampling = Sampling(
        new_tokens=settings["max_new_tokens"],
        ends=frozenset(model.ends(trained, tokenizer)),
        temperature=settings["temperature"],
        top_p=settings["top_p"],
    )
    with contextlib.ExitStack() as stack:
        # A model without an adapter to switch off is loaded beside the other, once.
        whole = plan.recipe.adapter.type == "full" and "base" in settings["names"]
        base = stack.enter_context(reload.base_of(plan, trained)) if whole else None
        tell({"event": "ready"})
        for number, line in enumerate(requests):
            answers = {}
            for name, question in json.loads(line).items():
                ids, seed = _ids(question, tokenizer, plan), settings["seed"] + number
                known = base if name == "base" else trained
                with reload.base_of(plan, trained) if known is None else contextlib.nullcontext(known) as asked:
                    answers[name] = _answer(asked, tokenizer, ids, sampling, seed)
            tell({"event": "answered", "answers": answers})


def _ids(asked: str | list[dict[str, str]], tokenizer: Any, plan: Plan) -> list[int]:
    prompt = asked if isinstance(asked, str) else tuple(Message(turn["role"], turn["content"]) for turn in asked)
    with_template = encoding.uses_template(plan.recipe.dataset, tokenizer)
    try:
        text = templates.question(Question(prompt, "{}"), tokenizer, with_template)
    except Refused as refused:
        raise RecipeError(Problem(refused.reason, hint=refused.hint)) from refused
    grpo = plan.recipe.grpo
    ids = tokens.encode_prompt(text + ((grpo.prefill or "") if grpo else ""), tokenizer)
    if not ids:
        raise RecipeError(Problem("the question is empty"))
    return ids


def _answer(asked: Trained, tokenizer: Any, ids: list[int], sampling: Sampling, seed: int) -> dict[str, Any]:
    started = time.monotonic()
    (found,) = generation.sample(asked, [ids], 1, sampling, seed)
    text = tokenizer.decode(found.tokens, skip_special_tokens=True)
    seconds = time.monotonic() - started
    return {"text": text, "tokens": len(found.tokens), "cut": found.cut, "seconds": round(seconds, 3)}
