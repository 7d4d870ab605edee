"""What a person sees of a check of rewards: the numbers, what failed, and some completions. Nothing is decided here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner import spread
from runner.data.completions import Answer
from runner.errors import printable
from runner.spread import Report, Spread

SHOWN = 2  # best completions, and worst ones
LONGEST = 200  # characters of a prompt or a completion
WIDEST = 28  # characters of a reward's name in the table
MEANINGS = {
    "spread": "standard deviation over all completions",
    "within": "the same among the completions of one prompt, as a mean: what is learned from",
    "equal": "the share of prompts whose completions all score the same: nothing is learned from those",
    "failed": "completions without a score, because the call failed",
    "median, longest": "seconds of a call",
}


def page(report: Report, answers: Sequence[Answer], warnings: Sequence[str], directory: Path, console: Console) -> None:
    """The whole report; `answers` are the completions in its order, `directory` is where all of them are."""
    console.print(_table(report))
    for name, meaning in MEANINGS.items():
        console.print(Text(f"  {name:<15} {meaning}", style="dim"), soft_wrap=True)
    _line(console, "cut by length", "not known" if report.cut is None else f"{report.cut:.0%} of the completions")
    for function in report.functions:
        if function.failed:
            share = f"{function.failed} of {report.completions}"
            _line(console, f"{function.name} failed", f"{share}; the first time, {function.first_fault}")
        for line in function.printed:
            _line(console, f"{function.name} printed", _flat(line, from_end=False))
    _completions(report, answers, console)
    if report.total.without is None:
        console.print("no prompt has several completions: how a reward spreads among them is not known", soft_wrap=True)
    elif report.total.without == 1:
        console.print("no signal: all completions of a prompt score the same, for every prompt", soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {printable(warning)}", soft_wrap=True)
    where = Text(printable(f"{directory}  ")).append("every completion, and what the rewards printed", "dim")
    console.print(where, soft_wrap=True)


def _table(report: Report) -> Table:
    title = f"{_count(report.completions, 'completion')} of {_count(report.prompts, 'prompt')}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("reward", overflow="fold")
    for name in ("weight", "mean", "spread", "within", "equal", "failed", "median", "longest"):
        table.add_column(name, justify="right", no_wrap=True)
    for function in report.functions:
        seconds = (_seconds(function.median_seconds), _seconds(function.longest_seconds))
        weight, numbers = _number(function.weight), _numbers(function.spread)
        table.add_row(printable(function.name), weight, *numbers, str(function.failed), *seconds)
    table.add_section()
    table.add_row("total", "", *_numbers(report.total), "", "", "")
    return table


def _numbers(found: Spread) -> tuple[str, str, str, str]:
    share = "–" if found.without is None else f"{found.without:.0%}"
    return _number(found.mean), _number(found.over_all), _number(found.within), share


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _seconds(seconds: float) -> str:
    return "< 1 ms" if seconds < 0.001 else f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _completions(report: Report, answers: Sequence[Answer], console: Console) -> None:
    """The best and the worst; some, where all score the same."""
    best, worst = spread.extremes(report.totals, SHOWN)
    apart = bool(worst) and report.totals[best[0]] != report.totals[worst[0]]
    for label, numbers in (("best", best), ("worst", worst)) if apart else (("one of all", best),):
        for number in numbers:
            scores = [f"{each.name} {_number(each.values[number])}" for each in report.functions]
            text = Text(f"\n{label}: total {_number(report.totals[number])}", style="bold")
            console.print(text.append(printable(f"  ({', '.join(scores)})"), "not bold"), soft_wrap=True)
            if answers[number].prompt:
                _line(console, "prompt", _flat(_asked(answers[number]), from_end=True))
            _line(console, "completion", _flat(answers[number].completion, from_end=False))
    console.print()


def _asked(answer: Answer) -> str:
    """The prompt as its row says it, where that is a text: a chat template around it tells nothing of a reward."""
    asked = json.loads(answer.asked)
    return asked if isinstance(asked, str) else answer.prompt


def _flat(text: str, from_end: bool) -> str:
    """A text on one line, or that end of it which says the most."""
    flat = text.replace("\n", "⏎")
    if len(flat) <= LONGEST:
        return flat
    return f"…{flat[-LONGEST:]}" if from_end else f"{flat[:LONGEST]}…"


def _line(console: Console, label: str, text: str) -> None:
    """A line with its label. What a model or a reward wrote may move a terminal's cursor: it is written out."""
    console.print(Text(f"  {printable(label)}: ", "bold").append(printable(text), "not bold"), soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
