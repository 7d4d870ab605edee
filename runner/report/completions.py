"""`completions.jsonl` and `rewards.jsonl` in, what a page shows of sampled completions and their scoring out.

A page holds a limited number of completions, so that a browser opens it at once; which are left out, it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from runner.report.figures import figure
from runner.report.reading import Files, mapping, number, short, visible
from runner.secrets import cleaned, redact

NAME = "completions.jsonl"
MOST_COMPLETIONS = 10_000
MOST_BYTES = 16 * 2**20
LONGEST = 20_000  # characters of a text
MOST_SAID = 40  # different things that rewards said
LONGEST_SAID = 1000  # characters


@dataclass(frozen=True)
class Kept:
    """What the viewer shows: plain values for JSON, and how many completions there are and are not in it."""

    data: dict[str, Any]
    kept: int
    left_out: int
    prompts: int


def read(files: Files) -> Kept | None:
    """The completions of a run; where they are too many, those of evenly chosen steps, the last always among them."""
    sizes: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    for size, line in files.measured_lines(NAME):
        if (step := _step(line)) is not None:
            sizes[step] += size
            counts[step] += 1
    if not counts:
        return None
    steps = _chosen(sizes, counts)
    prompts: dict[tuple[str, ...], int] = {}
    rewards: dict[str, int] = {}
    rows: list[list[Any]] = []
    room = MOST_BYTES
    for size, line in files.measured_lines(NAME):
        if _step(line) in steps and len(rows) < MOST_COMPLETIONS and room >= size:
            room -= size
            rows.append(_row(line, files, prompts, rewards))
    for row in rows:
        row[6] += [None] * (len(rewards) - len(row[6]))
    data = {
        "rewards": [_text(name, files) for name in rewards],
        "prompts": [
            [_text(text, files), _text(f"{PurePath(file).name}:{place}", files)] for text, file, place in prompts
        ],
        "rows": rows,
    }
    return Kept(data, len(rows), counts.total() - len(rows), len(prompts))


def _row(
    line: Mapping[str, Any], files: Files, prompts: dict[tuple[str, ...], int], rewards: dict[str, int]
) -> list[Any]:
    """Prompt, step, total, advantage, tokens, whether it was cut, scores, text, faults."""
    asked = tuple(str(line.get(key)) for key in ("prompt", "file", "line"))
    prompt = prompts.setdefault(asked, len(prompts))
    scores: list[float | None] = [None] * len(rewards)
    for name, value in mapping(line.get("scores")).items():
        known = rewards.setdefault(name, len(rewards))
        scores += [None] * (known + 1 - len(scores))
        scores[known] = number(value)
    faults = [f"{name}: {fault}" for name, fault in mapping(line.get("faults")).items()]
    return [
        prompt,
        _step(line),
        number(line.get("total")),
        number(line.get("advantage")),
        number(line.get("tokens")),
        line.get("cut") is True,
        scores,
        _text(line.get("completion"), files),
        _text("\n".join(faults), files),
    ]


def _chosen(sizes: Counter[int], counts: Counter[int]) -> set[int]:
    newest_first = sorted(counts, reverse=True)
    for stride in range(1, len(newest_first) + 1):
        chosen = newest_first[::stride]
        fits = sum(counts[step] for step in chosen) <= MOST_COMPLETIONS
        if fits and sum(sizes[step] for step in chosen) <= MOST_BYTES:
            return set(chosen)
    return {newest_first[0]}


def said(files: Files) -> tuple[list[dict[str, Any]], int]:
    """What `rewards.jsonl` holds, the same text of a reward once; and how many lines are not shown."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    left_out = 0
    for line in files.lines("rewards.jsonl"):
        kind, reward = str(line.get("kind")), str(line.get("reward"))
        text = short(redact("; ".join(_told(line)), files.environment), LONGEST_SAID)
        if (kind, reward, text) not in found and len(found) >= MOST_SAID:
            left_out += 1
            continue
        entry = {"kind": kind, "reward": reward, "text": text, "times": 0, "first": line.get("step"), "last": None}
        entry = found.setdefault((kind, reward, text), entry)
        entry["times"] += 1
        entry["last"] = line.get("step")
    order = {"fault": 0, "refused": 1, "reloaded": 2, "logged": 3, "printed": 4}
    listed = sorted(found.values(), key=lambda entry: (order.get(entry["kind"], 5), -entry["times"]))
    return cleaned(listed, files.environment), left_out


def _told(line: Mapping[str, Any]) -> Iterator[str]:
    """What a line says beside what, when and where it is of."""
    if line.get("kind") == "fault" and line.get("line"):
        yield f"line {line['line']}"
    for key, value in line.items():
        if key in ("fault", "text"):
            yield str(value)
        elif key == "problems" and isinstance(value, list):
            yield from map(str, value)
        elif key not in ("kind", "reward", "step", "epoch", "row", "line", "seconds", "cut", "sha256"):
            yield f"{key}: {figure(number(value)) if number(value) is not None else value}"


def _step(line: Mapping[str, Any]) -> int | None:
    step = line.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) and abs(step) < 2**53 else None


def _text(value: Any, files: Files) -> str:
    """A text as the page may show it; secrets go first, so that none is cut in two."""
    return visible(short(redact("" if value is None else str(value), files.environment), LONGEST))
