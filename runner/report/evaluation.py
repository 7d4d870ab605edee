"""`evaluation.json` and `samples.jsonl` in, what a page shows of base model and adapter out."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from runner.hub.card import METRIC_NAMES
from runner.report.figures import figure, intervals
from runner.report.reading import Files, mapping, number, short, visible
from runner.secrets import cleaned

MOST_SAMPLES = 50
OPEN_SAMPLES = 5  # that are shown without being asked for
MOST_WORDS = 400  # of an answer whose differences are marked: what it takes grows with their square
LONGEST = 4000  # characters of a text
LONG_PROMPT, SHOWN_OF_PROMPT = 1000, 500  # characters
VERDICTS = ("better", "worse", "within noise")


def scores(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of the table for each metric."""
    rows = []
    for name, entry in mapping(evaluation.get("metrics")).items():
        entry = mapping(entry)
        both = [(number(entry.get(which)), interval(entry.get(f"{which}_interval"))) for which in ("base", "adapter")]
        verdict = entry.get("verdict")
        rows.append(
            {
                "name": METRIC_NAMES.get(name, name),
                "drawn": intervals(both),
                "cells": [with_interval(value, ends) for value, ends in both],
                "difference": signed(interval(entry.get("difference_interval"))),
                "verdict": verdict if verdict in VERDICTS else "not told",
                "rows": figure(number(entry.get("rows"))),
            }
        )
    return rows


def samples(files: Files) -> tuple[list[dict[str, Any]], int]:
    """Held-out questions with both answers, and how many more there are."""
    shown: list[dict[str, Any]] = []
    more = 0
    for sample in files.lines("samples.jsonl"):
        if len(shown) >= MOST_SAMPLES:
            more += 1
            continue
        sample = mapping(cleaned(sample, files.environment))
        shown.append(_sample(sample))
    return shown, more


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    texts = {
        key: short(_text(sample[key]), LONGEST) for key in ("prompt", "answer", "base", "adapter") if key in sample
    }
    base, adapter = texts.get("base"), texts.get("adapter")
    marked = (base, adapter)
    if base is not None and adapter is not None:
        marked = differences(base, adapter) or marked
    cut = _cut(texts.get("prompt", ""))
    place = f"{PurePath(str(sample['file'])).name}:{sample['line']}" if "file" in sample and "line" in sample else ""
    answers = [
        {
            "name": title,
            "text": text,
            "empty": "" if texts[which].strip() else "nothing but white space" if texts[which] else "nothing",
            "scores": [(name, figure(number(value))) for name, value in mapping(sample.get(f"{which}_scores")).items()],
            "calls": _calls(sample.get(f"{which}_calls")),
        }
        for which, title, text in zip(("base", "adapter"), ("base model", "adapter"), marked, strict=True)
        if text is not None
    ]
    wanted = _json_or_none(sample["calls"]) if "calls" in sample else None
    return {
        "place": place,
        "begins": texts.get("prompt", "")[:cut],
        "prompt": texts.get("prompt", "")[cut:],
        "wanted": texts.get("answer"),
        "calls": wanted,
        "answers": answers,
    }


def _cut(prompt: str) -> int:
    """How much of a long prompt is put away, so that the question is seen that stands at its end."""
    if len(prompt) <= LONG_PROMPT:
        return 0
    start = len(prompt) - SHOWN_OF_PROMPT
    return prompt.find("\n", start, len(prompt) - SHOWN_OF_PROMPT // 4) + 1 or start


def differences(before: str, after: str) -> tuple[Markup, Markup] | None:
    """Both texts, in the first of which `del` marks what the second has not, and in the second `ins`.

    None where they are too long to be compared.
    """
    old, new = _words(before), _words(after)
    if max(len(old), len(new)) > MOST_WORDS:
        return None
    left, right = Markup(""), Markup("")
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        removed, added = visible("".join(old[i:j])), visible("".join(new[k:m]))
        left += Markup("<del>{}</del>").format(removed) if kind != "equal" and removed else Markup("{}").format(removed)
        right += Markup("<ins>{}</ins>").format(added) if kind != "equal" and added else Markup("{}").format(added)
    return left, right


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def _calls(found: Any) -> dict[str, str] | None:
    if not isinstance(found, dict):
        return None
    return {"read": _json_or_none(found.get("read", [])), "fault": str(found.get("fault") or "")}


def _json_or_none(calls: Any) -> str:
    return _json(calls) if calls else "none"


def _json(value: Any) -> str:
    return short(json.dumps(value, indent=1, ensure_ascii=False), LONGEST)


def _text(value: Any) -> str:
    """What stands in a sample; a prompt of several turns comes as a list."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, indent=1, ensure_ascii=False)


def interval(ends: Any) -> tuple[float, float] | None:
    """Both ends of an interval, or None for what is none."""
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    first, last = map(number, ends)
    return None if first is None or last is None else (first, last)


def with_interval(value: float | None, ends: Sequence[float] | None) -> str:
    """A value and the interval about it as a person reads them."""
    return figure(value) + (f" ({figure(ends[0])} to {figure(ends[1])})" if ends else "")


def signed(ends: Sequence[float] | None) -> str:
    """The interval of a difference as a person reads it."""
    return " to ".join(f"{end:+.3g}" if end else "0" for end in ends) if ends else "–"
