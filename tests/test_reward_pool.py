"""A pool gives each completion its score from each function, in order, and says what became of those without one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from reward_pools import hostile, pool, processes_of

from runner.errors import RunError, UserError
from runner.rewards import answers, messages
from runner.rewards.contract import Batch, Settings
from runner.rewards.pool import Pool


def reward(folder: Path, text: str, name: str = "reward", **settings: Any) -> Settings:
    file = folder / f"{name}.py"
    file.write_text(text)
    return Settings(name, file, **{"timeout": 2.0} | settings)


EACH = "def reward(prompt, completion, example{}):\n    "


def test_each_completion_is_scored_by_each_function_in_order(tmp_path: Path) -> None:
    length = reward(tmp_path, EACH.format("") + "return len(completion)")
    order = reward(
        tmp_path,
        "import random, time\ndef order(prompt, completion, example):\n"
        "    time.sleep(random.random() / 50)\n    return int(completion)\n",
        "order",
        weight=2.0,
    )
    with pool(tmp_path / "scratch", length, order, workers=3) as run:
        for _ in range(2):
            scores = run.score(*map(str, range(30)))
            assert scores["reward"].values == [len(str(number)) for number in range(30)]
            assert scores["order"].values == list(range(30))
            assert (scores.rewards[1].name, scores.rewards[1].weight) == ("order", 2.0)
        assert all(score.seconds >= 0 for score in scores["order"].scores)
        assert scores.seconds > 0
        assert run.events == []


def test_processes_live_on_from_step_to_step(tmp_path: Path) -> None:
    text = "import os\nprint('loaded')\n" + EACH.format("") + "return os.getpid()"
    with pool(tmp_path / "scratch", reward(tmp_path, text), workers=2) as run:
        found = {value for _ in range(3) for value in run.score(*"abcdef")["reward"].values}
        assert len(found) <= 2
        assert run.printed().count("loaded") <= 2


def test_calls_run_at_once_and_no_more_than_the_workers(tmp_path: Path) -> None:
    text = "import time\n" + EACH.format("") + "started = time.time()\n    time.sleep(0.1)\n    return started"
    with pool(tmp_path / "scratch", reward(tmp_path, text), workers=4) as run:
        run.score(*"abcd")
        starts = sorted(run.score(*"abcdefgh")["reward"].values)
    assert starts[3] - starts[0] < 0.08
    assert starts[4] - starts[0] >= 0.08


def test_the_signal_before_the_end_of_a_job_costs_no_score(tmp_path: Path) -> None:
    text = EACH.format("") + "(example['folder'] and open('begun', 'w').close())\n    time.sleep(2)\n    return 1"
    slow = reward(tmp_path, "import time\n" + text, timeout=30.0)
    with pool(tmp_path / "scratch", slow) as run:
        sent: list[int] = []

        def send() -> None:
            while not list((tmp_path / "scratch").rglob("begun")):
                time.sleep(0.01)
            for process in processes_of(tmp_path / "scratch"):
                os.kill(process, signal.SIGUSR1)  # as SLURM does: to every process
                sent.append(process)

        thread = threading.Thread(target=send)
        thread.start()
        scores = run.score("x", folder="yes")
        thread.join()
        assert scores["reward"].values == [1] and len(sent) >= 2 and run.events == []


def test_a_function_can_end_what_it_has_forked(tmp_path: Path) -> None:
    text = "import os, signal, time\n" + EACH.format("") + (
        "other = os.fork()\n    if not other:\n        time.sleep(60)\n        os._exit(0)\n"
        "    os.kill(other, signal.SIGTERM)\n    return os.WTERMSIG(os.waitpid(other, 0)[1])"
    )  # fmt: skip
    with pool(tmp_path / "scratch", reward(tmp_path, text, timeout=30.0)) as run:
        assert run.score("x")["reward"].values == [signal.SIGTERM], run.events


def test_a_slow_function_does_not_hold_up_another(tmp_path: Path) -> None:
    fast = [reward(tmp_path, f"def {name}(a, b, c): return 1", name) for name in ("one", "two", "three")]
    with pool(tmp_path / "scratch", hostile("hang"), *fast, workers=1) as run:
        scores = run.score("bad", "bad")
        assert scores["hang"].values == [0.0, 0.0]
        assert [scores[each.name].values for each in fast] == [[1, 1]] * 3


def test_rows_keep_their_types_or_become_text(tmp_path: Path) -> None:
    text = EACH.format("") + "print(sorted(example.items()))\n    return 1"
    columns = {"number": 1, "half": 0.5, "yes": True, "nothing": None, "list": [1, "é"]}
    with pool(tmp_path / "scratch", reward(tmp_path, text)) as run:
        run.score("x", **columns)
        assert run.printed() == f"{sorted(columns.items())}\n"
    with pool(tmp_path / "scratch", reward(tmp_path, text, strings=True)) as run:
        run.score("x", **columns)
        assert run.printed() == f"{sorted((name, str(value)) for name, value in columns.items())}\n"


def test_options_arrive_by_name(tmp_path: Path) -> None:
    text = EACH.format(", *, tolerance, unit='m'") + "return tolerance if unit == 'm' else 0"
    with pool(tmp_path / "scratch", reward(tmp_path, text, options={"tolerance": 0.5})) as run:
        assert run.score("x")["reward"].values == [0.5]


def test_all_faults_of_all_rewards_are_told_before_anything_starts(tmp_path: Path) -> None:
    wrong = [reward(tmp_path, "def f(a): ...", "first"), reward(tmp_path, "def f(", "second")]
    option = reward(tmp_path, "def f(a, b, c): ...", "third", options={"x": 1})
    with pytest.raises(UserError) as caught:
        Pool([*wrong, option], 1, tmp_path / "scratch", print)
    assert len(caught.value.problems) == 3


def test_a_batch_function_is_called_as_trl_calls_it(tmp_path: Path) -> None:
    text = (
        "def reward(prompts, completions, answer, log_extra, log_metric, trainer_state, *, scale, **kwargs):\n"
        "    print(sorted(kwargs), prompts, trainer_state.global_step, trainer_state.epoch)\n"
        "    log_extra('got', [c[0]['content'] for c in completions])\n"
        "    log_metric('mean', 0.25)\n"
        "    return [scale * (c[0]['content'] == a) if a else None for c, a in zip(completions, answer)]\n"
    )
    batch = Batch(
        step=7,
        epoch=0.5,
        rows=[{"answer": "a", "more": 1}, {"answer": "x", "more": 2}, {"answer": None}],
        prompts=["p"] * 3,
        completions=["a", "b", "c"],
        trl_prompts=[[{"role": "user", "content": "p"}]] * 3,
        trl_completions=[[{"role": "assistant", "content": text}] for text in "abc"],
        completion_ids=[[1], [2], [3]],
    )
    with pool(tmp_path / "scratch", reward(tmp_path, text, options={"scale": 3})) as run:
        found = run.pool.score(batch)["reward"]
        assert (found.values, found.faults) == ([3.0, 0.0, None], [None] * 3)
        assert run.printed() == f"['completion_ids', 'more'] {batch.trl_prompts} 7 0.5\n"
        (logged,) = run.told("logged")
        assert (logged["columns"], logged["metrics"]) == ({"got": ["a", "b", "c"]}, {"mean": 0.25})


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ("short", "returned 4 scores for 5 completions"),
        ("none", "returned `None`, where a list of scores is wanted"),
        ("number", "returned `1.0`, where a list of scores is wanted"),
        ("generator", "returned `<generator object"),
    ],
)
def test_a_list_that_does_not_fit_loses_all_scores_of_the_call(tmp_path: Path, form: str, fault: str) -> None:
    with pool(tmp_path / "scratch", hostile("wrong_length")) as run:
        found = run.score(*"abcde", form=form)["wrong_length"]
    assert found.values == [0.0] * 5
    assert all(each.startswith(fault) for each in found.faults)


def test_one_wrong_element_loses_one_score(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("wrong_length", on_error="skip")) as run:
        found = run.score(*"abcde", form="mixed")["wrong_length"]
    assert found.values == [None, None, None, 2.0, 1.0]
    assert found.faults == [
        None,
        "returned `nan`, and a score is a finite number",
        "returned `'x'`, and a score is a number",
        None,
        None,
    ]


def test_what_is_no_score_is_a_fault_and_a_truth_is_a_number(tmp_path: Path) -> None:
    words = {
        "text": "returned `'1.0'`, and a score is a number",
        "none": "returned `None`, and a score is a number",
        "nan": "returned `nan`, and a score is a finite number",
        "infinite": "returned `inf`, and a score is a finite number",
        "list": "returned `[1.0]`, and a score is a number",
        "huge": "returned a number that is too large for a float",
        "complex": "returned `1j`, and a score is a number",
        "true": None,
        "whole": None,
    }
    with pool(tmp_path / "scratch", hostile("wrong_types", on_error="skip"), workers=1) as run:
        found = run.score(*words)["wrong_types"]
    assert found.faults == list(words.values())
    assert found.values == [None] * 7 + [1.0, 3.0]


def test_numbers_of_other_libraries_are_scores() -> None:
    numpy = pytest.importorskip("numpy")
    assert answers.number(numpy.float32(0.5)) == 0.5
    assert answers.many(numpy.array([1, 2]), 2)["scores"] == [1.0, 2.0]
    with pytest.raises(answers.Wrong, match="one number"):
        answers.number(numpy.array([1, 2]))


def test_exceptions_of_every_kind_lose_one_score_and_no_process(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("raises"), workers=1) as run:
        found = run.score("fine", "exit", "interrupt", "unshowable", "deep", "fine")["raises"]
    assert found.values == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert found.faults[1:3] == ["called `sys.exit(3)`, at line 13", "raised `KeyboardInterrupt`, at line 15"]
    assert found.faults[3] == "raised `Unshowable`, at line 17"
    assert found.faults[4] is not None
    assert found.faults[4].startswith("raised `RecursionError: maximum recursion depth exceeded")


def test_a_function_that_must_not_fail_ends_the_run_with_its_place(tmp_path: Path) -> None:
    settings = hostile("raises", on_error="fail")
    with pool(tmp_path / "scratch", settings) as run:
        with pytest.raises(RunError) as caught:
            run.score("fine", "bad", "fine")
        (problem,) = caught.value.problems
        assert problem.message.startswith(
            "reward `raises` gave no score for completion 1 of step 1: raised `ValueError"
        )
        assert problem.place is not None
        assert (problem.place.file, problem.place.line) == (str(settings.file), 11)
        assert problem.place.text == '        return int("four")'
        assert run.score("fine")["raises"].values == [1.0]


def test_too_many_faults_in_a_row_end_the_run(tmp_path: Path) -> None:
    with pool(tmp_path / "scratch", hostile("raises", max_faults_in_a_row=3), workers=1) as run:
        run.score("bad", "bad", "fine", "bad")
        run.score("bad", "fine")
        run.score("bad", "bad")
        with pytest.raises(RunError, match="`raises` failed 3 times in a row; the last time, raised `ValueError"):
            run.score("bad")


def test_a_file_that_cannot_be_loaded_costs_one_attempt_a_step(tmp_path: Path) -> None:
    good = reward(tmp_path, EACH.format("") + "return 1")
    with pool(tmp_path / "scratch", hostile("fails_to_load"), good) as run:
        scores = run.score(*"abcdefgh")
        assert scores["fails_to_load"].values == [0.0] * 8
        assert set(scores["fails_to_load"].faults) == {
            "could not be loaded: it raised `ModuleNotFoundError: "
            "No module named 'a_module_that_nobody_has'`, at line 3"
        }
        assert scores["reward"].values == [1.0] * 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import time; time.sleep(60)", "could not be loaded: it took longer than 0.5 s to be loaded"),
        ("import os; os._exit(1)", "could not be loaded: it ended its process with code 1 while it was loaded"),
        ("reward = 3", "could not be loaded: it raised `TypeError: `reward` is no function once the file has run`"),
    ],
)
def test_loading_has_limits_of_its_own(tmp_path: Path, text: str, said: str) -> None:
    settings = reward(tmp_path, f"{EACH.format('')}return 1\n{text}\n", load_timeout=0.5)
    with pool(tmp_path / "scratch", settings) as run:
        assert run.score("x")["reward"].faults == [said]


def test_the_first_call_is_not_charged_for_loading(tmp_path: Path) -> None:
    settings = reward(tmp_path, "import time; time.sleep(0.6)\n" + EACH.format("") + "return 1", timeout=0.3)
    with pool(tmp_path / "scratch", settings) as run:
        found = run.score("x")["reward"].scores[0]
    assert found.value == 1.0
    assert found.seconds < 0.3


def test_what_is_printed_is_told_with_its_row_and_cut(tmp_path: Path) -> None:
    text = (
        "import os, subprocess, sys\n" + EACH.format("")
        + "print(completion)\n    print('to stderr', file=sys.stderr)\n    os.write(1, b'raw\\xff\\n')\n"
        "    subprocess.run(['echo', 'from a program'])\n    print('x' * example['much'])\n    return 1"
    )  # fmt: skip
    with pool(tmp_path / "scratch", reward(tmp_path, text), workers=1) as run:
        run.score("first", "second", much=1)
        assert [(event["row"], event["step"], event["epoch"], event["text"], event["cut"]) for event in run.events] == [
            (row, 1, 0.5, f"{word}\nto stderr\nraw\ufffd\nfrom a program\nx\n", False)
            for row, word in enumerate(("first", "second"))
        ]
        run.score("long", much=100_000)
        assert len(run.events[-1]["text"]) == 64 * 1024
        assert run.events[-1]["cut"] is True


def test_what_was_printed_before_the_time_was_over_is_told(tmp_path: Path) -> None:
    text = "import time\n" + EACH.format("") + "print('so far')\n    time.sleep(60)"
    with pool(tmp_path / "scratch", reward(tmp_path, text, timeout=0.3)) as run:
        run.score("x")
        assert run.printed() == "so far\n"


def test_async_calls_wait_together_and_each_has_its_own_time(tmp_path: Path) -> None:
    text = (
        "import asyncio, os\nasync def reward(prompt, completion, example):\n"
        "    await asyncio.sleep(60 if completion == 'bad' else 0.2)\n    print('I am', completion)\n"
        "    if completion == 'raise': raise ValueError('no')\n    return os.getpid()\n"
    )
    with pool(tmp_path / "scratch", reward(tmp_path, text, timeout=0.5), workers=2) as run:
        started = time.monotonic()
        found = run.score("bad", "raise", *map(str, range(40)))["reward"]
        assert time.monotonic() - started < 1.5
    assert found.faults[:3] == ["took longer than 0.5 s", "raised `ValueError: no`, at line 5", None]
    assert len(set(found.values[2:])) == 1
    assert {event["row"]: event["text"] for event in run.told("printed")} == {1: "I am raise\n"} | {
        row + 2: f"I am {row}\n" for row in range(40)
    }


def test_an_async_call_that_blocks_or_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    text = (
        "import asyncio, os, time\nasync def reward(prompt, completion, example):\n"
        "    await asyncio.sleep(0.05)\n"
        "    if completion == 'dies': os._exit(5)\n    if completion == 'exits': raise SystemExit\n"
        "    if completion == 'blocks': time.sleep(60)\n    return 1\n"
    )
    with pool(tmp_path / "scratch", reward(tmp_path, text, timeout=0.4)) as run:
        found = run.score("a", "dies", "b", "exits", "c")["reward"]
        assert found.values == [1, 0, 1, 0, 1]
        assert found.faults[1] == "ended its process with code 5"
        blocked = run.score("blocks")["reward"]
        assert blocked.faults == ["took longer than 0.4 s"]
        assert run.score("a")["reward"].values == [1]


def test_a_changed_file_is_used_from_the_next_step_on(tmp_path: Path) -> None:
    settings = reward(tmp_path, EACH.format("") + "return 1")
    with pool(tmp_path / "scratch", settings) as run:
        assert run.score("x")["reward"].values == [1]
        os.utime(settings.file)
        assert run.score("x")["reward"].values == [1]
        assert run.events == []
        settings.file.write_text(EACH.format("") + "return 22")
        assert run.score("x")["reward"].values == [22]
        (event,) = run.told("reloaded")
        assert (event["reward"], event["step"], len(event["sha256"])) == ("reward", 3, 64)


@pytest.mark.parametrize(
    "broken", ["def reward(", "def other(a, b, c): return 5", "def reward(completions, missing): return [5]", None]
)
def test_a_file_that_is_broken_is_told_once_and_the_old_one_goes_on(tmp_path: Path, broken: str | None) -> None:
    settings = reward(
        tmp_path, "import os\n" + EACH.format("") + "return 1 / 0 if completion == 'bad' else os.getpid()"
    )
    with pool(tmp_path / "scratch", settings, workers=1) as run:
        before = run.score("x")["reward"].values
        if broken is None:
            settings.file.unlink()
        else:
            settings.file.write_text(broken)
        assert run.score("x")["reward"].values == before
        assert run.score("x")["reward"].values == before
        (event,) = run.told("refused")
        assert event["step"] == 2
        assert event["problems"]
        os.kill(int(before[0]), 9)
        time.sleep(0.1)
        # a new process runs the kept source, and its faults show the line of it
        again = run.score("x", "bad")["reward"]
        assert again.values[0] not in (None, 0.0, *before)
        assert again.faults[1] == "raised `ZeroDivisionError: division by zero`, at line 3"


def test_a_pinned_file_is_not_looked_at_again(tmp_path: Path) -> None:
    settings = reward(tmp_path, EACH.format("") + "return 1", reload=False)
    with pool(tmp_path / "scratch", settings) as run:
        settings.file.write_text(EACH.format("") + "return 22")
        assert run.score("x")["reward"].values == [1]
        assert run.events == []


def test_an_empty_batch_and_a_large_one(tmp_path: Path) -> None:
    text = "def reward(completions, **kwargs): return [len(each) for each in completions]"
    with pool(tmp_path / "scratch", reward(tmp_path, text)) as run:
        assert run.score()["reward"].values == []
        assert run.score(*["é" * 1_000_000] * 4)["reward"].values == [1_000_000] * 4


def test_messages_come_out_as_they_went_in_whatever_the_pieces() -> None:
    values = [{"a": [1, 2.5, None, "é\ud800"]}, [], "x" * 5000]
    data = b"".join(map(messages.pack, values))
    for size in (1, 3, 1000, len(data)):
        reader = messages.Reader()
        assert [each for at in range(0, len(data), size) for each in reader.take(data[at : at + size])] == values


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\2\xff\xff", b"\0\1\x86\xa0" + b"[" * 100_000]
)
def test_what_is_no_message_is_noticed(data: bytes) -> None:
    with pytest.raises(messages.Broken):
        messages.Reader(1_000_000).take(data)
