"""The recipe that ships learns something: its reward rises on the real model, and on prompts that it never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import ROOT, events, tunesmith
from small_model import MODEL

pytestmark = pytest.mark.slow

RISE = 0.3  # of a reward between 0 and 1.5: several times what chance moves a mean over 128 completions


def test_rewards_rise(tmp_path: Path) -> None:
    command = tunesmith(
        "train",
        ROOT / "recipes" / "grpo.yaml",
        "--set",
        f"model.name={MODEL}",
        "--set",
        f"output.directory={tmp_path}",
        "--set",
        "training.max_steps=12",
    )
    assert command.code == 0, command.out + command.err
    rewards = [event["reward"] for event in events(tmp_path / "grpo")]
    assert len(rewards) == 12
    first, last = sum(rewards[:3]) / 3, sum(rewards[-4:]) / 4
    assert last > first + RISE, rewards
    scores = json.loads((tmp_path / "grpo" / "evaluation.json").read_text())["metrics"]["reward"]
    assert scores["adapter"] > scores["base"] + RISE / 2, scores
