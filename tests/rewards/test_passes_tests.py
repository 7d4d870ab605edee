"""The pay for code that passes tests, and the tricks that do not pay."""

from __future__ import annotations

import ast
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from loading import module, reward

SQUARE = "def f(x):\n    return x * x\n"
TESTS = ["assert f(2) == 4", "assert 9 == f(3)", "assert [f(1), f(-1)] == [1, 1]", "assert f(10) > 99"]
PAIRS = [{"input": "3\n", "output": "9"}, {"input": "4", "output": "16\n"}]


@pytest.fixture(autouse=True)
def confined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_REWARD_SANDBOX", "1")


def score(completion: str, tests: Any = None, **options: Any) -> float:
    tests = TESTS if tests is None else tests
    return reward("passes_tests")(
        "", completion, {"tests": tests}, **{"seconds_per_test": 20.0, "seconds": 60.0, **options}
    )


def test_it_runs_nothing_outside_of_the_confinement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNESMITH_REWARD_SANDBOX")
    with pytest.raises(RuntimeError, match="confined"):
        score(SQUARE)


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        (SQUARE, 1),
        (f"Here:\n```python\n{SQUARE}```\nDone.", 1),
        (f"```\ndef f(x): return 0\n```\nBetter:\n```py\n{SQUARE}```", 1),
        (f"<think>```python\nx\n```</think>{SQUARE}", 1),
        ("print('a lot')\n" + SQUARE, 1),
        ("def f(x): return 4", 0.25),
        ("def f(x): return x * x if x > 0 else 2", 0.75),
        (f"```python\n{SQUARE}", 0),
        ("", 0),
        ("no code", 0),
        ("def f(x): return y", 0),
        ("\x00", 0),
        ("def f(x): return '\ud800'", 0),
    ],
)
def test_the_share_of_passed_tests_pays(completion: str, wanted: float) -> None:
    assert score(completion) == wanted


ALWAYS = """
class Always(int):
    def __eq__(self, other): return True
    def __gt__(self, other): return True
    def __hash__(self): return 0
    def __bool__(self): return True
    def __repr__(self): return "4"
def f(x): return Always(7)
"""


@pytest.mark.parametrize(
    "trick",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "def f(x):\n    import os\n    os._exit(0)",
        "def f(x):\n    raise SystemExit(0)",
        "print('ok'); print('passed'); print(True)",
        "import os\nfor n in range(1, 20):\n    try: os.write(n, b'4')\n    except OSError: pass\nos._exit(0)",
        ALWAYS,
        "import builtins\nbuiltins.AssertionError = None\ndef f(x): return None",
        "import builtins\nbuiltins.eval = lambda *a: True\nbuiltins.repr = lambda v: 'True'\ndef f(x): return None",
    ],
)
def test_tricks_do_not_pay(trick: str) -> None:
    assert score(trick, ["assert f(2) == 4", "assert f(3) == 9"]) == 0


def test_the_right_result_is_not_told_to_the_code() -> None:
    spy = """
import gc, sys
def f(x):
    wanted = "".join(["3141", "59265"])
    seen = repr(gc.get_objects())
    frame = sys._getframe(1)
    while frame:
        seen += repr(frame.f_locals) + repr(frame.f_globals)
        frame = frame.f_back
    return seen.count(wanted)
"""
    assert score(spy, ["assert f(314159265) > 0"]) == 1  # it does see what it is told
    assert score(spy, ["assert f(1) in (0, 314159265)"]) == 1


def test_a_truth_that_is_judged_there_needs_the_random_word() -> None:
    assert score(SQUARE, ["assert isinstance(f(2), int)", "assert not f(0)", "assert f(2) == 2 ** 2"]) == 1
    assert score("import os\nos.write(1, b'True')\nos._exit(0)", ["assert isinstance(f(2), int)"]) == 0


@pytest.mark.parametrize(
    "test",
    [
        "f(2) != 5",
        "f(2) in (4, 5)",
        "f(2) is not None",
        "f(2) < 5",
        "5 >= f(2)",
        "str(f(2)) == '4'",
        "{f(2)} == {4}",
        "[] != f(1)",
    ]
    + [
        "{1: (f(2), b'x')} == {1: (4, b'x')}",
        "f(0.5) == 0.25",
        "(f(2) == 4) is True",
        "set() == set()",
        "frozenset([4]) == {f(2)}",
    ],
)
def test_comparisons_of_all_kinds_are_made(test: str) -> None:
    assert score(SQUARE, [f"assert {test}"]) == 1
    assert score(SQUARE, [f"assert not ({test})"]) == 0


def test_tests_may_prepare_something_first() -> None:
    row = {
        "tests": "xs = [2, 1]\nxs.sort()\nassert f(xs[0]) == 1\nassert f(xs[1]) == sqrt(16)",
        "before": "from math import sqrt",
    }
    assert reward("passes_tests")("", SQUARE, row, setup_column="before", seconds_per_test=20) == 1


@pytest.mark.parametrize("tests", [json.dumps(TESTS), "\n".join(TESTS), ["\n".join(TESTS[:2]), *TESTS[2:]]])
def test_tests_come_as_lists_and_as_text(tests: Any) -> None:
    assert score("def f(x): return 4", tests) == 0.25


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("print(int(input()) ** 2)", 1),
        ("import sys\nprint(int(sys.stdin.read()) ** 2, end='  ')", 1),
        ("print(int(open(0).read()) ** 2)", 1),
        ("if __name__ == '__main__':\n    print(int(input()) ** 2)\n    raise SystemExit", 1),
        ("print(9)", 0.5),
        ("print(9)\nprint(16)", 0),
        ("print(int(input()) ** 2)\nraise SystemExit(1)", 0),
        ("pass", 0),
    ],
)
def test_programs_are_judged_by_what_they_print(program: str, wanted: float) -> None:
    assert score(program, PAIRS) == wanted
    assert score(program, {"inputs": ["3", "4"], "outputs": ["9", "16"]}) == wanted


def test_all_or_nothing() -> None:
    assert score("def f(x): return 4", all_or_nothing=True) == 0
    assert score(SQUARE, all_or_nothing=True) == 1


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "while True: print('a' * 10000)",
        "import sys\nwhile True: sys.stdout.buffer.raw.write(b'a' * 10000)",
        "import os\nos.close(1)\nwhile True: pass",
        "x = 'a' * 10 ** 10\n" + SQUARE,
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
    ],
)
@pytest.mark.parametrize("tests", [["assert f(2) == 4"] * 9, PAIRS])
def test_code_that_is_too_slow_or_too_large_is_stopped(code: str, tests: Any) -> None:
    started = time.monotonic()
    assert score(code, tests, seconds_per_test=0.5, seconds=1.0) == 0
    assert time.monotonic() - started < 5


def test_code_can_write_no_file_and_see_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    code = """
import os
def f():
    return sorted(os.environ)
def g():
    with open("made", "w") as file:
        file.write("x")
    return 1
"""
    assert score(code, ["assert 'SOME_TOKEN' not in f()", "assert g() == 1"]) == 0.5


def test_no_process_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code = """
import os, time
if os.fork() == 0:
    open("born", "w")
    time.sleep(1.5)
    open("grown", "w")
    os._exit(0)
"""
    assert score(code + SQUARE, ["assert f(2) == 4"], seconds_per_test=0.7) == 0
    assert (tmp_path / "born").exists() or os.geteuid() != 0  # nobody but root can start one at all
    time.sleep(1.2)
    assert not (tmp_path / "grown").exists()


@pytest.mark.parametrize(
    "tests",
    [None, [], 3, [3], "", "x = 1", ["x = 1"], ["assert ("], [{"input": "x"}], {"inputs": ["1"], "outputs": []}],
)
def test_a_row_whose_tests_cannot_be_read_is_refused(tests: Any) -> None:
    with pytest.raises(ValueError, match="the column `tests`"):
        reward("passes_tests")("", SQUARE, {"tests": tests})


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"seconds_per_test": "1"}, {"memory_megabytes": True}, {"column": "other"}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`\w+`"):
        score(SQUARE, **options)


def test_every_comparison_is_known() -> None:
    assert set(module("passes_tests").COMPARISONS) == set(ast.cmpop.__subclasses__())
