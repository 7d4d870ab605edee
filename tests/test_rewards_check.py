"""`tunesmith rewards check`: completions that are sampled or given, what is told of their scores, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from reward_pools import HOSTILE, processes_of
from runs import ROOT, Command, tunesmith

from runner import rewards_check
from runner.data import completions
from runner.errors import DataError

REWARDS = """
def length(prompt, completion, example):
    print("read", completion)
    return len(completion) / 10

def same(prompts, completions, **columns):
    return [1.0] * len(completions)

def right(prompt, completion, example):
    return float(completion == str(example["answer"]))

def strict(prompt, completion, example):
    if "bad" in completion:
        raise ValueError(f"no { completion }")
    return len(completion)

def turns(prompts, completions, **columns):
    assert all(isinstance(prompt, list) for prompt in prompts), prompts
    return [len(prompt[-1]["content"]) + len(messages[0]["content"]) for prompt, messages in zip(prompts, completions)]
"""
ROWS: list[dict[str, Any]] = [
    {"prompt": "1 + 1", "completion": "2", "answer": 2},
    {"prompt": "1 + 1", "completion": "three", "answer": 2},
    {"prompt": "2 + 2", "completion": "4", "answer": 4},
    {"prompt": "2 + 2", "completion": "bad", "answer": 4},
]


def write(folder: Path, *rewards: dict[str, Any], model: str = "owner/nowhere", **blocks: Any) -> Path:
    """A recipe with these rewards, each of the file above unless it names one."""
    (folder / "mine.py").write_text(REWARDS)
    recipe = {
        "task": "grpo",
        "model": {"name": model},
        "dataset": {"train": str(ROOT / "recipes" / "arithmetic" / "train.jsonl")},
        "grpo": {"num_generations": 2, "max_completion_length": 6, "reward_workers": 2},
        "training": {"batch_size": 4, "max_steps": 2},
        "rewards": [{"file": "mine.py", **reward} for reward in rewards],
        "output": {"directory": str(folder / "outputs")},
    }
    recipe |= {name: {**recipe.get(name, {}), **block} for name, block in blocks.items()}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def written(folder: Path, *rows: object) -> Path:
    path = folder / "completions.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def check(recipe: Path, *words: object) -> Command:
    ended = tunesmith("rewards", "check", recipe, *words)
    assert "Traceback" not in ended.out + ended.err, ended.out + ended.err
    return ended


def left(recipe: Path) -> Path:
    return recipe.parent / "outputs" / "recipe" / "rewards-check"


def table(out: str) -> dict[str, list[str]]:
    """The table's cells by the name of the reward: weight, mean, spread, within, equal, and so on."""
    lines = [line.split() for line in out.splitlines()]
    header = next(number for number, cells in enumerate(lines) if cells[:2] == ["reward", "weight"])
    total = next(number for number, cells in enumerate(lines) if cells[:1] == ["total"])
    return {cells[0]: cells[1:] for cells in lines[header + 2 : total + 1] if cells}


# Completions of a file


def test_the_scores_of_a_files_completions(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "right"}, {"function": "length", "weight": 0.5})
    ended = check(recipe, "--completions", written(tmp_path, *ROWS))
    assert (ended.code, ended.err) == (0, "")
    assert "4 completions of 2 prompts" in ended.out
    found = table(ended.out)
    assert found["right"][:6] == ["1", "0.5", "0.577", "0.707", "0%", "0"]
    assert found["length"][:6] == ["0.5", "0.25", "0.191", "0.212", "0%", "0"]
    assert found["total"] == ["0.625", "0.492", "0.601", "0%"]
    assert "cut by length: not known" in ended.out
    assert ended.out.count("length printed: read") == 3
    assert "best: total 1.05  (right 1, length 0.1)\n  prompt: 1 + 1\n  completion: 2\n" in ended.out
    assert "worst: total 0.15  (right 0, length 0.3)\n  prompt: 2 + 2\n  completion: bad\n" in ended.out
    assert [entry.name for entry in left(recipe).parent.iterdir()] == ["rewards-check"]
    report = json.loads((left(recipe) / "report.json").read_text())
    assert [function["name"] for function in report["functions"]] == ["right", "length"]
    assert processes_of(left(recipe)) == []


def test_no_model_is_loaded_for_a_file(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "length"})
    words = ["rewards", "check", str(recipe), "--completions", str(written(tmp_path, *ROWS))]
    program = (
        "import sys; from runner import cli; assert cli.main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'transformers', 'datasets', 'peft', 'trl'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_rewards_without_signal(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "same"})
    ended = check(recipe, "--completions", written(tmp_path, *ROWS))
    assert ended.code == 1
    assert "no signal: all completions of a prompt score the same, for every prompt\n" in ended.out
    assert "warning: 100% of the groups have one score for all their completions" in ended.out
    assert "one of all: total 1" in ended.out and "worst" not in ended.out
    assert "all score the same is 1, which is 0.1 above the limit `grpo.guard.without_signal: 0.9`" in ended.err
    assert (
        check(recipe, "--completions", tmp_path / "completions.jsonl", "--set", "grpo.guard.without_signal=1").code == 0
    )


def test_a_limit_that_is_passed_is_shown_where_it_stands(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "same"}, grpo={"guard": {"without_signal": 0.5}})
    ended = check(recipe, "--completions", written(tmp_path, *ROWS), "--format", "json")
    (fault,) = (json.loads(line) for line in ended.out.splitlines() if line.startswith("{"))
    line = next(n for n, text in enumerate(recipe.read_text().splitlines(), 1) if "without_signal" in text)
    assert (ended.code, fault["line"]) == (1, line)


def test_a_reward_that_hangs_is_named(tmp_path: Path) -> None:
    hang = {"file": str(HOSTILE / "hang.py"), "timeout": 0.5}
    recipe = write(tmp_path, {"function": "length"}, hang)
    ended = check(recipe, "--completions", written(tmp_path, *ROWS))
    assert ended.code == 1
    assert table(ended.out)["hang"][5] == "1" and table(ended.out)["length"][5] == "0"
    assert "hang failed: 1 of 4; the first time, took longer than 0.5 s" in ended.out
    assert "`hang` that fail is 0.25, which is 0.05 above the limit `grpo.guard.faults: 0.2`" in ended.err
    assert f"--> {HOSTILE / 'hang.py'}:6:5" in ended.err
    events = [json.loads(line) for line in (left(recipe) / "rewards.jsonl").read_text().splitlines()]
    assert [event["reward"] for event in events if event["kind"] == "fault"] == ["hang"]


def test_a_reward_that_may_not_fail_is_told_of_to_the_end(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "strict", "on_error": "fail"}, grpo={"max_faults_in_a_row": 1})
    rows = [*ROWS, *({"prompt": "3", "completion": "ab" * number} for number in range(1, 9))]
    ended = check(recipe, "--completions", written(tmp_path, *rows))
    assert ended.code == 1
    assert table(ended.out)["strict"][5] == "1" and "12 completions of 3 prompts" in ended.out
    assert "`strict` failed, and its `on_error: fail` would have ended a run" in ended.err
    assert "ValueError: no bad" in ended.err


def test_a_prompt_of_turns_reaches_rewards_as_the_trainer_gives_it(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "1 + 1"}]
    recipe = write(tmp_path, {"function": "turns"}, {"function": "length"})
    rows = [{"prompt": asked, "completion": text} for text in ("a", "abc")]
    ended = check(recipe, "--completions", written(tmp_path, *rows))
    assert ended.code == 0, ended.out + ended.err
    assert table(ended.out)["turns"][1] == "7"


def test_completions_of_a_check_can_be_scored_again(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "right"}, {"function": "length"})
    first = check(recipe, "--completions", written(tmp_path, *ROWS))
    kept = left(recipe) / "completions.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [line["scores"] for line in lines][:2] == [{"right": 1, "length": 0.1}, {"right": 0, "length": 0.5}]
    assert lines[0]["example"] == {"answer": 2} and lines[0]["total"] == 1.1
    again = check(recipe, "--completions", kept)
    means = [{name: cells[1:5] for name, cells in table(ended.out).items()} for ended in (first, again)]
    assert means[0] == means[1]


def test_what_a_completion_would_do_to_a_terminal_is_written_out(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "length"})
    rows = [{"prompt": "[red]a[/red]", "completion": text} for text in ("\x1b[31mred\x1b[2J", "x" * 999)]
    ended = check(recipe, "--completions", written(tmp_path, *rows))
    assert "\x1b" not in ended.out and "\\x1b[31mred" in ended.out and "[red]a[/red]" in ended.out
    assert "x" * 200 + "…" in ended.out and "x" * 201 not in ended.out


def test_every_fault_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "length"})
    path = written(
        tmp_path,
        {"prompt": "a", "response": "b"},
        {"prompt": 5, "completion": 2},
        '{"completion": "x"',
        '{"completion": "\\ud800"}',
        {"prompt": [{"role": "assistant", "content": "x"}], "completion": ""},
        ROWS[0],
    )
    ended = check(recipe, "--completions", path)
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith("error: missing column `completion`; the row has `prompt`, `response`\n")
    assert "hint: if `response` holds it, name it `completion`" in ended.err
    for line in (1, 2, 3, 4, 5):
        assert f"--> {path}:{line}" in ended.err
    assert ended.err.endswith("Found 6 problems\n")
    assert not left(recipe).exists()


@pytest.mark.parametrize("name", ["nowhere.jsonl", "empty.jsonl", "recipe.yaml", "."])
def test_a_file_that_holds_no_completions(tmp_path: Path, name: str) -> None:
    recipe = write(tmp_path, {"function": "length"})
    (tmp_path / "empty.jsonl").touch()
    ended = check(recipe, "--completions", tmp_path / name)
    assert ended.code == 2 and ended.out == "" and name.strip(".") in ended.err


def test_rewards_that_cannot_be_run_are_told_as_ever(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "length", "options": {"most": 5}}, {"function": "nowhere"})
    ended = check(recipe, "--completions", written(tmp_path, *ROWS))
    assert ended.code == 2 and ended.err.endswith("Found 2 problems\n")


def test_what_makes_no_sense_on_the_command_line(tmp_path: Path) -> None:
    recipe = write(tmp_path, {"function": "length"})
    assert check(recipe, "--prompts", 0).code == 2
    both = check(recipe, "--prompts", 2, "--completions", "x.jsonl")
    assert both.code == 2 and both.err.startswith("error: `--completions` has its own prompts\n")
    other = check(ROOT / "recipes" / "sft_chat.yaml")
    assert other.code == 2 and other.err.startswith("error: only recipes for `task: grpo` have rewards")


# The file's reader


def test_completions_of_equal_prompts_are_one_group(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}]
    rows = [{"prompt": prompt, "completion": "x", "n": n} for n, prompt in enumerate(["a", turns, "b", "a", turns])]
    found = completions.read(str(written(tmp_path, *rows)))
    assert [answer.group for answer in found] == [0, 1, 2, 0, 1]
    assert [answer.line for answer in found] == [1, 2, 3, 4, 5]
    assert (found[1].prompt, found[1].asked, found[1].columns) == ("a", json.dumps(turns), '{"n": 1}')


def test_completions_without_prompts_are_grouped_by_their_columns(tmp_path: Path) -> None:
    rows = [{"completion": "x", "answer": answer} for answer in (1, 2, 1)]
    found = completions.read(str(written(tmp_path, *rows, {"prompt": None, "completion": "y", "answer": 2})))
    assert [answer.group for answer in found] == [0, 1, 0, 1]


def test_an_example_takes_the_place_of_the_other_columns(tmp_path: Path) -> None:
    rows = [{"completion": "x", "example": example, "other": 1} for example in ({"answer": 2}, "text")]
    found = completions.read(str(written(tmp_path, *rows)))
    assert [json.loads(answer.columns) for answer in found] == [{"answer": 2}, {"example": "text", "other": 1}]


def test_only_the_first_of_many_faults_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        completions.read(str(written(tmp_path, *[{"completion": n} for n in range(50)])))
    assert (len(caught.value.problems), caught.value.total) == (completions.MOST_SHOWN, 50)


def test_the_prompts_that_are_asked() -> None:
    assert rewards_check.picked(10, 3, 42, shuffle=False) == [0, 1, 2]
    some = rewards_check.picked(1000, 8, 42, shuffle=True)
    assert some == sorted(set(some)) and len(some) == 8 and some != list(range(8))
    assert some == rewards_check.picked(1000, 8, 42, shuffle=True) != rewards_check.picked(1000, 8, 43, shuffle=True)
    assert rewards_check.picked(3, 8, 42, shuffle=True) == [0, 1, 2]


# Completions that are sampled


@pytest.fixture(scope="module")
def sampled(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """A check of three prompts on the tiny model, with one reward that fails on every completion."""
    recipe = write(
        tmp_path_factory.mktemp("sampled"), {"function": "length"}, {"function": "turns"}, model=str(tiny_model)
    )
    return recipe, check(recipe, "--prompts", 3)


@pytest.mark.slow
def test_completions_are_sampled_and_scored(sampled: tuple[Path, Command]) -> None:
    recipe, ended = sampled
    assert "6 completions of 3 prompts" in ended.out
    found = table(ended.out)
    assert float(found["length"][1]) > 0 and float(found["length"][3]) > 0
    assert found["turns"][1] == "–" and found["turns"][5] == "6"
    lines = [json.loads(line) for line in (left(recipe) / "completions.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and all(set(line["example"]) == {"answer"} for line in lines)
    assert len({line["prompt"] for line in lines}) == 3
    assert lines[0]["prompt"] == lines[1]["prompt"] and lines[0]["completion"] != lines[1]["completion"]


@pytest.mark.slow
def test_the_limits_that_sampled_completions_pass(sampled: tuple[Path, Command]) -> None:
    _, ended = sampled
    assert ended.code == 1
    assert "cut by length: 100% of the completions" in ended.out
    assert "the share of completions that are cut is 1, which is 0.1 above the limit `grpo.guard.cut: 0.9`" in ended.err
    assert "`turns` that fail is 1, which is 0.8 above" in ended.err
    assert "turns failed: 6 of 6; the first time, " in ended.out


@pytest.mark.slow
def test_a_check_leaves_a_run_to_begin_from_nothing(sampled: tuple[Path, Command]) -> None:
    recipe, _ = sampled
    assert [entry.name for entry in left(recipe).parent.iterdir()] == ["rewards-check"]
    assert processes_of(left(recipe)) == []


@pytest.mark.slow
def test_the_adapter_that_a_recipe_continues_is_sampled_from(tiny_model: Path, tmp_path: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from runner import machine, prepare, rehearse, supervise
    from runner.reading import check as checks
    from runner.reading import source

    adapted = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), peft.LoraConfig(target_modules="all-linear")
    )
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "adapter")

    def completions_of(folder: str, **adapter: Any) -> list[str]:
        recipe = write(tmp_path, {"function": "length"}, model=str(tiny_model), adapter=adapter)
        places = source.read(str(recipe))
        settled = supervise.settle(checks.settle(places, str(recipe)), places, machine.here(), None)
        plan = replace(settled, directory=str(tmp_path / folder))
        prepare.run(plan)
        (tmp_path / folder / rehearse.PROMPTS).write_text("[3, 5]")
        rehearse.run(plan)
        return [
            json.loads(line)["completion"] for line in (tmp_path / folder / rehearse.SAMPLED).read_text().splitlines()
        ]

    base = completions_of("base")
    assert completions_of("again") == base
    assert completions_of("continued", continue_from=str(tmp_path / "adapter")) != base


@pytest.mark.slow
def test_a_fault_of_the_data_is_told_before_anything_is_sampled(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"question": "b"}\n')
    recipe = write(tmp_path, {"function": "length"}, model=str(tiny_model), dataset={"train": "rows.jsonl"})
    ended = check(recipe)
    assert ended.code == 2 and "rows.jsonl:2" in ended.err
    assert not (left(recipe) / "sampled.jsonl").exists()
