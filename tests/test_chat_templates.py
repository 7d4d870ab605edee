"""The chat template that ships: named in a recipe, found in a wheel, refused where its tokens are missing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling_families import ANSWERED, ASKED, PARALLEL, SYSTEM, TOOLS, calling_tokenizer
from families import SHORT
from runs import ROOT
from small_recipe import only, write

from runner import chat_templates, model
from runner.data.examples import Chat, Message
from runner.errors import RecipeError
from runner.reading import check
from runner.text import rendering, templates


def test_a_template_is_named_and_a_file_of_that_name_is_a_path(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "hermes").write_text("")
    (tmp_path / "hermes.jinja").write_text("")

    def found(value: str) -> str:
        return check.read(path, [f"model.chat_template={value}"]).model.chat_template

    assert (found("auto"), found("hermes")) == ("auto", "hermes")
    assert found("hermes.jinja") == str(tmp_path / "hermes.jinja")
    assert found("./hermes") == str(tmp_path / "hermes")


@pytest.mark.parametrize(
    ("value", "hint"),
    [("hermse", "write `hermes`"), ("chatml", "write `auto`, `hermes`, or the path of a Jinja file")],
)
def test_a_name_that_is_none_is_told(tmp_path: Path, value: str, hint: str) -> None:
    problem = only(write(tmp_path), f"model.chat_template={value}")
    assert (problem.message, problem.hint) == (f"`{value}` does not exist", hint)


def test_every_template_that_is_named_is_there() -> None:
    assert sorted(path.stem for path in chat_templates.FOLDER.glob("*.jinja")) == sorted(chat_templates.NAMES)
    for name in chat_templates.NAMES:
        assert chat_templates.missing(name, ()) == ["<|im_start|>", "<|im_end|>"]


@pytest.mark.slow
def test_a_wheel_holds_the_templates(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "runner", "rewards", "*.toml", "*.md", "LICENSE"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir"]
    subprocess.run([*pip, str(tmp_path / "built"), str(tmp_path)], check=True, capture_output=True)
    (wheel,) = (tmp_path / "built").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"runner/chat_templates/{name}.jinja" for name in chat_templates.NAMES} <= set(names)
    assert "runner/text/calling/pythonic.py" in names


@pytest.fixture(scope="session")
def hermes(dressed: Callable[..., Any]) -> Any:
    return calling_tokenizer("hermes", dressed)


TOLD = (
    "You can call functions to help the user. These are the functions, each with a JSON schema of its parameters:\n"
    f"<tools>\n{TOOLS[0]}\n{TOOLS[1]}\n</tools>\n\n"
    "To call a function, write its name and its arguments as one JSON object:\n"
    '<tool_call>\n{"name": "the name of the function", "arguments": {"a parameter": "its value"}}\n</tool_call>\n'
    "Write one such block for each call. The results come back between <tool_response> and </tool_response>."
    "<|im_end|>\n"
)


def test_the_text_of_a_conversation_with_tools(hermes: Any) -> None:
    asked = f"<|im_start|>user\n{ASKED.content}<|im_end|>\n"
    assert templates.render(PARALLEL, hermes, "completions", use_template=True).text == (
        f"<|im_start|>system\n{TOLD}{asked}<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern", "days": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n17 °C\n</tool_response>\n"
        "<tool_response>\n12:00\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n17 °C at noon.<|im_end|>\n"
    )
    text = templates.render(ANSWERED, hermes, "completions", use_template=True).text
    assert text.startswith(f"<|im_start|>system\n{SYSTEM.content}\n\n{TOLD}{asked}")


def test_without_tools_it_writes_plain_turns(hermes: Any) -> None:
    turns = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert templates.prompt(SHORT, hermes, use_template=True).text == turns
    assert templates.render(SHORT, hermes, "completions", use_template=True).text == turns + "4<|im_end|>\n"
    empty = Chat((Message("system", ""), *SHORT.messages))
    assert templates.prompt(empty, hermes, True).text == "<|im_start|>system\n<|im_end|>\n" + turns
    only_tools = rendering.apply([Message("system", ""), ASKED], hermes, TOOLS)
    assert only_tools.startswith(f"<|im_start|>system\n{TOLD}<|im_start|>user")


def test_a_null_content_and_flat_calls_are_taken(hermes: Any) -> None:
    """Servers give them, and this template goes to servers with the adapter."""
    call = {"name": "f", "arguments": '{"a": 1}'}
    messages = [{"role": "user", "content": "U"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    text = hermes.apply_chat_template(messages, tokenize=False)
    assert text.endswith('assistant\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n')


def test_it_is_taken_by_a_model_with_its_tokens_alone(tiny_model: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    settings = check.read(write(tmp_path), [f"model.name={tiny_model}", "model.chat_template=hermes"]).model
    assert model.tokenizer(settings).chat_template == chat_templates.text("hermes")

    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "<|im_end|>": 2}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(tmp_path / "other")
    settings = check.read(write(tmp_path), ["model.name=./other", "model.chat_template=hermes"]).model
    with pytest.raises(RecipeError) as caught:
        model.tokenizer(settings)
    (problem,) = caught.value.problems
    assert problem.message == (
        f"the chat template `hermes` needs `<|im_start|>`, which the tokenizer of `{tmp_path / 'other'}` lacks"
    )
    assert problem.hint == (
        "models whose turns begin with `<|im_start|>` have them, such as Qwen and SmolLM; "
        "for others, name a template of your own: `model.chat_template: template.jinja`"
    )
