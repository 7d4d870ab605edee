"""Lines over steps in, an inline SVG and the table of the same values out. Nothing of it is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from runner.report.reading import visible

WIDTH, HEIGHT = 520, 236
LEFT, RIGHT, TOP, BOTTOM = 62, 502, 10, 200  # of the plot in it
MOST_POINTS = 400  # of a line
MOST_ROWS = 60  # of a table
TICKS = 4
LOOKS = 6

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A value over steps. `spread` is how far each point's values lie from it, where that is known.

    `look` is which of the colours it has, where several charts show the same thing in the same one.
    """

    name: str
    points: Sequence[Point]
    spread: Sequence[float] = ()
    dots: bool = False  # measured now and then, so that each point counts
    look: int | None = None


@dataclass(frozen=True)
class Chart:
    """What a page shows of some lines."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]  # the name of each line, and how it looks
    x: str
    rows: tuple[tuple[str, ...], ...]
    left_out: int  # rows that the table has not


def chart(title: str, lines: Sequence[Line], number: int, x: str = "step") -> Chart | None:
    """The chart of those lines that have points; None where none has. `number` tells it from others on the page."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    xs = [point[0] for line in drawn for point in line.points]
    ys = [y for line in drawn for y in _extremes(line)]
    across, up = _scale(min(xs), max(xs)), _scale(min(ys), max(ys), room=True)
    parts = [*_axes(across, up, x)]
    looks = [_look(place if line.look is None else line.look) for place, line in enumerate(drawn)]
    for line, look in zip(drawn, looks, strict=True):
        parts += _line(line, look, across, up)
    names = [f"chart-{number}-title", f"chart-{number}-text"]
    svg = (
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{} {}">').format(WIDTH, HEIGHT, *names)
        + Markup('<title id="{}">{}</title>').format(names[0], visible(title))
        + Markup('<desc id="{}">{}</desc>').format(names[1], visible(" ".join(_told(line, x) for line in drawn)))
        + Markup("").join(parts)
        + Markup("</svg>")
    )
    rows, left_out = _rows(drawn)
    legend = tuple((line.name, look) for line, look in zip(drawn, looks, strict=True))
    return Chart(title, svg, legend, x, rows, left_out)


def figure(value: float | None) -> str:
    """A number as a person reads it."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def intervals(pairs: Sequence[tuple[float | None, tuple[float, float] | None]]) -> Markup:
    """Values with their intervals above each other on one scale, for a cell of a table that says the numbers."""
    ends = [end for value, interval in pairs for end in (*(interval or ()), value) if end is not None]
    if not ends:
        return Markup("")
    low, high = min(ends), max(ends)
    unit = 110 / (high - low) if high > low else 0.0
    parts = [Markup('<svg class="intervals" viewBox="0 0 120 {}" aria-hidden="true">').format(12 * len(pairs))]
    for place, (value, interval) in enumerate(pairs):
        y = 12 * place + 6
        if interval is not None:
            first, last = (5 + (end - low) * unit for end in interval)
            parts.append(_element("line", f"line-{place}", x1=first, x2=last, y1=y, y2=y))
        if value is not None:
            parts.append(_element("circle", f"line-{place}", cx=5 + (value - low) * unit, cy=y, r=3.5))
    return Markup("").join([*parts, Markup("</svg>")])


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    def place(self, value: float, first: float, last: float) -> float:
        return first + (value - self.low) / (self.high - self.low) * (last - first)

    def ticks(self) -> Iterator[float]:
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        number = math.ceil(self.low / step - 1e-9)
        while number * step <= self.high + step * 1e-9:
            yield number * step
            number += 1


def _scale(low: float, high: float, room: bool = False) -> _Scale:
    span = high - low
    if span <= max(abs(low), abs(high)) * 1e-9:  # one value alone
        half = max(abs(low) / 10, 0.5 if not low else 0.0)
        return _Scale(low - half, high + half)
    return _Scale(low - span / 20, high + span / 20) if room else _Scale(low, high)


def _axes(across: _Scale, up: _Scale, x: str) -> Iterator[Markup]:
    marks = list(up.ticks())
    alike = len({figure(value) for value in marks}) < len(marks)
    for value in marks:
        y = up.place(value, BOTTOM, TOP)
        yield _element("line", "grid", x1=LEFT, x2=RIGHT, y1=y, y2=y)
        yield _text(f"{value:.7g}" if alike else figure(value), LEFT - 6, y + 4, "end")
    whole = [value for value in across.ticks() if value == round(value) or across.high - across.low < TICKS]
    for value in whole:
        yield _text(figure(value), across.place(value, LEFT, RIGHT), BOTTOM + 16, "middle")
    yield _text(x, (LEFT + RIGHT) / 2, HEIGHT - 5, "middle")


def _line(line: Line, look: str, across: _Scale, up: _Scale) -> Iterator[Markup]:
    def placed(x: float, y: float) -> str:
        return f"{across.place(x, LEFT, RIGHT):.1f},{up.place(y, BOTTOM, TOP):.1f}"

    if line.spread:
        stride = math.ceil(len(line.points) / MOST_POINTS)
        kept = list(zip(line.points, line.spread, strict=True))[::stride]
        edge = [placed(x, y + spread) for (x, y), spread in kept]
        edge += [placed(x, y - spread) for (x, y), spread in reversed(kept)]
        yield Markup('<polygon class="band {}" points="{}"/>').format(look, " ".join(edge))
    points = thinned(line.points)
    if len(points) > 1:
        text = " ".join(placed(x, y) for x, y in points)
        yield Markup('<polyline class="{}" points="{}"/>').format(look, text)
    if line.dots or len(points) == 1:
        for x, y in points:
            yield _element("circle", look, cx=across.place(x, LEFT, RIGHT), cy=up.place(y, BOTTOM, TOP), r=3.5)


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` of the points, with the lowest and the highest of those that lie close together."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(len(points) / (MOST_POINTS // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        near = points[start : start + size]
        kept += sorted({min(near, key=lambda point: point[1]), max(near, key=lambda point: point[1])})
    return kept


def _look(number: int) -> str:
    """The classes of a line: `LOOKS` colours with strokes of their own, and as many again with wide ones."""
    return f"line-{number % LOOKS}" + (" wide" if number >= LOOKS else "")


def _extremes(line: Line) -> Iterator[float]:
    for (_, y), spread in zip(line.points, line.spread or [0.0] * len(line.points), strict=True):
        yield y - spread
        yield y + spread


def _told(line: Line, x: str) -> str:
    (first, began), (last, ended) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {figure(began)} at {x} {figure(first)}."
    values = [value for _, value in line.points]
    return (
        f"{line.name}: from {figure(began)} at {x} {figure(first)} to {figure(ended)} at {x} {figure(last)}, "
        f"lowest {figure(min(values))}, highest {figure(max(values))}."
    )


def _rows(lines: Sequence[Line]) -> tuple[tuple[tuple[str, ...], ...], int]:
    values = [dict(line.points) for line in lines]
    steps = sorted({step for each in values for step in each})
    stride = math.ceil(len(steps) / MOST_ROWS)
    kept = steps[::-1][::stride][::-1]  # the last one always
    rows = tuple((figure(step), *(figure(each.get(step)) for each in values)) for step in kept)
    return rows, len(steps) - len(kept)


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(f"{x:.1f}", f"{y:.1f}", anchor, text)


def _element(name: str, look: str, **places: float) -> Markup:
    written = Markup(" ").join(Markup('{}="{}"').format(key, f"{value:.1f}") for key, value in places.items())
    return Markup('<{} class="{}" {}/>').format(Markup(name), escape(look), written)
