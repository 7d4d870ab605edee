"""Settings that may change in the middle of a run, and those that may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_checkpoint import publish, settings_of

from runner import changes, checkpoint
from runner.errors import RecipeError, RunError
from runner.recipe import Grpo


def test_what_may_change_goes_on_where_it_is_allowed(tmp_path: Path) -> None:
    publish(tmp_path, 1, settings_of())
    wanted = settings_of("training.learning_rate=1e-3", "training.epochs=9")
    with pytest.raises(RunError) as caught:
        checkpoint.newest(tmp_path, wanted, ("training.learning_rate",), [])
    (problem,) = caught.value.problems
    assert problem.message.endswith("belongs to a run with other settings: `total_steps`")
    assert problem.hint is not None
    assert "`--allow-change total_steps --allow-change training.learning_rate` goes on from there" in problem.hint
    assert checkpoint.newest(tmp_path, wanted, ("training.learning_rate", "training.epochs"), []) is not None


def test_what_may_not_change_has_no_such_hint(tmp_path: Path) -> None:
    publish(tmp_path, 1, settings_of())
    with pytest.raises(RunError) as caught:
        checkpoint.newest(tmp_path, settings_of("training.learning_rate=1e-3", "training.seed=5"), (), [])
    assert "--allow-change" not in str(caught.value.problems[0].hint)


def test_every_setting_that_may_change_is_one() -> None:
    found = settings_of()
    below = {f"{block}.{key}" for block, values in found.items() if isinstance(values, dict) for key in values}
    assert set(changes.MAY_CHANGE) <= {*found, *below, *(f"grpo.{name}" for name in Grpo.__dataclass_fields__)}


def test_a_name_that_may_not_change_is_refused_before_anything_else() -> None:
    changes.check(["training.max_steps", "rewards", "rewards.good.weight"])
    with pytest.raises(RecipeError) as caught:
        changes.check(["training.seed", "adapter"])
    assert [problem.message for problem in caught.value.problems] == [
        "`training.seed` cannot change in the middle of a run",
        "`adapter` cannot change in the middle of a run",
    ]
