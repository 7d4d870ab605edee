"""Recipes that are written for data as people have it: what is guessed, whether it holds, what is told of bad files."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_house import ROOT, loaded_after, project
from users_files import FILES, lines, table

from runner import cli, machine
from runner.errors import RunError
from runner.init import drafting, models, shipped
from runner.init.asking import Asker
from runner.init.drafting import Asked
from runner.reading import check

LABELS = ["loss", "perplexity", "exact_match"]

# The task of a recipe; of its `dataset` what is neither a path nor the format nor a share; and its metrics or rewards.
GUESSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "alpaca": (
        "sft",
        {
            "columns": {"completion": "output"},
            "templates": {"prompt": "{{ instruction }}{% if input %}\n\n{{ input }}{% endif %}"},
        },
        ["loss", "perplexity", "rouge_l"],
    ),
    "sharegpt": ("sft", {"columns": {"messages": "conversations"}}, ["loss", "perplexity", "exact_match", "token_f1"]),
    "openai_chat": ("sft", {}, LABELS),
    "odd_headers": (
        "sft",
        {"columns": {"prompt": "Customer question (EN)", "completion": "Our reply"}},
        ["loss", "perplexity", "exact_match", "token_f1"],
    ),
    "reviews_in_tabs": ("sft", {"columns": {"prompt": "review", "completion": "label"}}, LABELS),
    "reviews_by_word": ("sft", {"columns": {"prompt": "text", "completion": "sentiment"}}, LABELS),
    "preferences": ("sft", {"columns": {"completion": "chosen"}}, ["loss", "perplexity", "rouge_l"]),
    "preferences_in_turns": ("sft", {"columns": {"messages": "chosen"}}, ["loss", "perplexity", "numeric_match"]),
    "texts": ("continued_pretraining", {}, ["loss", "perplexity"]),
    "openai_calls": ("function_calling", {}, ["loss", "call_parsed", "call_name", "call_match"]),
    "sharegpt_calls": ("function_calling", {}, ["loss", "call_parsed", "call_name", "call_match"]),
    "xlam_calls": ("function_calling", {}, ["loss", "call_parsed", "call_name", "call_match"]),
    "sums": (
        "sft", {"columns": {"prompt": "question", "completion": "answer"}}, ["loss", "perplexity", "numeric_match"],
    ),
    "chats_in_parquet": (
        "sft", {"columns": {"messages": "conversation"}}, ["loss", "perplexity", "exact_match", "token_f1"],
    ),
    "prompts_alone": ("grpo", {}, ["length_between", "repetition_penalty"]),
    "nested": (
        "sft",
        {
            "columns": {"completion": "meta.answer.text"},
            "templates": {"prompt": "{{ data.context }}\n\n{{ data.question }}"},
        },
        LABELS,
    ),
    "dolly": (
        "sft",
        {
            "columns": {"completion": "response"},
            "templates": {
                "prompt": "{{ instruction }}{% if context is defined and context %}\n\n{{ context }}{% endif %}"
            },
        },
        LABELS,
    ),
    "json_answers": (
        "sft", {"columns": {"prompt": "query", "completion": "target"}},
        ["loss", "perplexity", "json_valid", "json_match"],
    ),
    "choices": (
        "sft", {"columns": {"prompt": "problem", "completion": "solution"}}, ["loss", "perplexity", "choice_accuracy"],
    ),
    "listed_choices": (
        "sft",
        {
            "templates": {
                "prompt": "{{ question }}\n{% for choice in choices %}\n"
                "{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[loop.index0] }}. {{ choice }}{% endfor %}\nAnswer:",
                "completion": "{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[answer] }}",
            }
        },
        ["loss", "perplexity", "choice_accuracy"],
    ),
    "system_texts": (
        "sft",
        {
            "columns": {"completion": "response"},
            "templates": {"prompt": "{% if system_prompt %}{{ system_prompt }}\n\n{% endif %}{{ question }}"},
        },
        ["loss", "perplexity", "rouge_l"],
    ),
}  # fmt: skip
REWARDS = {  # of `--task grpo`, where rows have answers
    "sums": {"use": "numeric_answer", "options": {"column": "answer"}},
    "reviews_by_word": {"use": "exact_answer", "options": {"column": "sentiment"}},
    "json_answers": {"use": "json_fields", "options": {"column": "target"}},
    "choices": {"use": "multiple_choice", "options": {"column": "solution"}},
    "nested": {"use": "exact_answer", "options": {"column": "completion"}},
    "listed_choices": {"use": "multiple_choice", "options": {"column": "completion"}},
}

Init = Callable[..., tuple[int, str, str]]


@pytest.fixture
def init(here: Path, capsys: pytest.CaptureFixture[str]) -> Init:
    """A function that runs `tunesmith init` in an empty folder: code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["init", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def read(path: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(Path(path).read_text())
    return values


@pytest.mark.parametrize("name", FILES)
def test_what_is_guessed_of_a_file_holds(name: str, init: Init) -> None:
    code, out, err = init(FILES[name](), "--yes")
    assert (code, err) == (0, "")
    (path,) = re.findall(r"^(\S+\.yaml) is written$", out, re.MULTILINE)
    written = read(path)
    task, dataset, measured = GUESSED[name]
    rest = {key: value for key, value in written["dataset"].items() if key not in ("train", "format", "evaluation")}
    told = (
        [reward["use"] for reward in written["rewards"]] if "rewards" in written else written["evaluation"]["metrics"]
    )
    assert (written["task"], rest, told) == (task, dataset, measured)
    assert written["dataset"]["evaluation"] == 0.2
    assert "hub_id" not in Path(path).read_text()  # the model that is proposed is one of the Hub
    assert cli.main(["validate", "--data", path]) == 0


@pytest.mark.parametrize("name", REWARDS)
def test_answers_are_paid_for_by_a_reward_that_fits(name: str, init: Init) -> None:
    code, out, _ = init(FILES[name](), "--task", "grpo", "--name", "paid")
    assert code == 0 and "tunesmith rewards check paid.yaml" in out
    assert read("paid.yaml")["rewards"] == [REWARDS[name]]
    assert cli.main(["validate", "--data", "paid.yaml"]) == 0


@pytest.mark.parametrize(("name", "format_"), [("openai_calls", "openai"), ("nested", "prompt_completion")])
def test_a_format_that_is_named_is_taken(name: str, format_: str, init: Init) -> None:
    code, _, err = init(FILES[name](), "--format", format_, "--name", "named")
    assert (code, err) == (0, "")
    assert read("named.yaml")["dataset"]["format"] == format_
    assert cli.main(["validate", "--data", "named.yaml"]) == 0


def test_files_to_evaluate_on_are_told_by_their_names(init: Init) -> None:
    for name in ("train-0", "train-1", "my_validation"):
        lines(f"data/{name}.jsonl", ({"prompt": f"{name} {n}", "completion": str(n)} for n in range(3)))
    code, out, _ = init("data/train-*.jsonl", "data/my_validation.jsonl", "--output", "recipes.d/r.yaml")
    assert code == 0 and "6 rows to train on, 3 held out" in out
    found = read("recipes.d/r.yaml")["dataset"]
    assert (found["train"], found["evaluation"]) == ("../data/train-*.jsonl", "../data/my_validation.jsonl")
    assert read("recipes.d/r.yaml")["name"] == "train"


def test_rows_that_say_their_split_are_not_parted_again(init: Init) -> None:
    rows = [{"prompt": f"a{n}", "completion": "b", "split": "evaluation" if n % 3 == 0 else "train"} for n in range(9)]
    code, out, _ = init(lines("rows.jsonl", rows))
    assert code == 0 and "6 rows to train on, 3 held out" in out
    assert "evaluation" not in read(Path.cwd().name + ".yaml")["dataset"]


def test_a_bad_row_far_down_is_counted(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.init.looking.MOST_ROWS", 20)
    rows: list[Any] = [{"prompt": f"a{n}", "completion": "b c"} for n in range(50)]
    rows[40] = {"prompt": "a", "completion": ""}
    code, out, _ = init(lines("mine.jsonl", rows))
    assert code == 0 and read("mine.yaml")["dataset"]["on_bad_row"] == "skip"
    assert "some rows (1) cannot be used" in Path("mine.yaml").read_text()
    assert cli.main(["validate", "--data", "mine.yaml"]) == 0


def test_rows_that_are_too_long_for_a_small_machine_are_left_out(init: Init) -> None:
    rows = [{"prompt": f"a{n}", "completion": "word " * (3000 if n == 7 else 3)} for n in range(20)]
    code, out, _ = init(lines("mine.jsonl", rows))
    assert code == 0 and "rows of more than 2048 tokens are left out: about 1" in out
    found = read("mine.yaml")["dataset"]
    assert (found["max_length"], found["overflow"]) == (2048, "drop")
    assert cli.main(["validate", "--data", "mine.yaml"]) == 0


def test_names_that_yaml_would_take_for_something_else(init: Init) -> None:
    name = 'a #: {"q"}\nversion: 2'
    table("null.csv", [name, "no"], [[f"text number {n}, and more", f"answer {n}"] for n in range(9)])
    code, out, _ = init("null.csv", "--column", f"prompt={name}", "--column", "completion=no")
    assert code == 0
    assert read("null.yaml")["dataset"]["columns"] == {"prompt": name, "completion": "no"}
    assert read("null.yaml")["name"] == "null" and read("null.yaml")["version"] == 1


@pytest.mark.parametrize(
    ("row", "task", "doubt"),
    [
        ({"chosen": "Q {n} A yes", "rejected": "Q {n} A no"}, "continued_pretraining", "no task learns from `rej"),
        ({"prompt": "{n}?", "completion": "an answer {n}", "label": True}, "sft", "`label` is not looked at"),
        ({"review": "film {n}", "stars": 3}, "sft", "what the labels mean"),
        ({"eins": "ein Satz {n}", "zwei": "une phrase {n}"}, "sft", "that `zwei` answers `eins` is a guess"),
        ({"prompt": "write of {n}"}, "grpo", "what a good answer is stands in no column"),
    ],
)  # fmt: skip
def test_what_could_not_be_known_is_said(row: dict[str, Any], task: str, doubt: str, init: Init) -> None:
    rows = [
        {
            key: value.format(n=n) if isinstance(value, str) else n % 5 if value == 3 else n % 2 == 0
            for key, value in row.items()
        }
        for n in range(40)
    ]
    code, out, _ = init(lines("mine.jsonl", rows))
    assert code == 0 and read("mine.yaml")["task"] == task
    assert any(line.startswith("not known") and doubt in line for line in out.splitlines()), out


def write_bad_files() -> None:
    Path("empty.jsonl").touch()
    Path("latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
    Path("header.csv").write_text("a,b\n")
    Path("ragged.csv").write_text("question,answer\na,b,c\nd,e,f\n")
    Path("binary.jsonl").write_bytes(bytes(range(1, 200)))
    Path("photo.jpg").write_bytes(b"\xff\xd8")
    Path("folder").mkdir()
    Path("folder/rows.csv").write_text("a,b\nc,d\n")
    Path("nothing").mkdir()
    lines("mixed.jsonl", [{"messages": [{"role": "user", "content": "a"}]}, {"prompt": "a", "completion": "b"}])
    lines("numbers.jsonl", [{"a": 1, "b": 2}] * 3)
    lines("three.jsonl", [{"u": f"a b {n}", "v": f"c d {n}", "w": f"e f {n}"} for n in range(60)])
    Path("wrapped.json").write_text('{"data": [{"prompt": "a", "completion": "b"}]}')
    Path("columns.json").write_text('{"prompt": ["a"], "completion": ["b"]}')
    Path("semicolons.csv").write_text("a;b\nc;d\n")
    lines("split.jsonl", [{"prompt": "a", "completion": "b", "split": "test"}])


BAD: dict[str, tuple[str, str | None]] = {
    "empty.jsonl": ("`empty.jsonl` is empty", None),
    "latin.jsonl": ("line 1 is not UTF-8 at its byte 16, 0xE9", "save the file as UTF-8"),
    "header.csv": ("`header.csv` has no rows", None),
    "ragged.csv": ("the row has 3 values, and the header 2 columns", "put values that hold a comma in double quotes"),
    "binary.jsonl": ("line 1 is not valid", None),
    "photo.jpg": ("`photo.jpg` is of no known type", "data files are"),
    "folder": ("`folder` is a directory, and not one that `datasets` saved", "name a file in it"),
    "nothing": ("`nothing` is an empty directory", None),
    "missing.jsonl": ("`missing.jsonl` does not exist", None),
    "rag.csv": ("`rag.csv` does not exist", None),
    "three.json": ("`three.json` does not exist", "a similar name exists: `three.jsonl`"),
    "demoo": ("`demoo` does not exist", "`tunesmith init demo` writes out a recipe that ships"),
    "owner/name": ("`owner/name` does not exist", "a data set of the Hub is not looked at"),
    "*.nope": ("no file matches `*.nope`", None),
    "mixed.jsonl": (
        "the rows are of several kinds: 1 have `messages`, as at `mixed.jsonl:1`, and 1 have",
        "put the rows of",
    ),
    "numbers.jsonl": ("no column holds text; there are `a`, `b`", "name the file that has the texts"),
    "three.jsonl": (
        "which column asks and which one answers cannot be told of `u`, `v`, `w`",
        "say it: `--column prompt=",
    ),
    "wrapped.json": (
        "no column holds text; there are `data`",
        "if the rows are the list in `data`, save that list alone",
    ),
    "columns.json": ("no column holds text; there are `prompt`, `completion`", "these look like whole columns"),
    "semicolons.csv": ("columns are separated by semicolons", "save the file with commas"),
    "split.jsonl": ("`split` is `test`, not `train` or `evaluation`", "write `evaluation`"),
    "": ("no data is named", "`tunesmith init rows.jsonl`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said(name: str, init: Init) -> None:
    write_bad_files()
    message, hint = BAD[name]
    code, out, err = init(name)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") or name == "binary.jsonl", err
    assert f"hint: {hint}" in err if hint else True, err
    assert not list(Path().glob("*.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data is named"),
        (["rows.jsonl", "--column", "prompt=x"], "`prompt=x`: there is no column `x`"),
        (["rows.jsonl", "--column", "q=prompt"], "`q=prompt` names no column"),
        (["rows.jsonl", "--column", "prompt=n"], "`prompt=n`: the column `n` holds numbers"),
        (["rows.jsonl", "--column", "split=n"], "`split=n` names no column"),
        (["rows.jsonl", "--column", "messages=prompt"], "`messages=prompt`: the column `prompt` holds text"),
        (["rows.jsonl", "--task", "function_calling"], "the rows cannot be read for `--task function_calling`"),
        (["rows.jsonl", "--format", "messages"], "the rows cannot be read for `--format messages`"),
        (["rows.jsonl", "--model", "no/such/model"], "`no/such/model` is neither a directory nor a Hub id"),
        (["rows.jsonl", "--name", "a b"], "`name` must be 1 to 96 letters"),
        (["rows.jsonl", "--output", "rows.jsonl"], "`rows.jsonl` is one of the data files"),
        (["rows.jsonl", "--output", "./rows.jsonl", "--force"], "`./rows.jsonl` is one of the data files"),
        (["demo", "--task", "sft"], "`demo` is a recipe that ships, and `--task` is for data"),
        (["demo", "--column", "prompt=a"], "`demo` is a recipe that ships, and `--column` is for data"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, init: Init) -> None:
    lines("rows.jsonl", [{"prompt": "a", "completion": "b", "n": 1}] * 3)
    code, _, err = init(*arguments)
    assert code == 2 and err.startswith(f"error: {message}"), err
    assert len(Path("rows.jsonl").read_text().splitlines()) == 3


def test_nothing_is_overwritten_unsaid(init: Init) -> None:
    lines("mine.jsonl", [{"prompt": f"a{n}", "completion": "b"} for n in range(3)])
    Path("mine.yaml").write_text("mine")
    assert init("mine.jsonl", "--yes")[0] == 2 and Path("mine.yaml").read_text() == "mine"
    code, out, err = init("mine.jsonl", "--output", "-")
    assert code == 0 and yaml.safe_load(out)["task"] == "sft" and "rows to train on" in err
    assert Path("mine.yaml").read_text() == "mine"
    assert init("mine.jsonl", "--force")[0] == 0 and read("mine.yaml")["task"] == "sft"


def test_a_terminal_is_asked_what_cannot_be_known(here: Path) -> None:
    """By a real terminal: the columns, the task by its number, the model, and whether to overwrite."""
    lines("three.jsonl", [{"u": f"a b {n}", "v": f"c d {n}", "w": f"e f {n}"} for n in range(60)])
    Path("three.yaml").write_text("mine")
    leader, follower = pty.openpty()
    ours = [sys.executable, "-m", "runner.cli", "init", "three.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "200"}
    process = subprocess.Popen(ours, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    os.write(leader, b"w\nz\n2\n1\nowner/model\nyes\n")
    said = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # a terminal's way of ending
            break
        said += part
        if not part:
            break
    assert process.wait() == 0, said.decode()
    for words in (
        "the column that asks",
        "as in: a b 0",
        "the column that answers",
        "there is no `z`",
        "is there already",
    ):
        assert words in said.decode(), said.decode()
    written = read("three.yaml")
    assert written["dataset"]["columns"] == {"prompt": "w", "completion": "v"}
    assert (written["task"], written["model"]["name"]) == ("sft", "owner/model")


def test_nobody_is_asked_twice(here: Path) -> None:
    lines("sums.jsonl", [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(99)])
    answers, asked = iter(["grpo", ""]), []
    asker = Asker(lambda prompt: asked.append(prompt) or next(answers), lambda text: None)  # type: ignore[func-returns-value]
    found = drafting.draft(Asked(("sums.jsonl",)), asker, machine.named("h100"))
    assert found.task == "grpo" and len(asked) == 2
    unanswered = Asker(lambda prompt: (_ for _ in ()).throw(EOFError), lambda text: None)
    with pytest.raises(RunError, match="a question was not answered"):
        drafting.draft(Asked(("sums.jsonl",)), unanswered, machine.named("h100"))
    assert yaml.safe_load(found.text)["model"]["name"] == "Qwen/Qwen2.5-7B-Instruct"


@pytest.mark.parametrize(
    ("name", "task", "model"),
    [
        ("cpu:2:4", "sft", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("cpu:2:4", "continued_pretraining", "HuggingFaceTB/SmolLM2-135M"),
        ("cpu:2:4", "function_calling", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("cpu:16:64", "sft", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("t4", "sft", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("h100:8", "grpo", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_the_model_is_small_enough_for_the_machine(name: str, task: str, model: str) -> None:
    assert models.default(task, machine.named(name))[0] == model


# recipes that ship


def test_the_recipes_that_ship_are_listed(init: Init) -> None:
    code, out, _ = init("--list")
    assert code == 0
    found = [re.match(r"(\w+) +(\w+) +(\S.*\.)$", line) for line in out.splitlines()]
    names = {each[1]: each[2] for each in found if each}
    assert names == {path.stem: check.read(str(path)).task for path in (ROOT / "recipes").glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
def test_a_recipe_that_ships_is_written_out_whole(name: str, init: Init) -> None:
    code, out, err = init(name)
    assert (code, err) == (0, "")
    text = Path(f"{name}.yaml").read_text()
    assert "../" not in text and "$schema" not in text and text.startswith("# ")
    assert cli.main(["validate", "--data", f"{name}.yaml"]) == 0
    assert init(name)[0] == 2  # it is there


def test_a_recipe_that_ships_takes_another_model_and_place(init: Init) -> None:
    assert init("grpo_own_rewards", "--model", "owner/model", "--output", "deep/mine.yaml")[0] == 0
    assert check.read("deep/mine.yaml").model.name == "owner/model"
    assert Path("deep/arithmetic/short_answers.py").is_file()
    Path("deep/arithmetic/train.jsonl").write_text("mine")
    code, _, err = init("grpo", "--output", "deep/grpo.yaml")
    assert code == 2 and err.startswith("error: `deep/arithmetic/train.jsonl` is there already")
    assert Path("deep/arithmetic/train.jsonl").read_text() == "mine" and not Path("deep/grpo.yaml").exists()


def test_every_file_of_a_recipe_is_packed() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]
    packed = {
        path
        for package, globs in patterns.items()
        for path in (ROOT / package.replace(".", "/")).iterdir()
        if any(fnmatch(path.name, each) for each in globs)
    }
    python = set((ROOT / "recipes").rglob("*.py"))  # packed as modules
    wanted = {path for path in (ROOT / "recipes").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert wanted <= packed | python
    assert shipped.FOLDER == ROOT / "recipes"


def test_nothing_heavy_is_imported() -> None:
    run = """
import os, tempfile, runner.cli
os.chdir(tempfile.mkdtemp())
open("rows.jsonl", "w").write('{"question": "a", "answer": "b"}\\n' * 5)
assert runner.cli.main(["init", "rows.jsonl", "--yes"]) == 0
assert runner.cli.main(["init", "demo"]) == 0
"""
    assert loaded_after(run) == set()


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({"chat_template.jinja": "{% if tools %}{% endif %}"}, True),
        ({"chat_template.jinja": "{{ messages }}", "tokenizer_config.json": '{"chat_template": "tools"}'}, False),
        ({"tokenizer_config.json": '{"chat_template": "{{ tools }}"}'}, True),
        ({"tokenizer_config.json": "{}"}, False),
        ({"tokenizer_config.json": "["}, None),
        ({}, None),
    ],
)
def test_a_template_that_shows_no_tools_is_replaced(init: Init, files: dict[str, str], shown: bool | None) -> None:
    Path("model").mkdir()
    for name, text in files.items():
        Path("model", name).write_text(text)
    assert init(FILES["xlam_calls"](), "--yes", "--model", "./model", "--output", "calls.yaml")[0] == 0
    written = Path("calls.yaml").read_text()
    assert "\n  # hub_id: owner/name  " in written
    line = next((line for line in written.splitlines() if "chat_template" in line), None)
    if shown:
        assert line is None
    else:
        assert line is not None and line.lstrip().startswith("#" if shown is None else "chat_template: hermes")
