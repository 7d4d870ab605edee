"""The keys: no key is accepted and ignored, each default is sound, and what is made from them is up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from runner import errors
from runner.reading import (
    check,
    keys,
    kinds,
    names,
    names_export,
    schema,
    schema_export,
    sentences,
    source,
    training_keys,
)

RECIPES = Path(__file__).parents[1] / "recipes"
BROKEN = Path(__file__).parent / "broken"
FILES = ("train.jsonl", "other.jsonl", "third.jsonl", "chat.jinja", "deepspeed.json")

BASE = """
task: sft
model: {name: owner/model}
dataset: {train: [{path: train.jsonl}], evaluation: other.jsonl}
training: {early_stopping: {}}
output: {hub: {repository: owner/name}}
"""

GRPO = """
task: grpo
model: {name: owner/model}
dataset: {train: train.jsonl}
rewards: [{use: valid_json}]
"""

# Keys whose other value has to be a path that is there, or fit what stands beside it.
OTHER_VALUES: dict[tuple[str, ...], Any] = {
    ("training", "early_stopping", "metric"): "perplexity",
    ("task",): None,  # another task needs other sections
    ("rewards",): [{"use": "tag_format"}],
    ("grpo", "num_generations"): 8,
    ("grpo", "importance_sampling_level"): None,  # goes with few losses, and has a test of its own
    ("grpo", "loss_type"): "bnpo",
    ("grpo", "delta"): 2.0,
    ("version",): None,  # there is one version
    ("model", "name"): "owner/other",
    ("model", "hub_id"): None,  # goes with a model on disk, and has a test of its own
    ("model", "chat_template"): "chat.jinja",
    ("model", "add_tokens"): None,  # goes with trained embeddings, and has a test of its own
    ("training", "embedding_learning_rate"): None,  # likewise
    ("dataset", "train"): "third.jsonl",
    ("dataset", "evaluation"): 0.5,
    ("dataset", "max_length"): 64,
    ("dataset", "templates", "prompt"): "{{ other }}",
    ("dataset", "templates", "completion"): "{{ other }}",
    ("dataset", "templates", "text"): "{{ other }}",
    ("adapter", "target_modules"): "attention",
    ("adapter", "continue_from"): "owner/adapter",
    ("deepspeed", "config"): "deepspeed.json",
    ("output", "hub", "repository"): "owner/other",
    ("evaluation", "metrics"): ["loss"],
    ("evaluation", "rewards"): [{"use": "tag_format"}],
    ("evaluation", "json_schema"): None,  # goes with one metric, and has a test of its own
    ("training", "scheduler_settings", "min_lr"): 1e-5,
}


def leaves() -> list[tuple[tuple[str, ...], kinds.Definition]]:
    return [(path, key) for path, key in schema.walk() if not schema.block(key)]


def other_value(path: tuple[str, ...], key: kinds.Definition) -> Any:
    """A value that the key allows, and that is not its default."""
    if path in OTHER_VALUES:
        return OTHER_VALUES[path]
    if "allowed" in key:
        return next(value for value in key["allowed"] if value != key.get("default"))
    kind = schema.types(key)[0]
    if kind == "boolean":
        return not key["default"] if isinstance(key.get("default"), bool) else True
    if kind == "integer":
        default = key.get("default")
        return default + 1 if isinstance(default, int) else key["min"] + 1
    return 0.75 if kind == "number" else "other"


def read(folder: Path, overrides: list[str], base: str = BASE) -> Any:
    for name in FILES:
        (folder / name).write_text("{}")
    (folder / "recipe.yaml").write_text(base)
    return check.read(str(folder / "recipe.yaml"), overrides)


@pytest.mark.parametrize(
    ("path", "key"), leaves(), ids=lambda value: ".".join(value) if isinstance(value, tuple) else ""
)
def test_no_key_is_accepted_and_ignored(path: tuple[str, ...], key: kinds.Definition, tmp_path: Path) -> None:
    value = other_value(path, key)
    base = GRPO if path[0] in keys.SECTION_TASKS else BASE
    if value is None:
        return
    overrides = ["dataset.train=owner/rows"] if path == ("dataset", "split") else []
    if path[:-1] == ("training", "scheduler_settings"):
        taker = next(scheduler for scheduler, settings in names.SCHEDULERS.items() if path[-1] in settings)
        overrides = [f"training.scheduler={taker}"]
    before = read(tmp_path, overrides, base)
    after = read(tmp_path, [*overrides, f"{'.'.join(path)}={json.dumps(value)}"], base)
    assert before != after


@pytest.mark.parametrize("name", keys.REWARD["schema"])
def test_no_key_of_a_reward_is_ignored(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def mine(prompt, completion, example, *, least=1): ...\ndef other(completions): ...\n"
    )
    (tmp_path / "packages.txt").write_text("pandas\n")
    other: dict[str, Any] = {
        "use": "valid_json", "file": "mine.py", "function": "other", "name": "paid", "weight": 2, "timeout": 3,
        "on_error": "skip", "memory": 1, "options": {"least": 2}, "strings": True, "secrets": ["KEY"],
        "requirements": "packages.txt", "reload": False,
    }  # fmt: skip
    entry: dict[str, Any] = (
        {"use": "tag_format"} if name in ("use", "file") else {"file": "mine.py", "function": "mine"}
    )
    changed = {key: value for key, value in entry.items() if name not in ("use", "file")} | {name: other[name]}
    if name == "file":
        changed["function"] = "mine"
    before, after = (read(tmp_path, [f"rewards={json.dumps([each])}"], GRPO) for each in (entry, changed))
    assert before != after


@pytest.mark.parametrize("name", keys.SOURCE["schema"])
def test_no_key_of_a_source_is_ignored(name: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "path": "third.jsonl",
        "weight": 0.5,
        "split": "dev",
        "columns": "{prompt: q}",
        "format": "messages",
    }
    values["templates"] = "{prompt: '{{ q }}'}"
    overrides = ["dataset.train=[{path: owner/rows}]"]
    override = f"dataset.train.0.{name}={values[name]}"
    assert read(tmp_path, overrides) != read(tmp_path, [*overrides, override])


def test_defaults_break_no_rule() -> None:
    values = schema.normalized({"task": "sft", "model": {"name": "a/b"}, "dataset": {"train": "a/b"}})
    assert schema.failures(values) == []


def test_every_key_is_explained_in_a_sentence() -> None:
    definitions = [key for _, key in schema.walk()] + list(keys.SOURCE["schema"].values())
    assert len(definitions) > 70
    for key in definitions:
        assert re.fullmatch(r"(`auto`|[A-Z]).*[^.]\.", key["meta"]["help"]), key["meta"]["help"]


def test_other_names_lead_to_keys_that_are_there() -> None:
    known = {".".join(path) for path, _ in schema.walk()}
    assert set(sentences.OTHER_NAMES.values()) <= known
    assert not set(sentences.OTHER_NAMES) & known


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], {}, float("nan"), 10**400])
def test_a_whole_number_is_only_that(value: Any) -> None:
    assert broken({"training": {"max_steps": value, "log_every": value}}, ("training", "log_every"))


@pytest.mark.parametrize("value", [True, "1", None, [1], {}, float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_is_finite(value: Any) -> None:
    assert broken({"training": {"weight_decay": value}}, ("training", "weight_decay"))


@pytest.mark.parametrize("value", [1, 0, "true", "yes", None, []])
def test_a_switch_is_only_true_or_false(value: Any) -> None:
    assert broken({"dataset": {"shuffle": value}}, ("dataset", "shuffle"))


@pytest.mark.parametrize(
    ("repository", "sound"),
    [
        ("a/b", True),
        ("a_b/c.d-e", True),
        ("x" * 96 + "/" + "y" * 96, True),
        ("x" * 97 + "/y", False),
        ("a", False),
        ("a/b/c", False),
        ("a/b\n", False),
        ("a--b/c", False),
        ("a/b..c", False),
        ("-a/b", False),
        ("a/b.", False),
        ("a/b.git", False),
        ("a/é", False),
    ],
)
def test_repositories(repository: str, sound: bool) -> None:
    values = {"output": {"hub": {"repository": repository}}}
    assert broken(values, ("output", "hub", "repository")) is not sound


@pytest.mark.parametrize("name", ["..", ".a", "-a", "a/b", "a b", "", "a\n", "x" * 97, "é"])
def test_names_that_are_no_directory(name: str) -> None:
    assert broken({"name": name}, ("name",))


def broken(values: dict[str, Any], path: tuple[str, ...]) -> bool:
    return any(failure.path == path for failure in schema.failures(values))


def test_the_names_are_those_of_the_installed_transformers() -> None:
    assert names_export.text() == names_export.FILE.read_text(encoding="utf-8")


def test_every_setting_of_a_scheduler_is_a_key_and_every_key_is_a_setting() -> None:
    taken = {setting for settings in names.SCHEDULERS.values() for setting in settings}
    assert taken == set(training_keys.SCHEDULER_SETTINGS)


def test_the_committed_json_schema_is_up_to_date() -> None:
    assert schema_export.FILE.read_text(encoding="utf-8") == schema_export.text()


def test_the_json_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schema_export.json_schema())


def test_every_recipe_fits_the_json_schema() -> None:
    validator = jsonschema.Draft7Validator(schema_export.json_schema())
    recipes = sorted(RECIPES.rglob("*.yaml"))
    assert recipes
    for file in recipes:
        validator.validate(source.read(str(file)).values)
        first = file.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=./schema.json", file


def test_the_json_schema_has_every_key_and_default() -> None:
    for path, key in schema.walk():
        found: Any = schema_export.json_schema()
        for part in path:
            forms = [found, *found.get("anyOf", ())]
            found = next(form["properties"][part] for form in forms if "properties" in form)
        assert found["description"] == key["meta"]["help"]
        assert found.get("default") == key.get("default")


def broken_values() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(BROKEN.glob("*.yaml")):
        try:
            yield file.stem, source.read(str(file)).values
        except errors.RecipeError:
            continue


def test_the_json_schema_refuses_what_the_keys_refuse() -> None:
    validator = jsonschema.Draft7Validator(schema_export.json_schema())
    seen = {True: 0, False: 0}
    for name, values in broken_values():
        sound = not schema.failures(values)
        # JSON takes 16.0 for a whole number; YAML's infinities are in no range, and so in none of JSON's
        assert validator.is_valid(values) is sound, name
        seen[sound] += 1
    assert min(seen.values()) >= 5


def test_yaml_of_the_json_schema_can_be_read_by_editors() -> None:
    assert yaml.safe_load(schema_export.text()) == schema_export.json_schema()
