"""A comparison in, one HTML file out, in the dress of a run's report: it loads nothing and needs no script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.compare.comparison import Comparison, difference_cells
from runner.report import html


def write(comparison: Comparison, path: Path, environment: Mapping[str, str]) -> None:
    """Write the page, without the secrets of `environment`. Raises RunError where it cannot be written."""
    html.write(path, render(comparison, environment), resolved=True, option="--html")


def render(comparison: Comparison, environment: Mapping[str, str]) -> str:
    """The page as HTML."""
    page: str = html.template("compare.html.jinja", environment).render(
        comparison=comparison,
        differences=[difference_cells(each) for each in comparison.differences],
        **html.own(("page.css",)),
    )
    return page
