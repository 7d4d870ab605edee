"""Function calling from recipe to model: the recipe that ships, the formats of its page in one run, and its data."""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calling.calling_rows import row
from runs import ROOT, Command, run_of, tunesmith, write_recipe
from small_model import MODEL

from runner.data.calling import formats
from runner.data.examples import Chat

RECIPE = ROOT / "recipes" / "function_calling.yaml"
DATA = ROOT / "recipes" / "function_calling"
FILES = ("train.jsonl", "evaluation.jsonl", "new_tools.jsonl")
PAGE = (ROOT / "docs" / "function_calling.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^\*\*`(\w+)`\*\*.*?^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
RISES = {"call_parsed": 0.5, "call_name": 0.25, "call_arguments": 0.1}
MODEL_SET = ("--set", f"model.name={MODEL}")


@pytest.fixture(scope="module")
def generator() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(DATA / "make_data.py")))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def calls(values: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    asked = [call["function"] for turn in values["messages"] for call in turn.get("tool_calls") or []]
    return [(call["name"], json.loads(call["arguments"])) for call in asked]


def shown(values: dict[str, Any]) -> frozenset[str]:
    return frozenset(tool["function"]["name"] for tool in values["tools"])


def texts(value: Any) -> set[str]:
    """Every text among the values of an argument."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {text for each in value for text in texts(each)}
    return {value} if isinstance(value, str) else set()


# the page


def test_the_page_has_a_row_of_every_format() -> None:
    assert list(EXAMPLES) == list(formats.CONVERTERS)


@pytest.mark.parametrize("name", formats.CONVERTERS)
def test_a_row_of_the_page_is_good_and_tells_its_format(name: str) -> None:
    values = json.loads(EXAMPLES[name])
    assert formats.choose(row(values)) == name
    for each in (name, "calls"):
        found = formats.read(row(values), each)
        assert isinstance(found, Chat), found
        assert formats.count(found) != "none" and found.tools


# the data of the recipe


def test_the_files_are_what_the_generator_writes(generator: SimpleNamespace, tmp_path: Path) -> None:
    generator.write(tmp_path / "made")
    for name in FILES:
        assert (tmp_path / "made" / name).read_bytes() == (DATA / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_rows_choose_among_tools_and_some_call_none(name: str) -> None:
    found = rows(name)
    counted = Counter(formats.count(chat) for each in found if isinstance(chat := formats.read(row(each)), Chat))
    assert counted.total() == len(found)
    assert 0.15 <= counted["none"] / len(found) <= 0.25
    assert counted["one"] > counted["several"] > 0
    assert {len(each["tools"]) for each in found} <= {2, 3, 4}
    assert any(turn["role"] == "tool" for each in found for turn in each["messages"])


def test_training_gives_nothing_of_the_evaluation_away(generator: SimpleNamespace) -> None:
    seen, held_out = rows("train.jsonl"), rows("evaluation.jsonl")
    assert not {shown(each) for each in seen} & {shown(each) for each in held_out}
    closed = {*generator.DAYS, *generator.WAYS, *generator.CALENDARS}
    said, wanted = (
        {text for each in part for _, arguments in calls(each) for text in texts(arguments)} - closed
        for part in (seen, held_out)
    )
    assert wanted and not said & wanted
    used = {name for each in seen for name in shown(each)}
    new = {name for each in rows("new_tools.jsonl") for name, _ in calls(each)}
    assert used == {tool.name for tool in generator.TOOLS} and new == {tool.name for tool in generator.NEW_TOOLS}
    assert not used & new


# the recipe before a run


def test_the_recipe_is_good_and_says_what_it_will_do() -> None:
    assert "is a good recipe" in tunesmith("validate", RECIPE).out
    planned = tunesmith("plan", RECIPE, *MODEL_SET)
    assert planned.code == 0, planned.err
    told = [line.split() for line in planned.out.splitlines()]
    for said in (["task", "function_calling"], ["training", "rows", "320"], ["held-out", "rows", "48"]):
        assert said in told


def test_a_preview_shows_calls_as_learned_and_tools_as_not() -> None:
    number = next(at for at, each in enumerate(rows("train.jsonl"), 1) if len(calls(each)) == 1)
    name, _ = calls(rows("train.jsonl")[number - 1])[0]
    previewed = tunesmith("preview", RECIPE, "--row", number, *MODEL_SET)
    assert previewed.code == 0, previewed.err
    before, _, answer = previewed.out.partition("<|im_start|>assistant⏎\n")
    assert f'"name": "{name}"' in before and "<tools>" in before and "[" not in before.split("</tools>")[1]
    learned = re.sub(r"⏎\n", "\n", answer.split("<|im_end|>")[0])
    assert learned.startswith("[<]") and name in re.sub(r"[\[\]]", "", learned)
    assert "calls: of 368 rows 72 with none, 242 with one, 54 with several" in previewed.out


def test_a_template_that_shows_no_tools_is_refused() -> None:
    own = tunesmith("preview", RECIPE, *MODEL_SET, "--set", "model.chat_template=auto")
    assert own.code == 2
    assert "error: the model's chat template does not show tools to the model" in own.err
    assert "hint: take one that shows tools and calls: `model.chat_template: hermes`" in own.err


# runs


@pytest.mark.slow
def test_a_small_model_learns_to_call_tools(tmp_path: Path) -> None:
    settings = {
        "output.directory": tmp_path,
        "training.max_steps": 40,
        "training.evaluate_every": 1000,
        "training.checkpoints.every": 40,
        "evaluation.samples": 20,
        "evaluation.metrics": "[call_parsed, call_name, call_arguments, call_match]",
    }
    laid = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = tunesmith("train", RECIPE, *MODEL_SET, *laid)
    assert command.code == 0, command.out + command.err
    directory = tmp_path / "function-calling"
    metrics = json.loads((directory / "evaluation.json").read_text())["metrics"]
    for name, rise in RISES.items():
        assert metrics[name]["adapter"] > metrics[name]["base"] + rise, metrics
    assert json.loads((directory / "ledger.json").read_text())["calls"] == {"none": 72, "one": 242, "several": 54}
    samples = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
    # of the questions that want calls: a model that never calls has the others for nothing
    base, adapter = (
        [sample[f"{which}_scores"]["call_match"] for sample in samples if sample["calls"]]
        for which in ("base", "adapter")
    )
    assert sum(adapter) / len(adapter) > sum(base) / len(base) + 0.1, metrics
    matched = [sample for sample in samples if sample["calls"] and sample["adapter_scores"]["call_match"] == 1]
    assert matched and all(set(sample["adapter_calls"]) == {"read", "fault"} for sample in samples)
    for sample in matched:
        wanted, read = (
            sorted(call["name"] for call in found) for found in (sample["calls"], sample["adapter_calls"]["read"])
        )
        assert wanted == read and sample["adapter_calls"]["fault"] is None
    assert "<tools>" in (directory / "adapter" / "chat_template.jinja").read_text()


@pytest.fixture(scope="module")
def mixed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """A run on a file of each format, and how its command ended."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, example in EXAMPLES.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(json.loads(example)) + "\n", encoding="utf-8")
    (folder / "talk.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"
    )
    held_out = json.loads(EXAMPLES["openai"].replace("sunday", "monday").replace("Sunday", "Monday"))
    (folder / "held_out.jsonl").write_text(json.dumps(held_out) + "\n", encoding="utf-8")
    recipe = write_recipe(
        folder,
        tiny_model,
        {
            "model": {"chat_template": "hermes", "dtype": "float32"},
            "dataset": {
                "train": [f"{name}.jsonl" for name in (*EXAMPLES, "talk")],
                "evaluation": "held_out.jsonl",
                "limit": None,
            },
            "training": {"max_steps": 3},
            "evaluation": {"samples": 2, "max_new_tokens": 4, "metrics": ["loss", "call_match"]},
        },
    )
    recipe.write_text(recipe.read_text().replace("task: sft", "task: function_calling"), encoding="utf-8")
    return recipe, tunesmith("train", recipe)


@pytest.mark.slow
def test_files_of_every_format_are_one_run(mixed: tuple[Path, Command]) -> None:
    recipe, command = mixed
    assert command.code == 0, command.out + command.err
    ledger = json.loads((run_of(recipe) / "ledger.json").read_text())
    told = {Path(file["file"]).stem: file["format"] for file in ledger["files"]}
    assert told == {name: name for name in EXAMPLES} | {"talk": "openai", "held_out": "openai"}
    assert ledger["calls"] == {"none": 1, "one": 7, "several": 2}
    assert (run_of(recipe) / "adapter" / "adapter_model.safetensors").is_file()
