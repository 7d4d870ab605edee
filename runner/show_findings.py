"""What a person sees of an examination: one line a finding, in groups, and a hint below what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from runner.doctor.finding import Finding
from runner.errors import printable

STYLES = {"ok": "green", "warning": "yellow", "missing": "dim", "fault": "bold red"}
WORDS = {"ok": "ok", "warning": "warning", "missing": "–", "fault": "fault"}
NARROWEST = 30  # characters of the last column, on any terminal
WIDEST_STATUS = max(map(len, WORDS.values()))


def page(findings: Sequence[Finding], recipe: str | None, console: Console) -> None:
    """All findings, and in the last line what they come to; `recipe` is the name of the one that they are for."""
    widest = max(len(finding.name) for finding in findings)
    for group, inside in groupby(findings, key=lambda finding: finding.group):
        console.print(Text(group, style="bold"))
        for finding in inside:
            _show(finding, widest, console)
    console.print(_verdict(findings, recipe), soft_wrap=True)


def _show(finding: Finding, widest: int, console: Console) -> None:
    """Name, status and what was found, each in its column; a hint goes below what was found."""
    dim = "dim" if finding.status == "missing" else ""
    first = Text("  ").append(finding.name.ljust(widest), dim)
    first.append("  ").append(WORDS[finding.status].ljust(WIDEST_STATUS), STYLES[finding.status]).append("  ")
    texts = [Text(printable(finding.found), dim)]
    if finding.hint:
        texts.append(Text("hint", "bold blue").append(f": {printable(finding.hint)}", "not bold default"))
    before = first
    for text in texts:
        for line in text.wrap(console, max(console.width - first.cell_len, NARROWEST)):
            line.rstrip()
            console.print(before + line, soft_wrap=True)
            before = Text(" " * first.cell_len)


def _verdict(findings: Sequence[Finding], recipe: str | None) -> Text:
    faults, warnings = (sum(each.status == status for each in findings) for status in ("fault", "warning"))
    what = f"`{recipe}`" if recipe else "training"
    if faults:
        text = Text(f"{what} cannot run here: {_count(faults, 'fault')}", style=STYLES["fault"])
    else:
        text = Text(f"{what} can run here", style=STYLES["ok"])
    return text.append(f", {_count(warnings, 'warning')}", style="not bold default") if warnings else text


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
