"""Training with rewards on a tiny model: what a run leaves, its losses, runs that are stopped, and hostile rewards."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import BATCH, GENERATIONS, OWN_REWARDS, again, by_step, lines, reward, stopped, tried, write_grpo
from runs import events, run_of, tunesmith

from runner.reading.names import LOSSES

pytestmark = pytest.mark.slow

STEPS = 10
TWO = [
    {"file": "own.py", "function": "length_reward", "weight": 2},
    {"file": "own.py", "function": "letters_reward", "weight": 0.5, "strings": True},
]
LONG: dict[str, Any] = {
    "dataset": {"evaluation": "evaluation.jsonl"},
    "adapter": {"dropout": 0.05},
    "grpo": {"beta": 0.04},
    "training": {"max_steps": STEPS, "checkpoints": {"every": 2, "keep": 3}},
}


def write_long(folder: Path, model: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(OWN_REWARDS)
    return write_grpo(folder, model, TWO, LONG, turns=True)


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run: prompts are turns, and its two rewards are of both conventions."""
    recipe = write_long(tmp_path_factory.mktemp("finished"), tiny_model)
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    return run_of(recipe)


def newest(directory: Path) -> bytes:
    """The weights of a run's newest checkpoint."""
    folders = sorted((directory / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    return (folders[-1] / "adapter_model.safetensors").read_bytes()


# a run that finishes


def test_every_step_is_told(finished: Path) -> None:
    found = events(finished)
    assert [event["step"] for event in found] == list(range(1, STEPS + 1))
    completions = by_step(finished)
    for event in found:
        totals = [line["total"] for line in completions[event["step"]]]
        assert event["reward"] == pytest.approx(statistics.mean(totals), rel=1e-4)
        assert event["reward_std"] == pytest.approx(statistics.stdev(totals), rel=1e-3)
        for name in ("length_reward", "letters_reward"):
            scores = [line["scores"][name] for line in completions[event["step"]]]
            assert event["rewards"][name]["mean"] == pytest.approx(statistics.mean(scores), rel=1e-4)
            assert event["rewards"][name]["std"] == pytest.approx(statistics.stdev(scores), rel=1e-3, abs=1e-6)
        assert event["entropy"] > 0 and 0 < event["length"] <= 6
        assert (event["without_signal"], event["faults"]) == (0.0, 0.0) and 0 <= event["cut"] <= 1
        assert event["learned_tokens"] == sum(line["tokens"] for line in completions[event["step"]])
        assert set(event["seconds_of"]) == {"generation", "rewards", "update"}
        assert all(seconds > 0 for seconds in event["seconds_of"].values())
    assert found[0]["kl"] == pytest.approx(0, abs=1e-6) and found[-1]["kl"] > 1e-5
    assert found[STEPS - 2]["warnings"] == []
    assert "of the completions are cut" in "".join(found[STEPS - 1]["warnings"])  # it is said once ten steps were seen


def test_every_completion_is_kept_with_its_scores(finished: Path) -> None:
    completions = by_step(finished)
    assert {step: len(rows) for step, rows in completions.items()} == dict.fromkeys(range(1, STEPS + 1), BATCH)
    for rows in completions.values():
        for start in range(0, BATCH, GENERATIONS):
            group = rows[start : start + GENERATIONS]
            assert len({(line["file"], line["line"], line["prompt"]) for line in group}) == 1
            totals = [line["total"] for line in group]
            spread = statistics.stdev(totals) + 1e-4
            for line in group:
                scores = line["scores"]
                assert scores["length_reward"] == pytest.approx(len(line["completion"]) / 100)
                assert line["total"] == pytest.approx(2 * scores["length_reward"] + 0.5 * scores["letters_reward"])
                assert line["advantage"] == pytest.approx((line["total"] - statistics.mean(totals)) / spread, abs=1e-3)
                assert 1 <= line["tokens"] <= 6 and line["cut"] in (True, False) and "faults" not in line
                assert line["cut"] or line["tokens"] < 6 or line["completion"]
    assert len({line["completion"] for rows in completions.values() for line in rows}) > STEPS * BATCH / 2


def test_each_prompt_is_asked_once_an_epoch(finished: Path) -> None:
    """Twelve prompts are two a step: each is asked once in the first six steps."""
    completions = by_step(finished)
    asked = [line["line"] for step in range(1, 7) for line in completions[step]]
    assert sorted(asked) == sorted(list(range(1, 13)) * GENERATIONS)


def test_what_rewards_print_is_kept(finished: Path) -> None:
    printed = [line for line in lines(finished / "rewards.jsonl") if line["kind"] == "printed"]
    assert {line["reward"] for line in printed} == {"letters_reward"}
    assert len(printed) == STEPS * BATCH + 2 * 3  # and those of both models' answers to the held-out prompts
    assert printed[0]["text"].startswith("numbers [")


def test_plain_peft_reads_the_adapter(finished: Path, tiny_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.arange(20)[None]
    before = base(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(base, finished / "adapter")
    assert (adapted(input_ids=ids).logits - before).abs().max() > 1e-4


def test_both_models_are_scored(finished: Path) -> None:
    found = json.loads((finished / "evaluation.json").read_text())
    assert (found["rows"], found["questions"], found["step"]) == (3, 3, STEPS)
    assert set(found["metrics"]) == {"reward", "reward/length_reward", "reward/letters_reward"}
    samples = lines(finished / "samples.jsonl")
    for which in ("base", "adapter"):
        totals = [sample[f"{which}_scores"]["reward"] for sample in samples]
        assert found["metrics"]["reward"][which] == pytest.approx(statistics.mean(totals))
        for sample in samples:
            scores = sample[f"{which}_scores"]
            assert scores["reward/length_reward"] == pytest.approx(len(sample[which]) / 100)
            assert scores["reward"] == pytest.approx(
                2 * scores["reward/length_reward"] + 0.5 * scores["reward/letters_reward"]
            )


# losses, several steps on the same completions, and the rows that move nothing


@dataclass(frozen=True)
class Tried:
    """What became of many trials: where each was, and what it found."""

    directories: dict[str, Path]
    found: dict[str, list[dict[str, Any]]]


def trials(folder: Path, given: list[tuple[str, Path, dict[str, Any]]], processes: int = 1) -> Tried:
    found: dict[str, list[dict[str, Any]]] = {}
    each = tried(folder, [{"directory": directory, **settings} for _, directory, settings in given], processes)
    for (name, _, _), result in zip(given, each, strict=True):
        found.setdefault(name, []).append(result)
    return Tried({name: directory for name, directory, _ in given}, found)


@pytest.fixture(scope="module")
def alone(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Trials of one process: every loss with and without `beta`, runs of two steps a sampling, and too many faults."""
    folder = tmp_path_factory.mktemp("alone")
    given: list[tuple[str, Path, dict[str, Any]]] = []
    interrupted = again(finished, folder / "interrupted")
    assert stopped(interrupted) == 75
    shutil.copyfile(interrupted / "metrics.jsonl", folder / "interrupted.jsonl")
    given.append(("interrupted", interrupted, {}))
    short = {"max_steps": 2, "micro_batch_size": 4}
    for loss in LOSSES:
        for beta in (0.0, 0.04):
            name = f"{loss} {beta}"
            level = "sequence" if loss == "luspo" else "token"
            grpo = {"loss_type": loss, "beta": beta, "importance_sampling_level": level}
            directory = again(finished, folder / name, grpo=grpo, training=short, adapter={"dropout": 0.0})
            given.append((name, directory, {"what": "signal"}))
    twice = {"grpo": {"num_iterations": 2}, "training": {"max_steps": 6, "log_every": 1}}
    given.append(("twice", again(finished, folder / "twice", **twice), {}))
    halved = again(finished, folder / "halved", **twice)
    given += [("halved", halved, {"stop_at": 1}), ("halved", halved, {})]
    broken = folder / "broken.py"
    broken.write_text("def broken(prompt, completion, example):\n    return 1 / 0\n")
    faulty = again(finished, folder / "faulty", [reward(broken, "broken")], grpo={"max_faults_in_a_row": 12})
    given.append(("faulty", faulty, {}))
    strict = again(finished, folder / "strict", [reward(broken, "broken", on_error="fail")])
    given.append(("strict", strict, {}))
    still = folder / "still.py"
    still.write_text("def still(completions, **columns):\n    return [None] * len(completions)\n")
    unscored = again(finished, folder / "unscored", [reward(still, "still")], training={"max_steps": 2})
    given.append(("unscored", unscored, {}))
    return trials(folder, given)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_every_loss_trains(alone: Tried, loss: str, beta: float) -> None:
    (found,) = alone.found[f"{loss} {beta}"]
    assert len(found["losses"]) == 2
    assert all(abs(value) < 1e3 for value in found["losses"])
    assert found["none"]["largest"] > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_that_move_nothing_are_left_out_and_nothing_changes(alone: Tried, loss: str) -> None:
    (found,) = alone.found[f"{loss} 0.0"]
    assert found["rows"] == 4
    assert [found[name]["kept"] for name in ("some", "none", "all")] == [2, 4, 1]
    for name in ("some", "none"):
        assert found[name]["largest"] > 0
        assert found[name]["apart"] <= 1e-5 * found[name]["largest"]
    assert found["all"]["largest"] == found["all"]["apart"] == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_no_row_is_left_out_where_its_distance_counts(alone: Tried, loss: str) -> None:
    (found,) = alone.found[f"{loss} 0.04"]
    assert [found[name]["kept"] for name in ("some", "none", "all")] == [4, 4, 4]
    assert found["all"]["largest"] > 0


def test_two_steps_on_the_same_completions(alone: Tried) -> None:
    assert alone.found["twice"] == [{"finished": True}]
    directory = alone.directories["twice"]
    assert {step: len(rows) for step, rows in by_step(directory).items()} == {1: BATCH, 3: BATCH, 5: BATCH}
    found = events(directory)
    assert [event["step"] for event in found] == list(range(1, 7))
    for first, second in ((0, 1), (2, 3), (4, 5)):
        assert found[first]["reward"] == found[second]["reward"]
        assert found[first]["seconds_of"]["generation"] > 0 == found[second]["seconds_of"]["generation"]
    assert found[1]["epoch"] == pytest.approx(2 / 12, abs=1e-3)


def test_a_run_of_two_steps_a_sampling_stops_between_samplings_and_goes_on(alone: Tried) -> None:
    assert alone.found["halved"] == [{"finished": False}, {"finished": True}]
    halved, whole = alone.directories["halved"], alone.directories["twice"]
    assert newest(halved) == newest(whole)
    assert sampled(halved) == sampled(whole)


def test_a_run_that_was_stopped_by_a_signal_ends_in_the_same_adapter(finished: Path, alone: Tried) -> None:
    assert alone.found["interrupted"] == [{"finished": True}]
    directory = alone.directories["interrupted"]
    before = lines(directory.parent.parent / "interrupted.jsonl")[-1]["step"]
    assert 1 < before < STEPS
    assert [event["step"] for event in events(directory)] == list(range(1, STEPS + 1))
    assert newest(directory) == newest(finished)
    assert sampled(directory) == sampled(finished)


def sampled(directory: Path) -> list[list[Any]]:
    """What a run sampled, and what it was worth, in order."""
    keys = ("step", "completion", "scores", "total", "advantage")
    return [[line[key] for key in keys] for line in lines(directory / "completions.jsonl")]


def test_a_reward_that_fails_too_often_in_a_row_ends_the_run(alone: Tried) -> None:
    (found,) = alone.found["faulty"]
    assert found["exit_code"] == 1
    assert found["fault"].startswith("error: reward `broken` failed 12 times in a row; the last time, raised")
    assert "ZeroDivisionError: division by zero" in found["fault"] and "broken.py:2" in found["fault"]


def test_a_reward_that_must_not_fail_ends_the_run(alone: Tried) -> None:
    (found,) = alone.found["strict"]
    assert found["exit_code"] == 1
    assert "reward `broken` gave no score for completion" in found["fault"] and "of step 1" in found["fault"]
    assert "2 |     return 1 / 0" in found["fault"] and "set `on_error: zero`" in found["fault"]


def test_completions_that_no_reward_scores_teach_nothing(alone: Tried) -> None:
    assert alone.found["unscored"] == [{"finished": True}]
    for event in events(alone.directories["unscored"]):
        assert event["reward"] is None and event["rewards"] == {"still": {"mean": None, "std": None}}
    for line in lines(alone.directories["unscored"] / "completions.jsonl"):
        assert (line["scores"], line["total"], line["advantage"]) == ({"still": None}, None, 0.0)


# two processes

HALF = """
def half(prompt, completion, example):
    return len(completion) / 100 if example["number"] % 2 else 1.0
"""


@pytest.fixture(scope="module")
def pair(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Trials of two processes: each ZeRO stage. Half of the prompts give a group without signal."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "half.py").write_text(HALF)
    given: list[tuple[str, Path, dict[str, Any]]] = []
    for stage in (0, 1, 2):
        directory = again(
            finished,
            folder / str(stage),
            [reward(folder / "half.py", "half")],
            grpo={"beta": 0.0},
            training={"max_steps": 4, "micro_batch_size": 2},
            deepspeed={"processes": 2, "zero_stage": stage},
        )
        given.append((str(stage), directory, {}))
    return trials(folder, given, processes=2)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_two_processes_share_a_step(pair: Tried, stage: int) -> None:
    assert pair.found[str(stage)] == [{"finished": True}]
    directory = pair.directories[str(stage)]
    completions = by_step(directory)
    found = events(directory)
    assert [event["step"] for event in found] == [1, 2, 3, 4]
    for event in found:
        rows = completions[event["step"]]
        assert len(rows) == BATCH and len({line["line"] for line in rows}) == 2
        assert event["reward"] == pytest.approx(statistics.mean(line["total"] for line in rows), rel=1e-4)
        still = {line["line"] for line in rows if line["total"] == 1.0}
        assert event["without_signal"] == len(still) / 2
        assert all(line["advantage"] == 0 for line in rows if line["total"] == 1.0)
    uneven = [event for event in found if event["without_signal"] == 0.5]
    assert uneven and 1.0 in {event["without_signal"] for event in found}
    if stage:  # DeepSpeed does not tell the norm at stage 0
        norms = [(event["gradient_norm"] > 0, event["without_signal"] < 1) for event in found]
        assert all(moved == has_signal for moved, has_signal in norms)


def test_every_stage_learns_the_same(pair: Tried) -> None:
    from safetensors.torch import load

    first, *others = (load(newest(pair.directories[stage])) for stage in "012")
    assert any(float(value.abs().max()) > 1e-3 for name, value in first.items() if "lora_B" in name)
    for other in others:
        assert all(float((other[name] - value).abs().max()) < 1e-4 for name, value in first.items())
    assert len({json.dumps([event["reward"] for event in events(each)]) for each in pair.directories.values()}) == 1
