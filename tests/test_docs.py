"""What the documents say: commands that the grammar knows, recipes that hold, links that lead somewhere.

Light commands are run as they stand, in a folder that has what they name. Those that load a model are run by other
tests, which are named here.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import a_run
from small_model import MODEL
from test_house import ROOT

from runner import arguments, cli
from runner.errors import RecipeError
from runner.reading import check, reference, source

PAGES = sorted(
    path for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "rewards/README.md", *ROOT.glob("docs/*.md")]
)
LIGHT = ("init", "validate", "plan", "doctor", "report", "schema", "completion")
HEAVY = {  # a verb that loads a model or a tokenizer -> the test that runs it
    "preview": "test_preview_page.py",
    "rewards": "test_rewards_check.py",
    "train": "test_run.py",
    "push": "test_run.py",
    "generate": "test_generate.py",
    "evaluate": "test_evaluate_verb.py",
    "compare": "test_compare.py",
    "watch": "test_watch.py",
}
ELLIPSIS = "…"  # in a command that stands for others
RECIPE = """\
task: {task}
name: support
model: {{name: {model}}}
dataset: {{train: rows.jsonl, evaluation: 0.5}}
"""
# What stands for a file of the reader's own.
OWN_RECIPES = ("recipe.yaml", "reviews.yaml")
PLACEHOLDERS = {"FILE": "rows.jsonl", "NAME": "demo"}


@dataclass(frozen=True)
class Block:
    """A fenced block, or the indented one that its lines are."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").split("\n")
    fence, start, held = None, 0, []
    for number, line in enumerate([*lines, ""], 1):
        opened = re.match(r"(\s*)```(\w*)\s*$", line)
        if fence is not None:
            if opened:
                yield Block(page, start, fence, "\n".join(held))
                fence, held = None, []
            else:
                held.append(line)
        elif opened:
            fence, start, held = opened[2], number + 1, []
        elif re.match(r" {4}\S", line):
            start, held = start if held else number, [*held, line[4:]]
        elif held:
            yield Block(page, start, "indented", "\n".join(held))
            held = []


BLOCKS = [block for page in PAGES for block in blocks(page)]


@dataclass(frozen=True)
class Command:
    """A command line of ours as a page has it; `whole` where it is meant to be run as it stands."""

    where: str
    words: tuple[str, ...]
    whole: bool
    block: bool = True  # of an example, and not within a sentence


def commands() -> Iterator[Command]:
    for block in BLOCKS:
        if block.language in ("console", "indented", "sh", "bash"):
            text = re.sub(r"\\\n\s*", " ", block.text)
            for line in text.split("\n"):
                line = re.sub(r"(^|\s)#.*", "", line.removeprefix("$ "))
                if found := re.match(r"(?:srun \S+ |TUNESMITH_\S+ )*tunesmith (.*)", line):
                    # what stands two spaces behind is a word about it
                    yield Command(str(block), tuple(shlex.split(re.split(r"\s{2,}|\s>\s", found[1])[0])), True)
    for page in PAGES:
        prose = re.sub(r"^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for inline in re.findall(r"`tunesmith ([^`]*)`", prose):
            words = tuple(shlex.split(inline))
            names = {"rewards check"} & {" ".join(words)}
            yield Command(f"{page.name}: `tunesmith {inline}`", words, len(words) > 1 and not names, False)


COMMANDS = [command for command in commands() if ELLIPSIS not in "".join(command.words)]


def options_of(command: Command) -> Any:
    words = [word for word in command.words if not word.startswith("[")]
    if not command.block and "--time-limit" in words and words[-1] != "recipe.yaml":
        words.append("recipe.yaml")  # a sentence on an option leaves it out
    return arguments.parser().parse_args(words)


def test_there_is_something_to_look_at() -> None:
    assert len(COMMANDS) > 30 and len(BLOCKS) > 50
    assert {command.words[0] for command in COMMANDS if command.words} >= {*LIGHT} - {"completion"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.where)
def test_a_command_is_one_of_the_grammar(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    if not command.whole:  # a verb that is named, without what it works on
        assert not command.words or command.words[0] in (*cli.VERBS, "--version")
        return
    if command.words[0].startswith("--"):
        return
    try:
        options = options_of(command)
    except SystemExit as ended:
        pytest.fail(f"{command.where}: {capsys.readouterr().err}") if ended.code else None
        return
    for named in [getattr(options, "recipe", None), *getattr(options, "recipes", [])]:
        if named and named.startswith("recipes/") and "*" not in named:
            assert check.read(str(ROOT / named)).task


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_is_run_by_a_test(verb: str) -> None:
    if verb in LIGHT:
        return
    test = (ROOT / "tests" / HEAVY[verb]).read_text(encoding="utf-8")
    assert f'"{verb}"' in test or f"{verb}_page" in test or f"supervise.{verb}" in test


def light() -> list[tuple[str, ...]]:
    """The light commands, each once."""
    found = dict.fromkeys(command.words for command in COMMANDS if command.whole and command.words[0] in LIGHT)
    return [tuple(PLACEHOLDERS.get(word, word) for word in words) for words in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the documents find what they name."""
    here = tmp_path_factory.mktemp("docs")
    (here / "recipes").symlink_to(ROOT / "recipes")
    (here / "models").mkdir()
    (here / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"a {n}", "completion": "b"}) + "\n" for n in range(9))
    )
    for name in ("train.jsonl", "test.jsonl"):
        shutil.copy(here / "rows.jsonl", here / name)
    (here / "reviews.csv").write_text(
        "review,label\n" + "".join(f"film {n},{'bad' if n % 2 else 'good'}\n" for n in range(20))
    )
    (here / "questions.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n' * 5)
    for name in OWN_RECIPES:
        (here / name).write_text(RECIPE.format(task="sft", model=MODEL))
    a_run(here / "outputs", "sft").rename(here / "outputs/demo2")
    for name in ("demo", "x"):
        shutil.copytree(here / "outputs/demo2", here / "outputs" / name)
    return here


@pytest.mark.parametrize("words", light(), ids=" ".join)
def test_a_light_command_runs(
    words: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    shutil.copytree(folder, here, symlinks=True)
    monkeypatch.chdir(here)
    if words[0] == "init":
        Path("reviews.yaml").unlink()  # it is made
    if "--column" in words:
        shutil.copy("questions.jsonl", "rows.jsonl")
    options = options_of(Command("", words, True))
    words = tuple(word for word in words if word != "--network")
    code = cli.main([*words, *(["--yes"] if words[0] == "init" and not options.list else [])])
    out, err = capsys.readouterr()
    assert code == 0 or words[0] == "doctor", err  # which may find a fault of this machine
    assert out


@pytest.mark.slow
def test_the_template_of_the_page_on_chats_is_proved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (template,) = [block.text for block in BLOCKS if block.language == "jinja"]
    Path("chat.jinja").write_text(template)
    (command,) = [each.words for each in COMMANDS if "model.chat_template=chat.jinja" in each.words]
    assert cli.main(command) == 0
    assert re.search(r"<\|im_start\|>assistant\n?⏎\n\[b\]\[<\|im_end\|>\]", capsys.readouterr().out)


def test_the_reference_of_keys_is_up_to_date() -> None:
    assert reference.FILE.read_text(encoding="utf-8") == reference.text(), "run `make schema`"


# YAML


def of_recipes() -> list[Block]:
    foreign = ("github_actions.md",)
    return [block for block in BLOCKS if block.language == "yaml" and block.page.name not in foreign]


@pytest.mark.parametrize("block", of_recipes(), ids=str)
def test_yaml_is_a_recipe_or_a_part_of_one(block: Block, here: Path) -> None:
    """Everything of a recipe is checked but whether files are there."""
    part = yaml.safe_load(block.text.replace(ELLIPSIS, "x"))
    assert isinstance(part, dict)
    task = part.get("task") or ("grpo" if {"rewards", "grpo"} & part.keys() else "sft")
    base: dict[str, Any] = {"task": task, "model": {"name": "owner/model"}, "dataset": {"train": "owner/rows"}}
    if task == "grpo":
        base |= {"rewards": [{"use": "valid_json"}]}
    merged = {key: {**base[key], **part[key]} if isinstance(base.get(key), dict) and key in part else value
              for key, value in (base | part).items()}  # fmt: skip
    if task != "grpo" and "early_stopping" in merged.get("training", {}):
        merged["dataset"].setdefault("evaluation", 0.1)
    try:
        check.settle(source.recipe(yaml.safe_dump(merged, allow_unicode=True), "recipe.yaml"), "recipe.yaml")
    except RecipeError as error:
        wrong = [each.message for each in error.problems if "does not exist" not in each.message]
        wrong = [message for message in wrong if "is neither a directory nor" not in message]
        assert not wrong, f"{block}: {wrong}"


def test_a_wrong_part_would_be_found(here: Path) -> None:
    block = Block(ROOT / "docs/x.md", 1, "yaml", "training: {epoch: 1}")
    with pytest.raises(AssertionError, match="unknown key `epoch`"):
        test_yaml_is_a_recipe_or_a_part_of_one(block, here)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("python", "json")], ids=str)
def test_other_blocks_can_be_read(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.text)
    else:
        json.loads(block.text)


# links and targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to `{target}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_are_there(page: Path) -> None:
    there = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    for said in re.findall(r"(?:^|\s{4}|`|\$ (?:\w+=\S+ )*)make ([a-z-]+)", text, re.MULTILINE):
        assert said in there, f"{page.name} says `make {said}`"


def test_every_page_is_linked_from_the_readme_or_another_one() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
    }
    assert {page for page in PAGES if page.parent.name == "docs"} <= linked
