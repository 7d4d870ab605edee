"""Model cards: what the Hub reads in them, what people read in them, and that the code in them works."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_routes import card_faults
from hub_server import TOKEN, HubServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.hub import card
from runner.hub.card import Facts, Score
from runner.secrets import MASK

RECIPE = "task: sft  # the task\nmodel: {name: HuggingFaceTB/SmolLM2-135M-Instruct}\ndataset: {train: rows.jsonl}\n"
FACTS = Facts(
    name="support-lora",
    task="function_calling",
    base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    base_model_is_hub_id=True,
    revision="a" * 40,
    adapter_type="dora",
    recipe_text=RECIPE,
    datasets=("HuggingFaceH4/no_robots",),
    scores={
        "loss": Score(2.25, 1.5, 40, (-0.9, -0.6), "better"),
        "exact_match": Score(None, 0.625, 8),
        "perplexity": Score(9.0, math.inf, 40),
        "no_call_precision": Score(0.5, None, 0),
    },
    settings={"rank": 8, "learning_rate": 2e-4, "target_modules": ("q_proj", "v_proj"), "quantization": None},
    versions={"trl": "1.16.0"},
    ledger={"rows read": 100, "rows kept": 98, "learned tokens": 12345, "steps": 50},
    data={"/home/ann/secret project/rows.jsonl": "sha256:0123"},
    tool_version="0.1.0",
    repository="ann/support-lora",
)


def written(directory: Path, environment: dict[str, str] | None = None, **changes: Any) -> tuple[dict[str, Any], str]:
    """A card as the Hub takes it: its metadata, and its body."""
    card.write(directory, replace(FACTS, **changes), environment or {})
    text = (directory / "README.md").read_bytes().decode("utf-8")
    assert card_faults(text) == []
    _, metadata, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(metadata), body


def blocks(body: str, language: str) -> list[str]:
    """The code blocks of a language, read as CommonMark does: a fence ends at the next one that is as long."""
    return [match[2] for match in re.finditer(rf"^(`{{3,}}){language}\n(.*?)\n\1$", body, re.DOTALL | re.MULTILINE)]


def test_metadata_is_what_the_hub_takes(tmp_path: Path) -> None:
    metadata, _ = written(tmp_path)
    assert metadata.pop("model-index") == [
        {
            "name": "support-lora",
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": "held-out rows", "type": "HuggingFaceH4/no_robots"},
                    "metrics": [
                        {"type": "loss", "value": 1.5, "name": "loss"},
                        {"type": "exact_match", "value": 0.625, "name": "exact match"},
                    ],
                }
            ],
        }
    ]
    assert metadata == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "adapter",
        "datasets": ["HuggingFaceH4/no_robots"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tunesmith", "lora", "dora", "function-calling"],
    }


def test_what_was_not_measured_or_not_given_is_left_out(tmp_path: Path) -> None:
    metadata, body = written(tmp_path, scores={}, datasets=(), adapter_type="lora")
    assert {"model-index", "datasets", "license", "language"} & metadata.keys() == set()
    assert metadata["tags"] == ["tunesmith", "lora", "function-calling"]
    assert "## Scores" not in body
    assert written(tmp_path, license="apache-2.0")[0]["license"] == "apache-2.0"


def test_the_body_shows_the_facts(tmp_path: Path) -> None:
    _, body = written(tmp_path)
    for line in (
        "# support-lora",
        "| metric | base model | adapter | difference, 95 % interval | adapter is | rows |",
        "| `loss` | 2.25 | 1.5 | `-0.9 to -0.6` | `better` | 40 |",
        "| `exact_match` | `not measured` | 0.625 | `not told` | `not told` | 8 |",
        "| `perplexity` | 9 | inf | `not told` | `not told` | 40 |",
        "| `no_call_precision` | 0.5 | `not measured` | `not told` | `not told` | `not told` |",
        "| `learned tokens` | 12345 |",
        "| `target_modules` | `q_proj`, `v_proj` |",
        "| `learning_rate` | 0.0002 |",
        "| `quantization` | none |",
        "| `rows.jsonl` | `sha256:0123` |",
        "| `trl` | `1.16.0` |",
        "tunesmith train recipe.yaml",
    ):
        assert line in body.splitlines()
    assert blocks(body, "yaml") == [RECIPE.strip("\n")]
    assert "/home/ann" not in body


@pytest.mark.parametrize(
    ("base", "is_hub_id", "code"),
    [
        ("/home/ann/models/tiny", False, "from_pretrained('path/to/tiny', dtype"),
        ("/home/ann/models/tiny.gguf", False, "from_pretrained('path/to/its/directory', gguf_file='tiny.gguf', dtype"),
        ("/home/ann/models/tiny", True, "from_pretrained('path/to/tiny', dtype"),
        ("../models/tiny", True, "from_pretrained('path/to/tiny', dtype"),
    ],
)
def test_a_local_base_model_is_no_metadata(tmp_path: Path, base: str, is_hub_id: bool, code: str) -> None:
    metadata, body = written(tmp_path, base_model=base, base_model_is_hub_id=is_hub_id)
    assert {"base_model", "base_model_relation"} & metadata.keys() == set()
    assert code in body
    assert "The base model is a local copy" in body
    assert "ann/models" not in body


def test_a_model_all_of_whose_weights_were_trained_is_loaded_by_itself(tmp_path: Path) -> None:
    metadata, body = written(tmp_path, adapter_type="full")
    assert (metadata["base_model_relation"], metadata["library_name"]) == ("finetune", "transformers")
    assert "lora" not in metadata["tags"]
    assert f"`{FACTS.base_model}`, all of whose weights were trained on the task" in body
    (code,) = blocks(body, "python")
    compile(code, "card", "exec")
    assert "peft" not in code and "AutoModelForCausalLM.from_pretrained(place" in code and FACTS.base_model not in code


def test_new_tokens_are_made_room_for(tmp_path: Path) -> None:
    (code,) = blocks(written(tmp_path, tokens=2)[1], "python")
    compile(code, "card", "exec")
    lines = code.splitlines()
    (resize,) = (number for number, line in enumerate(lines) if "resize_token_embeddings" in line)
    assert lines[resize - 1].startswith("base = ") and lines[resize + 1].startswith("model = PeftModel")


def test_our_card_replaces_the_one_of_peft(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nbase_model: /home/ann/model\n---\n# Model Card for Model ID\n")
    _, body = written(tmp_path)
    assert "Model Card for Model ID" not in body


def test_no_recipe_can_end_its_block_or_bring_a_secret(tmp_path: Path) -> None:
    recipe = f"# ```\n---\n```` ```yaml\n  token: {TOKEN}\n  key: 'wandb-key-12345'\n``````\nend: \t|\r\n  <b>\u202e\n"
    environment = {"WANDB_API_KEY": "wandb-key-12345"}
    _, body = written(tmp_path, environment, recipe_text=recipe, settings={"prompt": f"a | b\n{TOKEN}"})
    block = recipe.replace("\r\n", "\n").replace(TOKEN, MASK).replace("wandb-key-12345", MASK).strip("\n")
    assert blocks(body, "yaml") == [block]
    assert f"| `prompt` | `a \\| b {MASK}` |" in body
    assert TOKEN not in body and "wandb-key" not in body


def test_secrets_of_this_process_are_masked_without_being_asked(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from test_card import FACTS; from runner.hub import card\n"
        "from dataclasses import replace\n"
        "card.write(Path(sys.argv[1]), replace(FACTS, name='my-secret-name', license='my-secret-name'))"
    )
    root = str(Path(__file__).parent)
    environment = {**os.environ, "MY_API_KEY": "my-secret-name", "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=True)
    text = (tmp_path / "README.md").read_text()
    assert "my-secret-name" not in text
    assert card_faults(text) == []


UGLY = st.text(st.characters(codec=None, exclude_categories=()), max_size=40) | st.sampled_from(
    ["---", "```", "`", "|", "\\", "[x](y)", "<script>", "{{ x }}", "{% if %}", "a: b", "null", "\n---\n", "\r", "\x85"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=UGLY, base=UGLY, recipe=UGLY, setting=UGLY, hub_id=st.booleans(), data=UGLY, score=st.floats())
def test_ugly_facts_make_a_card_that_the_hub_takes(
    tmp_path: Path, name: str, base: str, recipe: str, setting: str, hub_id: bool, data: str, score: float
) -> None:
    metadata, body = written(
        tmp_path,
        name=name,
        base_model=base,
        base_model_is_hub_id=hub_id,
        revision=setting,
        recipe_text=recipe,
        datasets=(data,),
        scores={"loss": Score(None, score)},
        settings={setting: setting, "all": [setting, 1.5, True]},
        data={data: name},
    )
    assert metadata["library_name"] == "peft"
    assert ("model-index" in metadata) == math.isfinite(score)
    assert len(blocks(body, "yaml")) == 1
    (code,) = blocks(body, "python")
    compile(code, "card", "exec")
    rows = [line for line in body.split("## Training")[1].split("## Make it again")[0].splitlines() if line]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)


WORDS = st.text("abcXYZ059_/+=\"'\\é -", min_size=8, max_size=20).filter(lambda word: len(word.strip()) >= 8)


SNIPPET_WORKS = """
import os, re, sys
from pathlib import Path

import torch
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dataclasses import replace
from runner import recipe
from runner.hub import card, repository
from test_card import FACTS, blocks

work = Path(sys.argv[1])
vocabulary = {word: number for number, word in enumerate(["<end>", "Hello", "user", "assistant", "?"])}
raw = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>", unk_token="?")
tokenizer.chat_template = "{% for m in messages %}{{ m.role + ' ' + m.content + ' ' }}{% endfor %}assistant"
shape = LlamaConfig(
    vocab_size=5, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
    bos_token_id=None, eos_token_id=0, pad_token_id=0,
)
model = LlamaForCausalLM(shape)
model.save_pretrained(work / "base")
tokenizer.save_pretrained(work / "base")
api = HfApi()
api.create_repo("ann/base")
base = api.upload_folder(repo_id="ann/base", folder_path=work / "base").oid

adapter = work / "run/adapter"
adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2, task_type="CAUSAL_LM"))
adapted.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
facts = replace(FACTS, base_model="ann/base", revision=base, repository="ann/adapter", branch="next", chat=True)
card.write(adapter, facts)
repository.push(work / "run", recipe.Hub("ann/adapter", True, "next"), os.environ, check_status=False)
(code,) = blocks((adapter / "README.md").read_text(), "python")
exec(code, {})
print("the snippet ran")
"""


def test_the_code_in_the_card_loads_the_pushed_adapter(hub_server: HubServer, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        **hub_server.environment,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", SNIPPET_WORKS, tmp_path], env=environment, capture_output=True, text=True
    )
    assert result.stdout.endswith("the snippet ran\n"), result.stderr
    assert hub_server.count("GET /ann/adapter/resolve/next/adapter_model.safetensors") >= 1
    assert hub_server.count("GET /ann/base/resolve/.*/model.safetensors") >= 1
