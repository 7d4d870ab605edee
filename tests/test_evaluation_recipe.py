"""What an evaluation asks for, laid over a recipe: what is taken over, what is left out, and which faults are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from settled import plan_of

from runner import evaluation_recipe
from runner.choices import Rows
from runner.errors import RecipeError, report
from runner.evaluation_recipe import Asked
from runner.reading import check
from runner.recipe import Recipe
from runner.subject import Named


def elsewhere(task: str = "sft") -> Named:
    return Named("x", check.bare(task, "owner/model"), "/x", None)


def ran(*overrides: str) -> Named:
    settled = plan_of(*overrides, rows=Rows(10, 5, 20))
    return Named("outputs/x", settled.recipe, "/outputs/x/adapter", settled)


def settled(named: Named, *overrides: str, **options: object) -> Recipe:
    asked = replace(Asked(named.name), overrides=overrides, **options)  # type: ignore[arg-type]
    return evaluation_recipe.settle(asked, named)


def refused(named: Named, *overrides: str, **options: object) -> str:
    with pytest.raises(RecipeError) as told:
        settled(named, *overrides, **options)
    return report(told.value)


def test_data_is_held_out_as_a_whole_and_read_as_the_run_read_its_own(here: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text("")
    named = ran("dataset.columns={prompt: q}", "dataset.limit=3", "dataset.on_bad_row=skip", "training.seed=5")
    recipe = settled(named, data=("a.jsonl", "*b.jsonl"), format="prompt_completion")
    assert (recipe.dataset.train, recipe.dataset.evaluation_fraction, recipe.dataset.limit) == ((), None, None)
    assert [Path(source.path).name for source in recipe.dataset.evaluation] == ["a.jsonl", "*b.jsonl"]
    assert {(source.columns, source.format) for source in recipe.dataset.evaluation} == {
        ((("prompt", "q"),), "prompt_completion")
    }
    assert (recipe.dataset.on_bad_row, recipe.training.seed) == ("skip", 5)
    assert settled(named).dataset == named.recipe.dataset
    assert settled(named, "dataset.columns={}", data=("a.jsonl",)).dataset.evaluation[0].columns == ()


def test_a_split_of_the_hub_is_said_by_set() -> None:
    recipe = settled(elsewhere(), "dataset.split=test", data=("owner/data",))
    assert (recipe.dataset.evaluation[0].path, recipe.dataset.evaluation[0].split) == ("owner/data", "test")


def test_metrics_are_those_of_the_run_or_of_the_task(here: Path) -> None:
    Path("s.json").write_text('{"type": "object"}')
    named = ran(f"evaluation.json_schema={here / 's.json'}", "evaluation.metrics=[loss, json_schema]")
    assert settled(named).evaluation == named.recipe.evaluation
    chosen = settled(named, metrics="loss, token_f1", samples=3, max_new_tokens=2, baseline=False).evaluation
    assert (chosen.metrics, chosen.json_schema) == (("loss", "token_f1"), None)
    assert (chosen.samples, chosen.max_new_tokens, chosen.baseline) == (3, 2, False)
    of_calls = settled(elsewhere("function_calling"), data=("owner/data",)).evaluation.metrics
    assert "call_match" in of_calls and "exact_match" not in of_calls


def test_the_adapter_stays_as_it_was_trained() -> None:
    named = ran()
    assert named.ran is not None
    quantized = replace(named, ran=replace(named.ran, quantization="nf4"))
    assert settled(quantized).model == replace(named.recipe.model, quantization="nf4")
    assert settled(named).training.batch_size == named.recipe.training.batch_size


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dataset=null", "error: `dataset` cannot be set as a whole\n"),
        (
            "dataset.format=messages",
            "hint: write `--format` beside `--data`; a run's own rows are read as it read them",
        ),
        ("dataset.train.0.weight=2", "error: `dataset.train` cannot be set for an evaluation\n"),
        ("name=x", "error: `name` cannot be set for an evaluation\n"),
        ("evaluation.samples", "error: the override has no `=`\n"),
        ("dataset.limits=1", "hint: a similar key exists: `limit`"),
    ],
)
def test_keys_that_cannot_be_set(override: str, told: str) -> None:
    assert told in refused(ran(), override)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab.,/*", max_size=4),
    lambda below: (
        st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(["path", "use", "x"]), below, max_size=2)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    "dataset dataset.train dataset.columns dataset.split dataset.max_length dataset.limit evaluation "
    "evaluation.metrics evaluation.rewards evaluation.json_schema evaluation.samples task model.name".split()
)


@hypothesis_settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(overrides=[("evaluation", None)])
@example(overrides=[("evaluation.metrics", True)])
@example(overrides=[("evaluation.metrics", None)])
@given(overrides=st.lists(st.tuples(KEYS, VALUES), max_size=3))
def test_whatever_is_set_gives_a_recipe_or_faults(here: Path, overrides: list[tuple[str, object]]) -> None:
    texts = [f"{key}={json.dumps(value)}" for key, value in overrides]
    for named, data in ((ran(), ()), (elsewhere(), ("owner/data",))):
        try:
            found = settled(named, *texts, data=data)
        except RecipeError as error:
            assert error.problems and all(problem.message for problem in error.problems)
        else:
            assert found.task == named.recipe.task and found.model == named.recipe.model
