"""`ledger.json`, `rejects.jsonl` and the plan in, what a page shows of the data out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.report.figures import Chart, Line, chart, figure
from runner.report.reading import Files, mapping, number, short
from runner.secrets import cleaned, redact

MOST_REASONS, EXAMPLES = 30, 3  # of rows that were left out
MOST_FILES = 100
LONGEST = 600  # characters of a row
LENGTHS = 900  # the number of the chart on the page
# What `ledger.json` says of a split -> what it is called.
OF_A_SPLIT = {
    "samples": "samples",
    "documents": "documents",
    "rows": "rows",
    "tokens": "tokens",
    "learned_tokens": "learned tokens",
    "longest": "longest row, tokens",
    "truncated": "rows cut",
    "windows": "rows made by splitting long ones",
    "rewritten_turns": "turns rewritten",
    "tokens_read": "tokens read",
    "tokens_trained": "tokens trained on",
}
RARE = ("truncated", "windows", "rewritten_turns")  # of which nothing is said where there were none
OF_ALL = {
    "repeats": "samples repeated by a source's weight",
    "in_both_splits": "held-out samples that are trained on as well, word for word",
    "ending_on_a_question": "conversations that end on a question",
}


def ledger(found: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of rows: all, by file, by split, and by the reason why rows were left out."""
    splits = {name: mapping(part) for name, part in mapping(found.get("splits")).items()}
    files = found.get("files")
    listed = [mapping(each) for each in files] if isinstance(files, list) else []
    reasons = mapping(found.get("dropped"))
    for part in splits.values():
        reasons = reasons | {
            f"tokens: {reason}": count for reason, count in mapping(part.get("tokens_dropped")).items()
        }
    return {
        "read": _count(found.get("read")),
        "kept": _count(found.get("kept")),
        "dropped": [(reason, _count(count)) for reason, count in reasons.items()],
        "remarks": [(text, _count(found[key])) for key, text in OF_ALL.items() if number(found.get(key))],
        "calls": [(f"rows with {name} calls", _count(count)) for name, count in mapping(found.get("calls")).items()],
        "splits": list(splits),
        "of_splits": [
            (text, *(_count(part.get(key)) for part in splits.values()))
            for key, text in OF_A_SPLIT.items()
            if any(part.get(key) if key in RARE else key in part for part in splits.values())
        ],
        "files": [
            (str(each.get("file")), str(each.get("format") or "–"), _count(each.get("read")), _count(each.get("kept")))
            for each in listed[:MOST_FILES]
        ],
        "more_files": max(len(listed) - MOST_FILES, 0),
    }


def rejects(files: Files) -> tuple[list[dict[str, Any]], int]:
    """Rows that were left out, a few examples by what is wrong with them; and how many more faults there are."""
    found: dict[str, dict[str, Any]] = {}
    others: set[int] = set()
    for line in files.lines("rejects.jsonl"):
        reason = str(line.get("reason"))
        if reason not in found and len(found) >= MOST_REASONS:
            others.add(hash(reason))
            continue
        entry = found.setdefault(reason, {"reason": reason, "rows": 0, "examples": []})
        entry["rows"] += 1
        if len(entry["examples"]) < EXAMPLES:
            place = f"{line.get('file')}:{line.get('line')}"
            entry["examples"].append((place, short(redact(str(line.get("row")), files.environment), LONGEST)))
    shown = sorted(found.values(), key=lambda entry: -int(entry["rows"]))
    return cleaned(shown, files.environment), len(others)


def lengths(plan: Mapping[str, Any]) -> Chart | None:
    """The lengths of training rows, from the shortest to the longest."""
    values = mapping(plan.get("rows")).get("lengths")
    known = [value for value in map(number, values) if value is not None] if isinstance(values, list) else []
    share = 100 / max(len(known) - 1, 1)
    line = Line("tokens", [(place * share, value) for place, value in enumerate(sorted(known))])
    return chart("Lengths of training rows, tokens", [line], LENGTHS, "% of the rows that are not longer")


def _count(value: Any) -> str:
    return figure(number(value))
