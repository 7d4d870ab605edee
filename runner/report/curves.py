"""Logged steps in, the charts of a training out: what was learned, how fast, and in how much memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.report.figures import Chart, Line, chart
from runner.report.reading import mapping, number

GIB = 1024**3
MOST_REWARDS = 24  # that have a chart each
MOST_WARNINGS = 50

Events = Sequence[Mapping[str, Any]]


def charts(events: Events, plan: Mapping[str, Any]) -> list[Chart]:
    """The charts that these steps give, in the order of the page."""
    steps = [event for event in events if event["event"] == "step"]
    held_out = [event for event in events if event["event"] == "evaluation"]
    rewarded = any("reward" in event for event in steps)
    wanted: list[tuple[str, list[Line]]] = []
    if rewarded:
        wanted += _of_rewards(steps, held_out)
    wanted.append(
        (
            "Loss",
            [
                _over(steps, "loss", "in training"),
                _over(held_out, "evaluation_loss", "held-out rows", dots=True),
            ],
        )
    )
    if not rewarded:
        wanted.append(("Held-out answers", _measured(held_out)))
    wanted += [
        ("Learning rate", [_over(steps, "learning_rate", "learning rate")]),
        ("Gradient norm, before it is clipped", [_over(steps, "gradient_norm", "gradient norm")]),
        ("Learned tokens a second", [Line("learned tokens a second", points(steps, speed))]),
        ("Memory of a process, GiB", _memory(steps, plan)),
    ]
    drawn = (chart(title, lines, number) for number, (title, lines) in enumerate(wanted))
    return [each for each in drawn if each is not None]


def warnings(events: Events) -> list[str]:
    """What was warned of in training, once each, with the first step that it was of."""
    found: dict[str, int] = {}
    for event in events:
        for text in event.get("warnings") or () if isinstance(event.get("warnings"), list) else ():
            found.setdefault(str(text), event["step"])
    return [f"step {step}: {text}" for text, step in list(found.items())[:MOST_WARNINGS]]


def _of_rewards(steps: Events, held_out: Events) -> list[tuple[str, list[Line]]]:
    names = list(dict.fromkeys(name for event in steps for name in mapping(event.get("rewards"))))
    found = [
        ("Reward, all together", [_spread(steps, lambda event: event, "reward", "reward_std"), *_measured(held_out)])
    ]
    found += [(f"Reward {name}", [_spread(steps, _reward(name), "mean", "std")]) for name in names[:MOST_REWARDS]]
    return [
        *found,
        ("Tokens of a completion", [_over(steps, "length", "mean length")]),
        (
            "Shares of the completions",
            [
                _over(steps, "cut", "cut off"),
                _over(steps, "without_signal", "of groups without signal"),
                _over(steps, "faults", "with a fault of a reward"),
            ],
        ),
        ("Distance to the base model (KL)", [_over(steps, "kl", "KL")]),
        ("Entropy", [_over(steps, "entropy", "entropy")]),
    ]


def _measured(held_out: Events) -> list[Line]:
    names = dict.fromkeys(name for event in held_out for name in mapping(event.get("measured")))
    return [Line(f"held-out {name}", points(held_out, _measure(name)), (), True) for name in names]


def _measure(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda event: mapping(event.get("measured")).get(name)


def _reward(name: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    return lambda event: mapping(mapping(event.get("rewards")).get(name))


def _memory(steps: Events, plan: Mapping[str, Any]) -> list[Line]:
    held = points(steps, memory)
    parts = [value for value in map(number, mapping(plan.get("memory")).values()) if value is not None]
    if not held or not parts:
        return [Line("held at most so far", held)]
    planned = sum(parts) / GIB
    ends = dict.fromkeys((held[0][0], held[-1][0]))
    return [Line("held at most so far", held), Line("planned, at its peak", [(step, planned) for step in ends])]


def _spread(steps: Events, found: Callable[[Mapping[str, Any]], Mapping[str, Any]], mean: str, deviation: str) -> Line:
    points, spread = [], []
    for event in steps:
        value = number(found(event).get(mean))
        if value is not None:
            points.append((float(event["step"]), value))
            spread.append(number(found(event).get(deviation)) or 0.0)
    return Line("mean, and one standard deviation about it", points, spread)


def _over(events: Events, key: str, name: str, dots: bool = False) -> Line:
    return Line(name, points(events, lambda event: event.get(key)), (), dots)


def speed(event: Mapping[str, Any]) -> float | None:
    """Learned tokens a second of a step."""
    return _share(event.get("learned_tokens"), number(event.get("seconds")) or 0.0)


def memory(event: Mapping[str, Any]) -> float | None:
    """What a process has held at most until a step, in GiB."""
    return _share(event.get("memory"), GIB)


def points(events: Events, value: Callable[[Mapping[str, Any]], Any]) -> list[tuple[float, float]]:
    """One point for each step that has a number; the last one where a step was logged twice."""
    found = {event["step"]: measured for event in events if (measured := number(value(event))) is not None}
    return [(float(step), found[step]) for step in sorted(found) if abs(step) < 1e12]


def _share(value: Any, of: float) -> float | None:
    measured = number(value)
    return None if measured is None or of <= 0 else measured / of
