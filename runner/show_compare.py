"""What a person sees of runs beside each other on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.compare.comparison import Comparison, Row, difference_cells
from runner.errors import printable

WIDE = 5  # columns, above which the first one has to give way as well


def comparison(found: Comparison, console: Console) -> None:
    """Everything of a comparison but its curves."""
    for text in found.remarks:
        console.print(printable(f"note: {text}"), soft_wrap=True)
    _by_run(console, "runs", found.labels, found.facts)
    for run, fault in found.faults:
        console.print(Text(printable(f"what ended {run}"), style="bold"), soft_wrap=True)
        console.print(printable(fault), soft_wrap=True)
        console.print()
    if found.settings:
        _by_run(console, "settings that differ", found.labels, found.setting_rows)
    else:
        console.print("all settings are the same, defaults included")
        console.print()
    if found.score_rows:
        _by_run(console, "scores on held-out rows, 95 % intervals", found.labels, found.score_rows)
    if found.differences:
        head = ("metric", "runs", "difference", "95 % interval", "it is", "rows")
        _table(
            console, "on the same held-out rows, beside the first run", head, map(difference_cells, found.differences)
        )
    for text in (*found.unpaired, *found.notes):
        console.print(printable(f"note: {text}"), soft_wrap=True)


def _by_run(console: Console, title: str, labels: Sequence[str], rows: Sequence[Row]) -> None:
    _table(console, title, ("", *labels), ((name, *values) for name, values in rows))


def _table(console: Console, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; where the terminal is too narrow for it, cells go over several lines."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(head):
        table.add_column(
            printable(name),
            overflow="fold",
            justify="right" if number else "left",
            no_wrap=number == 0 and len(head) <= WIDE,
        )
    for row in rows:
        table.add_row(*map(printable, row))
    console.print(table)
    console.print()
