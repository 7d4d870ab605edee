"""Reward files are read without running them: what they take, and every fault with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import Problem, UserError
from runner.rewards import signature
from runner.rewards.signature import Function


def read(folder: Path, text: str | bytes, function: str | None = None, name: str = "reward.py") -> Function:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return signature.read(file, function)


def faults(folder: Path, text: str | bytes, function: str | None = None) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as caught:
        read(folder, text, function)
    return caught.value.problems


@pytest.mark.parametrize(
    "head", ["prompt, completion, example", "a, b, c", "prompt, completion, example=None", "a, b, /, c"]
)
def test_three_values_by_position_score_each_completion(tmp_path: Path, head: str) -> None:
    found = read(tmp_path, f"\n\ndef f({head}): ...\n")
    assert (found.convention, found.name, found.line, found.is_async) == ("each", "f", 3, False)
    assert (found.columns, dict(found.options), found.takes_any) == ((), {}, False)


@pytest.mark.parametrize(
    ("head", "columns", "takes_any"),
    [
        ("prompts, completions, answer, **kwargs", ("answer",), True),
        ("completions, ground_truth, **kwargs", ("ground_truth",), True),
        ("completions, **kwargs", (), True),
        ("completions", (), False),
        ("answer, completions, hint=None", ("answer",), False),
        ("prompts, completions, completion_ids, trainer_state, log_extra, log_metric", (), False),
        ("*, completions", (), False),
    ],
)
def test_completions_by_name_score_a_whole_step(
    tmp_path: Path, head: str, columns: tuple[str, ...], takes_any: bool
) -> None:
    found = read(tmp_path, f"async def f({head}): ...\n")
    assert (found.convention, found.is_async) == ("batch", True)
    assert (found.columns, found.takes_any, dict(found.options)) == (columns, takes_any, {})


def test_options_are_the_parameters_behind_a_star(tmp_path: Path) -> None:
    found = read(tmp_path, "def f(prompt, completion, example, *, tolerance=0.1, unit): ...\n")
    assert dict(found.options) == {"tolerance": True, "unit": False}
    assert signature.check_options(found, {"unit": "m"}) == []
    problems = signature.check_options(found, {"tolerence": 1})
    assert [problem.message for problem in problems] == [
        "`f` has no option `tolerence`",
        "option `unit` of `f` has no default and is not set",
    ]
    assert problems[0].hint == "a similar option exists: `tolerance`"


def test_an_option_of_a_batch_function_may_be_a_column(tmp_path: Path) -> None:
    found = read(tmp_path, "def f(completions, answer, *, unit): ...\n")
    assert signature.check_options(found, {}) == []
    assert signature.check_options(found, {}, {"unit"}) == []
    assert len(signature.check_options(found, {}, {"answer"})) == 1
    assert signature.check_columns(found, {"answer"}) == []
    assert signature.check_columns(found, {"anser"})[0].hint == "a similar column exists: `anser`"


def test_the_function_is_found_by_name_by_file_or_alone(tmp_path: Path) -> None:
    two = "def first(a, b, c): ...\ndef reward(a, b, c): ...\n"
    assert read(tmp_path, two).name == "reward"
    assert read(tmp_path, two, "first").name == "first"
    assert read(tmp_path, "def _help(): ...\nclass A:\n def m(self): ...\ndef only(a, b, c): ...\n").name == "only"
    decorated = "import functools\ntry:\n    @functools.cache\n    def f(a, b, c): ...\nexcept ValueError: ...\n"
    assert read(tmp_path, decorated).name == "f"
    assert read(tmp_path, "if x:\n def f(a): ...\nelse:\n def f(a, b, c): ...\n").line == 4


def test_the_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    read(tmp_path, f"open({str(mark)!r}, 'w')\ndef f(a, b, c): ...\n")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "function", "message", "line", "column"),
    [
        ("def f(a, b): ...", None, "`f` takes two values by position, and is called with three", 1, 5),
        ("def f(): ...", None, "`f` takes no value by position, and is called with three", 1, 5),
        ("x = 1\ndef f(a, b, c, d=1): ...", None, "`f` takes 4 values by position, and is called with three", 2, 16),
        ("def f(prompts, b, c): ...", None, "`f` takes `prompts` and no `completions`", 1, 5),
        ("def f(a, b, c, *d): ...", None, "`f` takes `*d`, and is called with exactly three values", 1, 17),
        (
            "def f(completions, /): ...",
            None,
            "`f` takes `completions` by position alone, and everything is passed by name",
            1,
            7,
        ),
        ("f = lambda a, b, c: 1", "f", "`f` is a lambda, and a reward is a function that `def` defines", 1, 1),
        ("class f: ...", "f", "`f` is a class, and a reward is a function", 1, 7),
        ("from x import y as f", "f", "`f` is imported, so that its parameters cannot be told", 1, 1),
        ("def a(x, y, z): ...\ndef b(x, y, z): ...", None, "the reward file has several functions: `a`, `b`", 2, 5),
        ("x = 1", None, "the reward file has no public function", 0, 0),
        ("", None, "the reward file has no public function", 0, 0),
        ("def fine(a, b, c): ...", "fin", "the reward file has no function `fin`", 0, 0),
        ("é = 'é'; é = (", None, "the reward file is not Python: `(` was never closed", 1, 14),
        ("return 1", None, "the reward file is not Python: `return` outside function", 1, 1),
        (
            "def f(a, b, c):\npass",
            None,
            "the reward file is not Python: expected an indented block after function definition on line 1",
            2,
            1,
        ),
        ("async  def  fü(é, b): ...", None, "`fü` takes two values by position, and is called with three", 1, 13),
    ],
)
def test_each_fault_has_its_sentence_and_its_place(
    tmp_path: Path, text: str, function: str | None, message: str, line: int, column: int
) -> None:
    (problem,) = faults(tmp_path, text, function)
    assert problem.message == message
    assert problem.place is not None
    assert (problem.place.file, problem.place.line, problem.place.column) == (str(tmp_path / "reward.py"), line, column)


def test_all_faults_of_a_function_are_told_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "def f(a, b, *c, **d): ...")) == 3
    assert len(faults(tmp_path, "def f(completions, x, /, *c): ...")) == 3


def test_a_parameter_too_many_is_shown_how_to_become_an_option(tmp_path: Path) -> None:
    (problem,) = faults(tmp_path, "def f(a, b, c, tolerance=1): ...")
    assert problem.hint == "put a `*` before `tolerance` to make it an option, which the recipe sets under `options`"


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x00", b"a\x00b", b"-" * 100_000 + b"1", b"(" * 100_000, b"a" + b".b" * 300_000, b"x" * 10_000_000,
     b"if 1:\n pass\n" + b"elif 1:\n pass\n" * 20_000, b"\xef\xbb\xbf(", b"'\\ud800", b"# coding: latin-1\n\xe9"],
)  # fmt: skip
def test_ugly_files_are_told_without_a_traceback(tmp_path: Path, data: bytes) -> None:
    assert len(faults(tmp_path, data)) == 1


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("")
    for path, message in (
        (tmp_path, "the reward file is a directory"),
        (tmp_path / "reward.py", "the reward file does not exist"),
        (tmp_path / "missing" / "reward.py", "the reward file does not exist"),
        (Path("/dev/null"), "the reward file is no plain file"),
        (tmp_path / "a\0b.py", "the reward file does not exist"),
        (tmp_path / ("x" * 300), "the reward file cannot be read: File name too long"),
    ):
        with pytest.raises(UserError) as caught:
            signature.read(path)
        assert caught.value.problems[0].message.startswith(message.split(":")[0][:20])
    with pytest.raises(UserError) as caught:
        signature.read(tmp_path / "reward.py")
    assert caught.value.problems[0].hint == f"a similar file exists: `{tmp_path / 'rewards.py'}`"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=80), st.text(alphabet="def f(a,*/:=b c)\n\t\r\f'\\#é1\0", max_size=60).map(str.encode))
)
def test_any_file_is_a_function_or_a_fault(tmp_path: Path, data: bytes) -> None:
    try:
        found = read(tmp_path, data)
    except UserError as error:
        assert error.problems
    else:
        assert found.name
