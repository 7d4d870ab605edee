"""The `rewards` of a recipe: which file and function each names, and what is told where there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_recipe import faults, only, write

from runner import errors, recipe
from runner.reading import check, rewards

ONE = "def polite(prompt, completion, example, *, word='please', least):\n    return 1.0\n"
TWO = "def first(prompt, completion, example):\n    return 1\n\n\ndef second(completions, **columns):\n    return []\n"


def recipe_with(folder: Path, *given: Mapping[str, Any], **files: str) -> str:
    """A recipe with these rewards, in a folder with these Python files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    head = "task: grpo\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"
    return write(folder, head + yaml.safe_dump({"rewards": [dict(each) for each in given]}, sort_keys=False))


def read(folder: Path, *given: Mapping[str, Any], **files: str) -> tuple[recipe.Reward, ...]:
    return check.read(recipe_with(folder, *given, **files)).rewards


def told(path: str) -> list[tuple[str, str, str | None]]:
    """Each fault's file and line, sentence and hint."""
    found = []
    for each in faults(path):
        assert each.place is not None
        found.append((f"{Path(each.place.file).name}:{each.place.line}", each.message, each.hint))
    return found


# what a reward is settled to


def test_a_reward_that_ships(tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"use": "valid_json"})
    assert found == recipe.Reward(
        "valid_json", str(rewards.BUNDLED / "valid_json.py"), "valid_json", 1.0, 10.0, "zero", 2.0, "{}", False, (), (),
        None, False,
    )  # fmt: skip


def test_every_reward_that_ships_can_be_used(tmp_path: Path) -> None:
    names = rewards.bundled()
    assert len(names) >= 8 and "numeric_answer" in names
    for name in names:
        try:
            (found,) = read(tmp_path, {"use": name})
        except errors.RecipeError as error:  # its options are needed, and the sentence says which
            assert all("has no default and is not set" in each.message for each in error.problems)
            continue
        assert (found.name, found.function, found.reload) == (name, name, False)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    given = {"file": "own.py", "options": {"least": [1, "ä"]}, "weight": 2, "timeout": 3, "memory": 1,
             "on_error": "skip", "strings": True, "secrets": ["JUDGE_KEY"], "requirements": ["numpy>=2"]}  # fmt: skip
    (found,) = read(tmp_path, given, own=ONE)
    assert found == recipe.Reward(
        "polite", str(tmp_path / "own.py"), "polite", 2.0, 3.0, "skip", 1.0, json.dumps({"least": [1, "ä"]}), True,
        ("JUDGE_KEY",), ("numpy>=2",), None, True,
    )  # fmt: skip
    assert [type(value) for value in (found.weight, found.timeout, found.memory)] == [float] * 3


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    for folder in (recipes, elsewhere, tmp_path / "lib"):
        folder.mkdir()
    (tmp_path / "lib" / "own.py").write_text(TWO)
    (recipes / "needs.txt").write_text("numpy\n")
    monkeypatch.chdir(elsewhere)
    given = {"file": "../lib/own.py", "function": "first", "requirements": "needs.txt"}
    (found,) = read(recipes, given)
    assert (found.file, found.requirements_file) == (str(tmp_path / "lib" / "own.py"), str(recipes / "needs.txt"))
    assert found.requirements == ()


def test_names(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"file": "own.py", "function": "first"},
        {"file": "own.py", "function": "second", "name": "other"},
        {"use": "valid_json", "name": "json"},
        {"file": "first.py"},
        own=TWO,
        first="def _helper(x):\n    return x\n\n\ndef first_of_all(prompt, completion, example):\n    return 1\n",
    )
    assert [each.name for each in found] == ["first", "other", "json", "first_of_all"]
    assert [each.function for each in found] == ["first", "second", "valid_json", "first_of_all"]


def test_the_function_that_is_called_as_the_file_is_comes_first(tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"file": "second.py"}, second=TWO)
    assert found.function == "second"


def test_a_reward_may_be_taken_off_the_command_line(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, {"file": "own.py", "function": "first"}, own=TWO)
    (found,) = check.read(path, ["rewards.0.function=second", "rewards.0.weight=0.5"]).rewards
    assert (found.function, found.weight) == ("second", 0.5)


# what is wrong with names


def test_a_name_that_does_not_ship(tmp_path: Path) -> None:
    assert told(recipe_with(tmp_path, {"use": "valid_jsn"})) == [
        ("my recipe.yaml:5", "no reward called `valid_jsn` ships", "a similar name exists: `valid_json`")
    ]
    ((_, message, hint),) = told(recipe_with(tmp_path, {"use": "xyzzy"}))
    assert message == "no reward called `xyzzy` ships"
    assert hint is not None and hint.startswith("the names are `exact_answer`, ")
    for name in ("../rewards/valid_json", "valid_json.py", "", "README"):
        assert told(recipe_with(tmp_path, {"use": name}))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert told(recipe_with(tmp_path, {"file": "owm.py"}, own=ONE)) == [
        ("my recipe.yaml:5", "`owm.py` does not exist", "a similar name exists: `own.py`")
    ]
    (tmp_path / "folder").mkdir()
    assert told(recipe_with(tmp_path, {"file": "folder"}))[0][1] == "`folder` is a directory, and a file is needed"
    os.mkfifo(tmp_path / "pipe.py")
    assert told(recipe_with(tmp_path, {"file": "pipe.py"}))[0][1] == (
        "`pipe.py` is a pipe or device, and a file is needed"
    )
    (tmp_path / "link.py").symlink_to("gone.py")
    assert "is a link to something" in told(recipe_with(tmp_path, {"file": "link.py"}))[0][1]


def test_several_functions_need_a_name(tmp_path: Path) -> None:
    ((place, message, hint),) = told(recipe_with(tmp_path, {"file": "own.py"}, own=TWO))
    assert (place, message) == ("own.py:5", "the reward file has several functions: `first`, `second`")
    assert hint == "name one of them in the recipe, under `function`"


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    assert told(recipe_with(tmp_path, {"file": "own.py", "function": "frist"}, own=TWO)) == [
        ("my recipe.yaml:6", "the reward file has no function `frist`", "a similar function exists: `first`")
    ]
    ((place, message, hint),) = told(recipe_with(tmp_path, {"file": "own.py"}, own="x = 1\n"))
    assert (place, message) == ("my recipe.yaml:5", "the reward file has no public function")
    assert hint is not None and "`def reward(prompt, completion, example)`" in hint


def test_a_reward_file_is_shown_from_the_working_directory(here: Path) -> None:
    (here / "lib").mkdir()
    (here / "lib" / "own.py").write_text("def own(:\n")
    place = only(recipe_with(here, {"file": "lib/own.py"})).place
    assert place is not None and str(place) == "lib/own.py:1:9"


def test_one_name_for_two(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, {"use": "valid_json"}, {"use": "valid_json", "weight": 2})
    message = "`rewards[1]` is called `valid_json`, and so is `rewards[0]`"
    assert told(path) == [("my recipe.yaml:6", message, "give one of them a `name` of its own")]
    assert len(read(tmp_path, {"use": "valid_json"}, {"use": "valid_json", "name": "again"})) == 2
    three = [{"use": "valid_json"}, {"use": "tag_format"}, {"use": "tag_format", "name": "valid_json"}]
    assert told(recipe_with(tmp_path, *three))[0][0] == "my recipe.yaml:8"


# what is wrong inside of a file


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("def own(prompt, completion, example)\n    return 1\n", 1, "the reward file is not Python: expected `:`"),
        ("import json\n\n\nreturn 1\n", 4, "`return` outside function"),
        ("def own(prompt, completion):\n    return 1\n", 1, "takes two values by position, and is called with three"),
        (
            "\n\ndef own(prompt, completion, example, *values):\n    return 1\n",
            3,
            "takes `*values`, and is called with exactly three values",
        ),
        ("def own(prompts):\n    return 1\n", 1, "takes `prompts` and no `completions`"),
        ("def own(completions, /):\n    return 1\n", 1, "by position alone"),
        ("\ufeffdef own(:\n", 1, "the reward file is not Python"),
    ],
)
def test_a_fault_of_the_file_has_its_own_place(tmp_path: Path, text: str, line: int, words: str) -> None:
    found = told(recipe_with(tmp_path, {"file": "own.py"}, own=text))
    assert found[0][0] == f"own.py:{line}"
    assert words in found[0][1]


def test_the_line_itself_is_shown(tmp_path: Path) -> None:
    problem = only(
        recipe_with(tmp_path, {"file": "own.py"}, own="def own(prompt, completion, example)\n    return 1\n")
    )
    report = errors.as_text(problem)
    assert "own.py:1:37" in report and "1 | def own(prompt, completion, example)" in report and "^" in report


def test_a_file_is_read_and_not_run(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'trap')!r}, 'w')\nraise SystemExit\n\n\ndef own(completions):\n    return []\n"
    (found,) = read(tmp_path, {"file": "own.py"}, own=trap)
    assert found.function == "own" and not (tmp_path / "trap").exists()


def test_faults_of_all_rewards_come_together(tmp_path: Path) -> None:
    path = recipe_with(
        tmp_path,
        {"use": "valid_jsn"},
        {"file": "gone.py"},
        {"file": "own.py", "function": "polite", "options": {"leats": 1}},
        {"file": "broken.py"},
        own=ONE,
        broken="def broken(:\n",
    )
    assert sorted(place for place, _, _ in told(path)) == [
        "broken.py:1", "my recipe.yaml:10", "my recipe.yaml:5", "my recipe.yaml:6", "my recipe.yaml:9",
    ]  # fmt: skip


# options and requirements


def test_options_that_the_function_does_not_take(tmp_path: Path) -> None:
    given = {"file": "own.py", "options": {"leats": 2, "word": "thanks"}}
    assert told(recipe_with(tmp_path, given, own=ONE)) == [
        (
            "my recipe.yaml:6",
            "option `least` of `polite` has no default and is not set",
            "set it under `options`, as `least: …`",
        ),
        ("my recipe.yaml:7", "`polite` has no option `leats`", "a similar option exists: `least`"),
    ]


def test_an_option_that_is_needed(tmp_path: Path) -> None:
    ((place, message, _),) = told(recipe_with(tmp_path, {"file": "own.py"}, own=ONE))
    assert (place, message) == ("my recipe.yaml:5", "option `least` of `polite` has no default and is not set")
    ((_, message, hint),) = told(recipe_with(tmp_path, {"file": "own.py", "function": "first", "options": {"a": 1}}, own=TWO))  # fmt: skip  # noqa: E501
    assert (message, hint) == ("`first` has no option `a`", "options are the parameters behind a `*`, and it has none")


def test_requirements_that_are_no_file(tmp_path: Path) -> None:
    given = {"file": "own.py", "function": "first", "requirements": "needs.txt"}
    assert told(recipe_with(tmp_path, given, own=TWO)) == [
        (
            "my recipe.yaml:7",
            "there is no requirements file `needs.txt`",
            "packages themselves are written as a list: `[pandas, numpy]`",
        )
    ]
    (tmp_path / "needs.txt").mkdir()
    assert told(recipe_with(tmp_path, given, own=TWO))


@pytest.mark.parametrize("requirements", [[], [1], "", ["a", None], {"a": 1}])
def test_requirements_of_another_kind(tmp_path: Path, requirements: Any) -> None:
    assert told(recipe_with(tmp_path, {"file": "own.py", "function": "first", "requirements": requirements}, own=TWO))


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.lists(st.text(max_size=3))
KEYS = ["use", "file", "function", "name", "weight", "timeout", "on_error", "memory", "options", "strings", "secrets",
        "requirements", "reload"]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.sampled_from(KEYS), ODD | st.sampled_from(["own.py", "valid_json", "first"]), max_size=5),
        max_size=3,
    )
)
def test_any_rewards_are_rewards_or_a_recipe_error(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    try:
        found = read(tmp_path, *given, own=TWO)
    except errors.RecipeError as error:
        for style in ("text", "json", "github"):
            assert errors.report(error, style).encode()
        return
    assert len({each.name for each in found}) == len(found) == len(given) > 0
