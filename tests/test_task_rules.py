"""What a task demands of the settings beside it: each rule's sentence, its place, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipe import faults, only, write

from runner.reading import check, task_rules

GRPO = """\
task: grpo
model: {name: owner/model}
dataset:
  train: rows.jsonl
rewards:
  - use: valid_json
"""
USE_OR_FILE = "`use` names a reward that ships with Tunesmith, `file` a Python file of your own"


def told(path: str, *overrides: str) -> list[tuple[str, int, str | None]]:
    """Each fault's sentence, line and hint."""
    return [(each.message, each.place.line if each.place else 0, each.hint) for each in faults(path, *overrides)]


def test_sound_settings_pass(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO)
    for overrides in (
        [],
        ["training.batch_size=32", "grpo.num_generations=8"],
        ["training.batch_size=2", "grpo.num_generations=2"],
        ["deepspeed.zero_stage=2", "deepspeed.offload=optimizer"],
        ["deepspeed.zero_stage=3", "grpo.engine=vllm"],
        ["deepspeed.offload=parameters", "grpo.engine=vllm"],
        ["grpo.loss_type=luspo", "grpo.importance_sampling_level=sequence"],
        ["grpo.loss_type=grpo", "grpo.importance_sampling_level=sequence"],
        ["grpo.loss_type=sapo", "grpo.importance_sampling_level=sequence"],
        ["dataset.format=prompt"],
        ["dataset.overflow=drop"],
        ["evaluation.metrics=[reward]", "evaluation.samples=0"],
        ["training.early_stopping=null", "dataset.max_length=null", "training.evaluate_every=2"],
        ["training.early_stopping={metric: reward}"],
        ["training.early_stopping={metric: reward/valid_json}"],
        ["rewards=[{use: valid_json, weight: 0}, {use: tag_format}]"],
        ["rewards=[{use: valid_json, weight: -1}]"],
        ["training.max_steps=5"],
    ):
        check.read(path, overrides)


# sections and settings of another task


@pytest.mark.parametrize("task", ["sft"])
@pytest.mark.parametrize(("section", "value"), [("grpo", "{beta: 0.1}"), ("rewards", "[{use: valid_json}]")])
def test_a_section_of_grpo_belongs_to_it(tmp_path: Path, task: str, section: str, value: str) -> None:
    text = f"task: {task}\nmodel: {{name: owner/model}}\ndataset: {{train: rows.jsonl}}\n{section}: {value}\n"
    message = f"`{section}` belongs to `task: grpo`, and this recipe's task is `{task}`"
    assert told(write(tmp_path, text)) == [(message, 4, f"take `{section}` away")]


@pytest.mark.parametrize(
    ("block", "line", "key"),
    [
        ("dataset:\n  train: rows.jsonl\n  learn: all\n", 5, "dataset.learn"),
        ("dataset:\n  train: rows.jsonl\n  max_length: 64\n", 5, "dataset.max_length"),
        ("dataset:\n  train: rows.jsonl\ntraining:\n  packing: bfd\n", 6, "training.packing"),
    ],
)
def test_settings_that_mean_nothing_to_grpo(tmp_path: Path, block: str, line: int, key: str) -> None:
    path = write(tmp_path, GRPO.replace("dataset:\n  train: rows.jsonl\n", block))
    assert told(path) == [(f"`{key}` means nothing to `task: grpo`", line, task_rules.NOT_GRPO[key])]
    check.read(write(tmp_path, GRPO.replace("grpo", "sft").replace("rewards:\n  - use: valid_json\n", "")))


def test_all_of_them_are_told_at_once(tmp_path: Path) -> None:
    found = faults(write(tmp_path, GRPO), "dataset.learn=last", "training.packing=none", "dataset.max_length=64")
    assert {each.message.split("`")[1] for each in found} == {
        "dataset.learn", "training.packing", "dataset.max_length",
    }  # fmt: skip


# rewards


def test_a_recipe_without_rewards(tmp_path: Path) -> None:
    path = write(tmp_path, "task: grpo\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n")
    hint = "write `rewards: [{use: exact_answer}]`, or `[{file: rewards.py}]` with a function of your own"
    assert told(path) == [("`task: grpo` needs `rewards`", 1, hint)]
    assert [message for message, _, _ in told(path, "rewards=null")] == ["`task: grpo` needs `rewards`"]


def test_rewards_that_are_no_rewards(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO)
    assert "empty" in only(path, "rewards=[]").message
    assert only(path, "rewards=[1]").message
    assert only(path, "rewards=valid_json").message
    assert [each.message for each in faults(path, "rewards=[{uses: valid_json}]")] == [
        "`rewards[0]` has neither `use` nor `file`", "unknown key `uses` in `rewards[0]`",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "line", "message", "hint"),
    [
        ("use: valid_json\n    file: r.py", 6, "`rewards[0]` has both `use` and `file`", USE_OR_FILE),
        ("weight: 2", 6, "`rewards[0]` has neither `use` nor `file`", USE_OR_FILE),
        (
            "use: valid_json\n    function: other", 6,
            "`rewards[0]` has a `function`, and `use` names one already", "take `function` away",
        ),
    ],
)  # fmt: skip
def test_a_reward_has_one_home(tmp_path: Path, item: str, line: int, message: str, hint: str | None) -> None:
    (tmp_path / "r.py").write_text("def r(prompt, completion, example):\n    return 1\n")
    path = write(tmp_path, GRPO.replace("use: valid_json", item))
    assert told(path) == [(message, line, hint)]


def test_the_place_of_a_reward_is_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "  - use: tag_format\n  - weight: 1\n")
    problem = only(path)
    assert problem.place is not None
    assert (problem.message, problem.place.line) == ("`rewards[2]` has neither `use` nor `file`", 8)


def test_weights_that_are_all_zero(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "    weight: 0\n  - {use: tag_format, weight: 0}\n")
    assert [message for message, _, _ in told(path)] == ["every reward has the weight 0, so that nothing is learned"]


# numbers that have to fit


def test_a_step_holds_whole_groups(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "training:\n  batch_size: 20\ngrpo:\n  num_generations: 8\n")
    message = "`training.batch_size` is 20, which is no multiple of `grpo.num_generations` 8"
    hint = "it counts the completions of a step; 16 would do; `training.batch_size` is set on line 8"
    assert told(path) == [(message, 10, hint)]


def test_the_default_batch_is_one_group_and_a_smaller_one_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "training: {batch_size: 8}\n")
    message = "`training.batch_size` is 8, which is no multiple of `grpo.num_generations` 16"
    assert told(path) == [(message, 7, "it counts the completions of a step; 16 would do")]
    assert [message for message, _, _ in told(write(tmp_path, GRPO), "grpo.num_generations=3")] == [
        "`training.batch_size` is 16, which is no multiple of `grpo.num_generations` 3"
    ]


def test_zero_3_cannot_sample(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "deepspeed:\n  zero_stage: 3\n")
    message = "`deepspeed.zero_stage: 3` gathers all weights for each sampled token, which takes hours a step"
    assert told(path) == [(message, 8, "use stage 2 or less, or `grpo.engine: vllm`")]
    message = "`deepspeed.offload: parameters` needs ZeRO stage 3, which cannot sample completions"
    path = write(tmp_path, GRPO + "deepspeed:\n  offload: parameters\n")
    assert told(path) == [(message, 8, "use `offload: optimizer`, or `grpo.engine: vllm`")]


@pytest.mark.parametrize("loss", ["bnpo", "cispo", "dapo", "dr_grpo", "vespo"])
def test_losses_over_tokens_are_not_weighted_by_sequence(tmp_path: Path, loss: str) -> None:
    path = write(tmp_path, GRPO + f"grpo:\n  loss_type: {loss}\n  importance_sampling_level: sequence\n")
    message = f"`loss_type: {loss}` sums over tokens, and `importance_sampling_level` is `sequence`"
    hint = "the losses for whole completions are `grpo`, `luspo`, `sapo`; `grpo.loss_type` is set on line 8"
    assert told(path) == [(message, 9, hint)]


def test_luspo_is_a_loss_of_whole_completions(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "grpo:\n  loss_type: luspo\n")
    hint = "set `grpo.importance_sampling_level: sequence`"
    assert told(path) == [("`loss_type: luspo` is a loss of whole completions", 8, hint)]


@pytest.mark.parametrize(
    ("loss", "key", "hint"),
    [
        ("cispo", "epsilon", "`cispo` is bounded by `epsilon_high` alone"),
        ("cispo", "delta", "`cispo` is bounded by `epsilon_high` alone"),
        ("sapo", "epsilon_high", "take it away"),
        ("vespo", "delta", "take it away"),
    ],
)
def test_a_loss_without_bounds_takes_none(tmp_path: Path, loss: str, key: str, hint: str) -> None:
    path = write(tmp_path, GRPO + f"grpo:\n  loss_type: {loss}\n  {key}: 1.5\n")
    assert told(path) == [(f"`grpo.{key}` means nothing to `loss_type: {loss}`", 9, hint)]


@pytest.mark.parametrize("loss", ["loss_type: dapo\n  epsilon: 0.1", "loss_type: cispo\n  epsilon_high: 3"])
def test_a_loss_with_bounds_takes_its_own(tmp_path: Path, loss: str) -> None:
    assert check.read(write(tmp_path, GRPO + f"grpo:\n  {loss}\n")).grpo


def test_what_vllm_cannot_sample_with(tmp_path: Path) -> None:
    path = write(tmp_path, GRPO + "grpo:\n  engine: vllm\nadapter:\n  type: dora\n  rank: 600\n")
    where = "; `grpo.engine` is set on line 8"
    kinds = "use `adapter.type: lora` or `rslora`, or `grpo.engine: transformers`"
    message = "vLLM takes adapters up to rank 512, and `adapter.rank` is 600"
    assert told(path) == [
        ("vLLM does not know DoRA", 10, kinds + where),
        (message, 11, "`adapter.rank: 512` is the largest" + where),
    ]
    path = write(tmp_path, GRPO.replace("model: {", "model: {quantization: int8, ") + "grpo: {engine: vllm}\n")
    (message, _, hint) = told(path)[0]
    assert message == "vLLM cannot sample with weights that are made `int8` as they are loaded"


# data and metrics


@pytest.mark.parametrize(
    ("task", "metrics", "wrong"),
    [("grpo", "[loss]", "loss"), ("grpo", "[reward, exact_match]", "exact_match"), ("sft", "[loss, reward]", "reward")],
)
def test_metrics_of_another_task(tmp_path: Path, task: str, metrics: str, wrong: str) -> None:
    text = GRPO if task == "grpo" else "task: sft\nmodel: {name: o/m}\ndataset: {train: rows.jsonl}\n"
    path = write(tmp_path, text + f"evaluation:\n  metrics: {metrics}\n")
    (found,) = told(path)
    assert found[0] == f"the metric `{wrong}` is none of `task: {task}`"
    assert found[1] == text.count("\n") + 2
    assert "`metrics: [reward]`" in str(found[2])


def test_formats_of_another_task(tmp_path: Path) -> None:
    text = GRPO.replace("  train: rows.jsonl\n", "  train:\n    - path: rows.jsonl\n      format: messages\n")
    hint = "its rows have a `prompt`, and any columns that rewards need"
    assert told(write(tmp_path, text)) == [("`format: messages` is none of `task: grpo`", 6, hint)]
    path = write(tmp_path, GRPO)
    assert [each[0] for each in told(path, "dataset.format=prompt_completion")] == [
        "`format: prompt_completion` is none of `task: grpo`"
    ]
    path = write(tmp_path, "task: sft\nmodel: {name: o/m}\ndataset: {train: rows.jsonl, format: prompt}\n")
    assert told(path) == [("`format: prompt` is none of `task: sft`", 3, None)]


@pytest.mark.parametrize("overflow", ["truncate", "split"])
def test_a_prompt_is_not_shortened(tmp_path: Path, overflow: str) -> None:
    text = GRPO.replace("  train: rows.jsonl\n", f"  train: rows.jsonl\n  overflow: {overflow}\n")
    message = f"a prompt cannot be shortened, and `dataset.overflow` is `{overflow}`"
    assert told(write(tmp_path, text)) == [(message, 5, "use `drop`")]


def test_many_faults_come_together(tmp_path: Path) -> None:
    found = told(
        write(tmp_path, GRPO),
        "deepspeed.zero_stage=3",
        "dataset.overflow=split",
        "grpo.num_generations=3",
        "evaluation.metrics=[loss]",
        "rewards=[{weight: 0}]",
    )
    assert len(found) == 6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("grpo.num_generations=1", "at least 2"),
        ("grpo.temperature=0", "greater than 0"),
        ("grpo.beta=-0.1", "at least 0"),
        ("grpo.top_p=1.5", "at most 1"),
        ("grpo.max_completion_length=0", "at least 1"),
        ("grpo.delta=1", "greater than 1"),
        ("grpo.num_iterations=0", "from 1 to 100"),
        ("grpo.guard.cut=0", "greater than 0"),
        ("grpo.beta=true", "must be"),
        ("grpo.loss_type=ppo", "`dapo`"),
        ("rewards.0.timeout=0", "greater than 0"),
        ("rewards.0.weight=.nan", "number"),
        ("rewards.0.on_error=ignore", "`zero`"),
        ("rewards.0.name=a b", "`a b`"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, override: str, words: str) -> None:
    problem = only(write(tmp_path, GRPO), override)
    assert words in problem.message + str(problem.hint), problem
