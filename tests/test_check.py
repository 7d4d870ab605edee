"""A recipe is read whole, every fault in it is told at once, and each sentence is the one in its golden file.

`WRITE_GOLDEN=1 pytest tests/test_check.py` writes the golden files anew; read what changed before it is kept.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recipe import SMALLEST, faults, only, write

from runner import errors, recipe
from runner.reading import check, keys, schema, source

BROKEN = Path(__file__).parent / "broken"
RECIPES = sorted(BROKEN.glob("*.yaml"))


def test_there_are_broken_recipes_and_each_golden_file_has_its_own() -> None:
    assert len(RECIPES) >= 40
    assert {file.stem for file in BROKEN.glob("*.txt")} == {file.stem for file in RECIPES}


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_golden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    with pytest.raises(errors.RecipeError) as caught:
        check.read(file.name)
    report = errors.report(caught.value) + "\n"
    golden = file.with_suffix(".txt")
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(report, encoding="utf-8")
    assert report == golden.read_text(encoding="utf-8")


def test_the_smallest_recipe_gets_every_default(tmp_path: Path) -> None:
    read = check.read(write(tmp_path))
    assert read.name == "my-recipe"
    assert read.file == str(tmp_path / "my recipe.yaml")
    assert read.model.name == "owner/model"
    assert read.dataset.train == (recipe.Source(str(tmp_path / "rows.jsonl"), 1.0, None, (), "auto"),)
    assert (
        read.dataset.max_length is None and read.dataset.evaluation == () and read.dataset.evaluation_fraction is None
    )
    assert (read.adapter.rank, read.adapter.alpha, read.adapter.target_modules) == (16, 32.0, ("all-linear",))
    assert (read.training.epochs, read.training.max_steps, read.training.learning_rate) == (3.0, None, 2e-4)
    assert read.training.checkpoints == recipe.Checkpoints(None, 2, None)
    assert read.deepspeed == recipe.DeepSpeed(None, "none", None, None)
    assert read.output == recipe.Output(str(tmp_path / "outputs"), None)


def test_defaults_that_follow_from_other_keys(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert check.read(path, ["adapter.rank=4"]).adapter.alpha == 8.0
    training = check.read(path, ["training.max_steps=7"]).training
    assert (training.epochs, training.max_steps) == (None, 7)
    stopping = check.read(path, ["training.early_stopping={}"]).training.early_stopping
    assert stopping == recipe.EarlyStopping("loss", 3, 0.0)


def test_a_source_takes_what_it_does_not_say_from_the_dataset(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "task: sft\nmodel: {name: owner/model}\ndataset:\n  format: messages\n  columns: {messages: chat}\n"
        "  train:\n    - rows.jsonl\n    - {path: owner/rows, weight: 2, split: dev, format: auto, columns: {}}\n"
        "  evaluation: rows.jsonl\n",
    )
    rows = str(tmp_path / "rows.jsonl")
    dataset = check.read(path).dataset
    assert dataset.train == (
        recipe.Source(rows, 1.0, None, (("messages", "chat"),), "messages"),
        recipe.Source("owner/rows", 2.0, "dev", (), "auto"),
    )
    assert dataset.evaluation == (recipe.Source(rows, 1.0, None, (("messages", "chat"),), "messages"),)


def test_whole_numbers_become_real_ones_where_the_recipe_has_them(tmp_path: Path) -> None:
    overrides = ["training.epochs=2", "training.learning_rate=1", "adapter.alpha=8", "training.checkpoints.minutes=5"]
    read = check.read(write(tmp_path), overrides)
    values = (read.training.epochs, read.training.learning_rate, read.adapter.alpha, read.training.checkpoints.minutes)
    assert [type(value) for value in values] == [float] * 4


def test_standard_input(tmp_path: Path) -> None:
    write(tmp_path)
    program = "from runner.reading import check; read = check.read('-'); print(read.name, read.dataset.train[0].path)"
    done = subprocess.run(
        [sys.executable, "-c", program], input=SMALLEST, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == ["recipe", str(tmp_path / "rows.jsonl")]


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.yaml", "a"), ("a b!.v2.yaml", "a-b-.v2"), ("_x.yaml", "x"), ("日本.yaml", "recipe"), ("x" * 120, "x" * 96)],
)
def test_the_name_of_a_run_comes_from_the_file(tmp_path: Path, file: str, name: str) -> None:
    assert check.read(write(tmp_path, name=file)).name == name


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "re[ci]pes"
    (folder / "tiny").mkdir(parents=True)
    (folder / "ad").mkdir()
    (folder / "ad" / "adapter_config.json").write_text("{}")
    (folder / "chat.jinja").write_text("")
    (folder / "ds.json").write_text('{"bf16": {"enabled": true}}')
    (folder / "w.GGUF").write_text("")
    path = write(folder)
    assert check.read(path, ["model.name=tiny"]).model.name == str(folder / "tiny")
    assert check.read(path, ["model.name=./tiny/../w.GGUF"]).model.name == str(folder / "w.GGUF")
    assert check.read(path, ["model.chat_template=chat.jinja"]).model.chat_template == str(folder / "chat.jinja")
    assert check.read(path, ["adapter.continue_from=ad"]).adapter.continue_from == str(folder / "ad")
    assert check.read(path, ["adapter.continue_from=o/a"]).adapter.continue_from == "o/a"
    assert check.read(path, ["deepspeed.config=ds.json"]).deepspeed.config == str(folder / "ds.json")
    assert check.read(path, ["output.directory=../out"]).output.directory == str(tmp_path / "out")
    assert check.read(path, ["output.directory=/no/such/place"]).output.directory == "/no/such/place"
    assert check.read(path, ["dataset.train=ad"]).dataset.train[0].path == str(folder / "ad")
    pattern = check.read(path, ["dataset.train=ro*.jsonl"]).dataset.train[0].path
    assert glob.glob(pattern) == [str(folder / "rows.jsonl")]


@pytest.mark.parametrize("name", ["gpt2", "owner/name", "Qwen/Qwen3-0.6B", "a_b/c.d"])
def test_hub_ids(tmp_path: Path, name: str) -> None:
    assert check.read(write(tmp_path), [f"model.name={name}"]).model.name == name


@pytest.mark.parametrize(
    "name", ["a/b/c", "-a/b", "a/b-", "a--b", "a/b..c", "a b", "a/b.git", "x" * 97, "https://hub.co/a"]
)
def test_what_is_no_hub_id(tmp_path: Path, name: str) -> None:
    problem = only(write(tmp_path), f"model.name={name}")
    assert problem.message.endswith("is neither a directory nor a Hub id")
    assert problem.hint == "a Hub id looks like `owner/name`"


def test_a_model_on_this_disk_has_a_name_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    path = write(tmp_path)
    assert check.read(path, ["model.name=tiny", "model.hub_id=owner/tiny"]).model.hub_id == "owner/tiny"
    problem = only(path, "model.name=owner/name", "model.hub_id=owner/tiny")
    assert problem.message == "`model.hub_id` is for models on this disk, and `model.name` is a Hub id itself"
    assert only(path, "model.name=./none", "model.hub_id=owner/tiny").message == "`./none` does not exist"
    assert only(path, "model.name=tiny", "model.hub_id=/models/tiny").message.startswith("`model.hub_id` must be")


def test_a_pipe_in_the_place_of_a_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    path = write(tmp_path)
    for key in ("dataset.train", "deepspeed.config", "model.chat_template"):
        assert only(path, f"{key}=pipe.jsonl").message == "`pipe.jsonl` is a pipe or device, and a file is needed"


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5000 + "}", "\0", "[]"]
)
def test_deepspeed_settings_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "ds.json").write_text(text)
    assert only(write(tmp_path), "deepspeed.config=ds.json").message


def test_very_many_faults_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + "".join(f"key{number}: 1\n" for number in range(500)))
    with pytest.raises(errors.RecipeError) as caught:
        check.read(path)
    assert (len(caught.value.problems), caught.value.total) == (50, 500)
    assert errors.report(caught.value).endswith("Found 500 problems; the first 50 are shown")


def test_rules_let_sound_settings_pass(tmp_path: Path) -> None:
    path = write(tmp_path)
    for overrides in (
        ["training.batch_size=12", "training.micro_batch_size=3", "deepspeed.processes=4"],
        ["deepspeed.zero_stage=3", "deepspeed.offload=parameters"],
        ["deepspeed.offload=parameters"],
        ["adapter.type=qlora"],
        ["adapter.type=qlora", "model.quantization=nf4", "deepspeed.zero_stage=2"],
        ["adapter.type=dora", "model.quantization=int8"],
        ["evaluation.metrics=[loss]", "evaluation.samples=0"],
        ["training.scheduler=constant"],
        ["dataset.train=owner/rows", "dataset.split=train[:10]"],
        ["adapter.target_modules=[all-linear]"],
    ):
        check.read(path, overrides)


def test_every_recipe_of_this_repository_is_sound() -> None:
    recipes = sorted((BROKEN.parents[1] / "recipes").rglob("*.yaml"))
    assert recipes
    for file in recipes:
        if model_is_here(file):
            check.read(str(file))


def model_is_here(file: Path) -> bool:
    """The demo's model is fetched by `make demo`; without it, its recipe cannot be sound."""
    names = [line.split("#")[0].partition("name:")[2].strip() for line in file.read_text().splitlines()]
    return all((file.parent / name).exists() for name in names if name.endswith(".gguf"))


def test_nothing_heavy_is_imported() -> None:
    program = "import sys; from runner.reading import check; check.read(sys.argv[1]); print(*sys.modules)"
    file = BROKEN.parents[1] / "recipes" / "sft_instruction.yaml"
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "deepspeed", "accelerate", "huggingface_hub", "numpy"}
    assert not heavy & set(done.stdout.split())
    assert "cerberus" in done.stdout.split()


KEY_NAMES = sorted({path[-1] for path, _ in schema.walk()} | {"path", "weight", "odd"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "rows.jsonl"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEY_NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(keys.KEYS)), VALUES, max_size=8))
def test_any_values_are_a_recipe_or_a_recipe_error(values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, allow_unicode=True)
    try:
        written = source.recipe(text, "recipe.yaml")
        check.settle(written, str(BROKEN / "recipe.yaml"))
    except errors.RecipeError as error:
        for style in ("text", "json", "github"):
            assert errors.report(error, style).encode()


def test_unknown_keys_are_told_where_the_task_is_missing(tmp_path: Path) -> None:
    found = faults(write(tmp_path, "base_model: x/y\nlora_r: 8\n"))
    assert [problem.message for problem in found if "unknown" in problem.message] == [
        "unknown key `base_model`", "unknown key `lora_r`",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model=owner/model", "write `{name: owner/model}`"),
        ("adapter=dora", "write `{type: dora}`"),
        ("output.hub=me/x", "write `{repository: me/x}`"),
        ("dataset.evaluation='0.1'", "a share of the rows is a number: write `0.1`"),
        ("dataset.evaluation=10%", "a share of the rows is a number: write `0.1`"),
        ("dataset.train=rows.jsonl/x", "`rows.jsonl` is a file, not a directory"),
        ("dataset.train[0]=rows.jsonl", "an item of a list is named by its number alone: `dataset.train.0`"),
        ("training.seed=٣", None),
    ],
)
def test_the_hint_says_what_would_do(tmp_path: Path, override: str, hint: str | None) -> None:
    assert only(write(tmp_path), override).hint == hint


def test_a_file_that_is_there_is_no_hub_id(tmp_path: Path) -> None:
    path = write(tmp_path)
    message = "`rows.jsonl` is a file, and a model is a directory, a `.gguf` file or a Hub id"
    assert only(path, "model.name=rows.jsonl").message == message


def test_a_link_to_nothing_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("gone.jsonl")
    problem = only(write(tmp_path), "dataset.train=a.jsonl")
    assert problem.message == "`a.jsonl` is a link to something that does not exist"
    assert problem.hint == "it leads to `gone.jsonl`"


def test_a_weight_has_an_end(tmp_path: Path) -> None:
    problem = only(write(tmp_path), "dataset.train=[{path: rows.jsonl, weight: 1e9}]")
    assert "must be greater than 0 and at most 1000" in problem.message


def test_what_follows_the_end_of_the_document_is_told(tmp_path: Path) -> None:
    problem = only(write(tmp_path, SMALLEST + "...\nmore: 1\n"))
    assert problem.message == "the document has ended above, and a key follows"
    assert problem.place is not None and problem.place.line == 5
