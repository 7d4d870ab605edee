"""The pay for the right tool calls."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import module, reward

WEATHER = {"name": "weather", "arguments": {"city": "Bern", "days": 3}}
TIME = {"name": "time", "arguments": {"zone": "CET"}}


def score(completion: str, answer: Any = None, **options: Any) -> float:
    answer = [WEATHER] if answer is None else answer
    return reward("tool_call_match")("", completion, {"answer": answer}, **options)


def tagged(*calls: Any) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


@pytest.mark.parametrize(
    "completion",
    [
        tagged(WEATHER),
        "I will look.\n" + tagged(WEATHER),
        "<think>[time(zone='CET')]</think>\n" + tagged(WEATHER),
        json.dumps(WEATHER),
        json.dumps([WEATHER]),
        json.dumps({"name": "weather", "parameters": WEATHER["arguments"]}),
        json.dumps(
            {"id": "1", "type": "function", "function": {**WEATHER, "arguments": json.dumps(WEATHER["arguments"])}}
        ),
        f"```json\n{json.dumps(WEATHER)}\n```",
        "[weather(city='Bern', days=3)]",
        'weather(days=3.0, city="Bern")',
        "```python\nweather(city='Bern', days=3)\n```",
    ],
)
def test_calls_are_read_in_the_forms_that_models_write(completion: str) -> None:
    assert score(completion) == 1


@pytest.mark.parametrize(
    "answer",
    [
        WEATHER,
        json.dumps(WEATHER),
        json.dumps([WEATHER]),
        [{"type": "function", "function": WEATHER}],
        [{"function": {"name": "weather", "arguments": json.dumps(WEATHER["arguments"])}}],
        [{"name": "weather", "arguments": "{'city': 'Bern', 'days': 3}"}],
        "{'name': 'weather', 'arguments': {'city': 'Bern', 'days': 3}}",
    ],
)
def test_rows_bring_their_calls_in_the_forms_that_data_sets_have(answer: Any) -> None:
    assert score(tagged(WEATHER), answer) == 1


def with_arguments(**arguments: Any) -> str:
    return tagged({"name": "weather", "arguments": arguments})


def test_each_step_pays_more_than_the_one_before() -> None:
    ladder = [
        "",
        "<tool_call>{",
        tagged(TIME),
        with_arguments(),
        with_arguments(city=3),
        with_arguments(city="Basel"),
        with_arguments(city="Bern"),
        with_arguments(city="Bern", days="3"),
        with_arguments(city="Bern", days=4),
        with_arguments(city="Bern", days=3),
    ]
    scores = [score(one) for one in ladder]
    assert scores[:2] == [0, 0] and scores[2] == 0.1 and scores[-1] == 1
    assert scores[1:] == sorted(set(scores[1:]))


@pytest.mark.parametrize(
    "worse",
    [
        with_arguments(city="Bern", days=3, units="C"),
        with_arguments(city="Bern", days=True),
        with_arguments(city="bern", days=3),
        tagged(WEATHER, TIME),
        tagged(WEATHER, WEATHER),
        tagged(WEATHER) + "<tool_call>",
        tagged(WEATHER) + "<tool_call>nothing</tool_call>",
        json.dumps([WEATHER, 3]),
    ],
)
def test_surplus_and_other_arguments_and_calls_cost(worse: str) -> None:
    assert 0 < score(worse) < 1


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "Sunny.",
        "weather",
        "weather('Bern', 3)",
        "[weather(city=Bern)]",
        "{'name': 'weather'}",
        "[weather(city='Bern'",
    ]
    + ["weather(city=open('x'))", "[weather(city='Bern', city='Bern')]", tagged(*[WEATHER] * 65), '{"city": "Bern"}'],
)
def test_what_is_no_call_does_not_pay(completion: str) -> None:
    assert score(completion) == 0


def test_case_is_ignored_where_asked() -> None:
    assert score(with_arguments(city="BERN", days=3), ignore_case=True) == 1


@pytest.mark.parametrize("answer", [[], "[]", "", "null"])
def test_a_row_without_calls_pays_for_words_alone(answer: Any) -> None:
    for words in [
        "Sunny.",
        "I cannot do that (sorry).",
        "[1, 2]",
        '{"name": "Ann", "age": 3}',
        "see f(x)",
        "[see (a)]",
        "<b>",
    ]:
        assert score(words, answer) == 1, words
    calls = [
        "",
        " ",
        tagged(WEATHER),
        "<tool_call>",
        "[f(a=1)]",
        "f(a=1)",
        "f()",
        "[f(a=1",
        '{"name": "f", "arg',
        "<think>x</think>",
    ]
    for call in calls:
        assert score(call, answer) == 0, call


def test_null_stands_for_no_call() -> None:
    function = reward("tool_call_match")
    assert function("", "Sunny.", {"answer": None}) == 1


def test_names_with_spaces_and_slashes_are_read() -> None:
    calls = [
        {"name": "/madlibs-diceware", "arguments": {"n": [1, {"a": None}]}},
        {"name": "Market Trends API", "arguments": {"c": "u)"}},
    ]
    assert score("[Market Trends API(c=\"u)\"), /madlibs-diceware(n=[1, {'a': null}])]", calls) == 1


def test_order_is_free_unless_asked_for() -> None:
    assert score(tagged(TIME, WEATHER), [WEATHER, TIME]) == 1
    assert score(tagged(TIME, WEATHER), [WEATHER, TIME], ordered=True) == 0.1
    assert score(tagged(WEATHER, TIME), [WEATHER, TIME], ordered=True) == 1


def test_an_early_call_does_not_take_the_match_of_a_later_one() -> None:
    # Best first would match `x=1, y=1` with itself where it can, and nearest first leaves the rest unmatched.
    right = [{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 1, "y": 1}}]
    assert score(tagged(right[1], right[0]), right) == 1


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_the_matching_is_the_best_one(rows: int, columns: int, data: st.DataObject) -> None:
    cell = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    scores = data.draw(st.lists(st.lists(cell, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    short, long = sorted([rows, columns])
    best = max(
        sum(scores[a][b] if rows <= columns else scores[b][a] for a, b in enumerate(order))
        for order in itertools.permutations(range(long), short)
    )
    assert module("tool_call_match").best_total(scores) == best


def test_many_calls_are_matched_as_well() -> None:
    calls = [{"name": "f", "arguments": {"n": number}} for number in range(30)]
    assert score(tagged(*reversed(calls)), calls) == 1
    assert score(tagged(*calls[:15]), calls) == pytest.approx(0.55)


@pytest.mark.parametrize(
    "answer", [3, "text", [3], [{"arguments": {}}], [{"name": 3}], "{", [{"name": "f", "arguments": "{"}]]
)
def test_a_row_whose_calls_cannot_be_read_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="the column `answer`"):
        score("x", answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["f", "g", "h i"]),
            "arguments": st.dictionaries(st.sampled_from("abc"), JSON, max_size=3),
        }
    ),
    min_size=1,
    max_size=4,
)


@given(CALLS, st.randoms(use_true_random=False))
def test_the_rows_own_calls_pay_in_full_in_every_form(calls: list[dict[str, Any]], random: Any) -> None:
    shuffled = list(calls)
    random.shuffle(shuffled)
    python = ", ".join(
        f"{one['name']}({', '.join(f'{k}={v!r}' for k, v in one['arguments'].items())})" for one in shuffled
    )
    assert score(json.dumps(shuffled), calls) == 1
    assert score(f"[{python}]", json.dumps(calls)) == 1
    if "tool_call>" not in json.dumps(calls):
        assert score(tagged(*shuffled), calls) == 1


@given(CALLS, CALLS)
def test_a_missing_right_call_never_pays_less_when_it_is_added(
    calls: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    given_calls = other[: len(calls) - 1]
    if given_calls:
        assert score(tagged(*given_calls, calls[-1]), calls) >= score(tagged(*given_calls), calls) - 1e-12
