"""A recipe that `tunesmith init` writes for somebody's data trains as it stands, but for its length and its model."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from runs import tried
from test_init import REWARDS
from users_files import FILES

from runner import cli

pytestmark = pytest.mark.slow

SHORT = ["training.epochs=null", "training.max_steps=2", "training.batch_size=4", "training.micro_batch_size=4"]
SAMPLED = ["grpo.num_generations=2", "grpo.max_completion_length=8"]
CASES = [*((name, ()) for name in FILES), *((name, ("--task", "grpo")) for name in REWARDS)]


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the run of each recipe ended in, by the words that wrote it."""
    wanted = []
    with pytest.MonkeyPatch.context() as patch:
        for name, words in CASES:
            folder = tmp_path_factory.mktemp(name)
            patch.chdir(folder)
            code = cli.main(
                ["init", FILES[name](), "--yes", "--model", str(tiny_model), "--output", "mine.yaml", *words]
            )
            assert code == 0
            sampled = re.search(r"^task: grpo$", Path("mine.yaml").read_text(), re.MULTILINE)
            once = [*SHORT, *(SAMPLED if sampled else ())]
            wanted.append({"name": called(name, words), "file": str(folder / "mine.yaml"), "once": once})
    return tried(tmp_path_factory.mktemp("trained"), wanted)


def called(name: str, words: tuple[str, ...]) -> str:
    return "-".join((name, *words[1:]))


@pytest.mark.parametrize("name", [called(*case) for case in CASES])
def test_its_recipe_trains(trained: dict[str, dict[str, Any]], name: str) -> None:
    found = trained[name]
    assert "fault" not in found, found["fault"]
    assert [step for step, _, _ in found["steps"]] == [1, 2]
    assert all(math.isfinite(loss) for _, loss, _ in found["steps"])
    if not name.endswith("-grpo") and name != "prompts_alone":
        assert all(loss > 1 for _, loss, _ in found["steps"])  # of random weights, so something was to be learned
