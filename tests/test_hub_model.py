"""A recipe that names its model by a Hub id: fetched once, trained, and found again without the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_server import HubServer
from runs import run_of, tunesmith, write_recipe

from runner import model
from runner.errors import RecipeError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(hub: HubServer, tiny_model: Path) -> str:
    """The tiny model as `ann/tiny` on a Hub of our own."""
    hub.create("ann/tiny")
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    hub.commit("ann/tiny", files, large={"model.safetensors"})
    return "ann/tiny"


def test_a_model_of_the_hub_is_fetched_and_trained(served: str, hub: HubServer, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, Path(served), {"training": {"max_steps": 1}})
    environment = hub.environment | {"HF_HOME": str(tmp_path / "cache")}
    command = tunesmith("train", recipe, environment=environment)
    assert command.code == 0, command.out + command.err
    state = json.loads((run_of(recipe) / "run.json").read_text())
    assert state["status"] == "done" and state["model"]["name"] == served
    config = json.loads((run_of(recipe) / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == served
    plan = json.loads((run_of(recipe) / "plan.json").read_text())
    assert plan["parameters"] and plan["max_length"]["value"] == 512

    offline = environment | {"HF_HUB_OFFLINE": "1"}
    again = tunesmith("train", recipe, "--set", "name=offline", environment=offline)
    assert again.code == 0, again.out + again.err


def test_a_model_that_the_hub_lacks_is_told_plainly(hub: HubServer, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, Path("ann/nothing-here"))
    command = tunesmith("train", recipe, environment=hub.environment | {"HF_HOME": str(tmp_path / "cache")})
    assert command.code == 2, command.out + command.err
    assert "the Hub has no model `ann/nothing-here`" in command.err and "Traceback" not in command.err


def test_a_hub_that_is_away_is_told_plainly(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, Path("ann/tiny"))
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    command = tunesmith("train", recipe, environment=environment)
    assert command.code == 1 and "could not be fetched" in command.err, command.out + command.err
    assert "Traceback" not in command.err


def test_a_chat_template_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="the chat template is not UTF-8 text") as told:
        model._template(tmp_path / "t.jinja")
    assert str(told.value.problems[0].place) == str(tmp_path / "t.jinja")
