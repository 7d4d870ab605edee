"""Prompts and completions as rewards of both conventions get them, and what is said of a run that goes wrong."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from reward_pools import processes_of
from small_recipe import write

from runner import recipe, scoring
from runner.errors import RunError, UserError
from runner.reading import check
from runner.recipe import Guard
from runner.rewards.contract import Batch, Settings
from runner.rewards.pool import Pool
from runner.scoring import Judge, Watch
from runner.stopping import GivenUp

GUARD = Guard(without_signal=0.5, cut=0.5, faults=0.2)
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
TEXT = "<|user|>Hi<|assistant|>"

FUNCTIONS = """
def each(prompt, completion, example, *, extra=0.0):
    print("each", repr(prompt), repr(completion), repr(example))
    return len(completion) + extra


def batch(prompts, completions, answer, completion_ids, trainer_state, **columns):
    print("batch", repr(prompts), repr(completions), repr(answer), repr(completion_ids), sorted(columns))
    return [trainer_state.global_step for _ in completions]
"""


def row(asked: Any, **columns: Any) -> dict[str, Any]:
    """A prepared row, as preparation leaves it."""
    text = asked if isinstance(asked, str) else TEXT
    return {"asked": json.dumps(asked), "columns": json.dumps(columns), "prompt": f"[{text}]", "file": "f", "line": 1}


def test_text_goes_to_both_conventions_as_it_is() -> None:
    made = scoring.batch([row("Hi", answer=4), row("Ho", answer=5)], ["a", "b"], [[1, 2], [3]], 7, 0.5)
    assert made == Batch(
        step=7, epoch=0.5, rows=[{"answer": 4}, {"answer": 5}], prompts=["Hi", "Ho"], completions=["a", "b"],
        trl_prompts=["Hi", "Ho"], trl_completions=["a", "b"], completion_ids=[[1, 2], [3]],
    )  # fmt: skip


def test_turns_are_text_for_one_convention_and_turns_for_the_other() -> None:
    made = scoring.batch([row(TURNS)], ["Hello"], [[1]], 1, 0.0)
    assert made.prompts == [f"[{TEXT}]"] and made.completions == ["Hello"]
    assert made.trl_prompts == [TURNS]
    assert made.trl_completions == [[{"role": "assistant", "content": "Hello"}]]


def test_text_and_turns_stand_side_by_side() -> None:
    made = scoring.batch([row("Hi"), row(TURNS)], ["a", "b"], [[1], [2]], 1, 0.0)
    assert made.prompts == ["Hi", f"[{TEXT}]"]
    assert made.trl_completions == ["a", [{"role": "assistant", "content": "b"}]]
    empty = scoring.batch([], [], [], 1, 0.0)
    assert (empty.rows, empty.completions) == ([], [])


def rewarded(folder: Path, *rewards: dict[str, Any], **grpo: Any) -> recipe.Recipe:
    (folder / "own.py").write_text(FUNCTIONS)
    text = yaml.safe_dump(
        {"task": "grpo", "model": {"name": "o/m"}, "dataset": {"train": "rows.jsonl"}, "rewards": list(rewards),
         "grpo": grpo}
    )  # fmt: skip
    return check.read(write(folder, text))


def test_a_pool_is_made_from_a_recipe(tmp_path: Path) -> None:
    read = rewarded(
        tmp_path,
        {"file": "own.py", "function": "each", "weight": 2, "strings": True, "options": {"extra": 0.5}},
        {"file": "own.py", "function": "batch"},
        {"use": "length_between", "options": {"minimum": 1, "maximum": 3, "unit": "characters"}},
    )
    told: list[dict[str, Any]] = []
    rows = [row("Hi", answer=4, tags=["x"]), row(TURNS, answer=None)]
    with scoring.pool(read, tmp_path / "run", 1, 0, told.append) as pool:
        scores = pool.score(scoring.batch(rows, ["abc", "d"], [[1, 2], [3]], 5, 0.0))
    assert [(each.name, each.weight, each.values) for each in scores.rewards] == [
        ("each", 2.0, [3.5, 1.5]), ("batch", 1.0, [5.0, 5.0]), ("length_between", 1.0, [1.0, 1.0]),
    ]  # fmt: skip
    printed = "".join(event["text"] for event in told if event["kind"] == "printed")
    assert "each 'Hi' 'abc' {'answer': '4', 'tags': \"['x']\"}" in printed
    assert f"each '[{TEXT}]' 'd' {{'answer': 'None'}}" in printed
    turn = {"role": "assistant", "content": "d"}
    assert (
        f"batch {['Hi', TURNS]!r} {['abc', [turn]]!r} [4, None] [[1, 2], [3]] ['log_extra', 'log_metric', 'tags']"
        in printed
    )
    assert list((tmp_path / "run" / "scratch" / "rank-0").iterdir()) == []


def test_rewards_of_a_process_write_to_a_folder_of_its_own(tmp_path: Path) -> None:
    read = rewarded(tmp_path, {"file": "own.py", "function": "each"}, reward_workers=1)
    with (
        scoring.pool(read, tmp_path / "run", 2, 0, lambda _: None) as first,
        scoring.pool(read, tmp_path / "run", 2, 1, lambda _: None) as second,
    ):
        made = scoring.batch([row("Hi")], ["abc"], [[1]], 1, 0.0)
        assert first.score(made)["each"].values == second.score(made)["each"].values == [3.0]
        assert sorted(path.name for path in (tmp_path / "run" / "scratch").iterdir()) == ["rank-0", "rank-1"]


def test_a_reward_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("WORTH = 0.25\n")
    (tmp_path / "imports.py").write_text(
        "from beside import WORTH\n\n\ndef imports(prompt, completion, example):\n    return WORTH\n"
    )
    read = rewarded(tmp_path, {"file": "imports.py"})
    with scoring.pool(read, tmp_path / "run", 1, 0, lambda _: None) as pool:
        assert pool.score(scoring.batch([row("Hi")], ["x"], [[1]], 1, 0.0))["imports"].values == [0.25]


def test_a_file_that_went_away_since_is_told(tmp_path: Path) -> None:
    read = rewarded(tmp_path, {"file": "own.py", "function": "each"}, {"file": "own.py", "function": "batch"})
    (tmp_path / "own.py").unlink()
    with pytest.raises(UserError) as caught:
        scoring.pool(read, tmp_path / "run", 1, 0, lambda _: None)
    assert len(caught.value.problems) == 2


# warnings


def shares(without_signal: float = 0.0, cut: float = 0.0, faults: float = 0.0) -> dict[str, float]:
    return {"without_signal": without_signal, "cut": cut, "faults": faults}


def test_warnings_say_what_is_above_its_limit() -> None:
    assert scoring.warnings(GUARD, shares(0.5, 0.5, 0.2)) == []
    (only,) = scoring.warnings(GUARD, shares(without_signal=0.51))
    assert only.startswith("51% of the groups have one score for all their completions")
    assert len(scoring.warnings(GUARD, shares(1.0, 1.0, 1.0))) == 3
    assert scoring.warnings(GUARD, {}) == []
    (only,) = scoring.warnings(GUARD, {"cut": 1.0})
    assert "100% of the completions are cut" in only and "`grpo.max_completion_length`" in only
    assert "`rewards.jsonl`" in scoring.warnings(GUARD, shares(faults=1.0))[0]


def test_a_watch_waits_for_ten_reports_and_says_it_once() -> None:
    watch = Watch(GUARD)
    assert [len(watch.look(shares(cut=1.0))) for _ in range(30)] == [0] * 9 + [1] + [0] * 20


def test_it_goes_by_the_mean_of_the_latest_ten() -> None:
    watch = Watch(GUARD)
    for _ in range(10):
        assert watch.look(shares(cut=0.4)) == []
    said = [watch.look(shares(cut=1.0)) for _ in range(3)]
    assert [len(each) for each in said] == [0, 1, 0]  # 0.46, 0.52, 0.58
    assert said[1][0].startswith("52% of the completions")


def test_it_speaks_again_once_it_has_been_right() -> None:
    watch = Watch(GUARD)
    found = [len(watch.look(shares(faults=value))) for value in [1.0] * 10 + [0.0] * 10 + [1.0] * 10]
    assert sum(found) == 2 and found[9] == 1 and sum(found[20:]) == 1


def test_each_thing_is_said_by_itself() -> None:
    watch = Watch(GUARD)
    for _ in range(9):
        watch.look(shares(1.0, 0.0, 1.0))
    assert len(watch.look(shares(1.0, 0.0, 1.0))) == 2
    found = [watch.look(shares(1.0, 1.0, 1.0)) for _ in range(10)]
    assert [len(each) for each in found] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]


SLOW = """
import threading
import time

def slow(prompt, completion, example):
    time.sleep(0.4)
    return float(completion)
"""


def judged(tmp_path: Path, code: str, on_error: str = "zero") -> Judge:
    (tmp_path / "slow.py").write_text(code)
    settings = Settings("slow", tmp_path / "slow.py", "slow", timeout=5.0, on_error=on_error)  # type: ignore[arg-type]
    return Judge(Pool([settings], 1, tmp_path / "scratch", lambda event: None))


def test_a_judge_scores_while_something_else_goes_on(tmp_path: Path) -> None:
    with judged(tmp_path, SLOW) as judge:
        for number in (1, 2):
            started = time.monotonic()
            judge.begin(Batch(number, 0.0, [{}], ["p"], [str(number)]))
            assert time.monotonic() - started < 0.3
            scores = judge.scores()
            assert scores["slow"].values == [float(number)] and scores.seconds >= 0.4
    assert processes_of(tmp_path / "scratch") == []


def test_a_judge_raises_where_its_scores_are_asked_for(tmp_path: Path) -> None:
    with judged(tmp_path, SLOW.replace("float(completion)", "1 / 0"), "fail") as judge:
        judge.begin(Batch(1, 0.0, [{}], ["p"], ["1"]))
        with pytest.raises(RunError, match="division by zero"):
            judge.scores()
    assert processes_of(tmp_path / "scratch") == []


def test_a_judge_gives_up_when_it_is_told_and_scores_the_next_batch(tmp_path: Path) -> None:
    slow = SLOW.replace("float(completion)", "time.sleep(60 * (completion == '1')) or float(completion)")
    told = []
    with judged(tmp_path, slow) as judge:
        judge.begin(Batch(1, 0.0, [{}], ["p"], ["1"]), lambda: bool(told))
        time.sleep(1)
        told.append(True)
        started = time.monotonic()
        with pytest.raises(GivenUp):
            judge.scores()
        assert time.monotonic() - started < 3
        judge.begin(Batch(2, 0.0, [{}], ["p"], ["2"]))
        assert judge.scores()["slow"].values == [2.0]
    assert processes_of(tmp_path / "scratch") == []


@pytest.mark.parametrize("on_error", ["fail", "zero"])
def test_a_signal_to_every_process_is_no_fault_of_a_function(tmp_path: Path, on_error: str) -> None:
    ends = SLOW.replace("return float(completion)", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    told = threading.Event()
    with judged(tmp_path, ends, on_error) as judge:
        timer = threading.Timer(0.8, told.set)  # when the function's process has ended by then
        judge.begin(Batch(1, 0.0, [{}], ["p"], ["1"]), told.is_set)
        timer.start()
        with pytest.raises(GivenUp):
            judge.scores()
        timer.join()
    with judged(tmp_path, ends, on_error) as judge:
        judge.begin(Batch(1, 0.0, [{}], ["p"], ["1"]), lambda: False)  # it has done that itself
        with pytest.raises(RunError, match="SIGTERM") if on_error == "fail" else nullcontext():
            assert judge.scores()["slow"].values == [0.0]


def test_a_judge_that_nobody_waits_for_leaves_nothing(tmp_path: Path) -> None:
    with judged(tmp_path, SLOW) as judge:
        judge.begin(Batch(1, 0.0, [{}], ["p"], ["1"]))
    assert processes_of(tmp_path / "scratch") == []
