"""Model cards: what the Hub reads in them, what people read in them, and that the code in them works."""

import json
import math
import os
import re
import shlex
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
from small_model import MODEL

from runner import recipe
from runner.hub import card, licences, result_card
from runner.hub.facts import Facts, Score, Source
from runner.hub.licences import Licence
from runner.reading import check
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
    overrides=("training.seed=7", "dataset.train=/home/ann/other rows.jsonl"),
    datasets=("HuggingFaceH4/no_robots",),
    scores={
        "loss": Score(2.25, 1.5, 40, (-0.9, -0.6), "better", (2.0, 2.5), (1.25, 1.75)),
        "exact_match": Score(None, 0.625, 8),
        "perplexity": Score(9.0, math.inf, 40),
        "no_call_precision": Score(0.5, None, 0),
    },
    settings={"rank": 8, "learning_rate": 2e-4, "target_modules": ("q_proj", "v_proj"), "quantization": None},
    versions={"trl": "1.16.0"},
    ledger={"training rows": 98, "learned tokens": 12345},
    tool_version="0.1.0",
    sources=(Source("/home/ann/secret project/rows.jsonl", "training", 100, 98, "0123", Licence()),),
    repository="ann/support-lora",
    rank=8,
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
        "| metric | base model | this model | difference, 95 % interval | this model is | rows |",
        "| loss | 2.25 (2 to 2.5) | 1.5 (1.25 to 1.75) | -0.9 to -0.6 | better | 40 |",
        "| exact match | not measured | 0.625 | not told | not told | 8 |",
        "| perplexity | 9 | inf | not told | not told | 40 |",
        "| precision of not calling | 0.5 | not measured | not told | not told | not told |",
        "| `rows.jsonl` | training | 100 | 98 | `0123` |",
        "| `rows.jsonl` | data | unknown | nothing on the machine that trained it |",
        "| `learned tokens` | 12345 |",
        "| `target_modules` | `q_proj`, `v_proj` |",
        "| `learning_rate` | 0.0002 |",
        "| `quantization` | none |",
        "| `trl` | `1.16.0` |",
    ):
        assert line in body.splitlines()
    assert blocks(body, "yaml") == [RECIPE.strip("\n")]
    assert "/home/ann" not in body
    assert shlex.split(blocks(body, "sh")[-1].replace("\\\n", " ")) == [
        "tunesmith", "train", "recipe.yaml", "--set", "training.seed=7", "--set", "dataset.train=other rows.jsonl",
    ]  # fmt: skip


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
    code, _ = blocks(written(tmp_path, tokens=2)[1], "python")
    compile(code, "card", "exec")
    lines = code.splitlines()
    (resize,) = (number for number, line in enumerate(lines) if "resize_token_embeddings" in line)
    assert lines[resize - 1].startswith("base = ") and lines[resize + 1].startswith("model = PeftModel")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "since it is DoRA."),
        ({"adapter_type": "lora", "tokens": 2, "embeddings": True},
         "since it holds trained embeddings (`modules_to_save`) and it has 2 tokens of its own."),
        ({"adapter_type": "rslora", "rank": 600}, "since its rank of 600 is above 512."),
    ],
)  # fmt: skip
def test_what_vllm_refuses_is_merged_first(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    body = written(tmp_path, **changes)[1]
    assert said in body
    assert "model.merge_and_unload()" in blocks(body, "python")[1]
    assert blocks(body, "sh")[0] == "vllm serve ./merged --served-model-name support-lora"
    assert "--enable-lora" not in body


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        (
            {"rank": 20},
            [f"vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --revision {'a' * 40} \\",
             "    --enable-lora --max-lora-rank 32 --lora-modules support-lora=ann/support-lora"],
        ),
        (
            {"revision": None, "own_template": True, "branch": "next", "calls": "hermes"},
            ["hf download ann/support-lora --revision next --local-dir ./support-lora",
             "vllm serve HuggingFaceTB/SmolLM2-135M-Instruct \\",
             "    --enable-lora --max-lora-rank 8 --lora-modules support-lora=./support-lora \\",
             "    --chat-template ./support-lora/chat_template.jinja \\",
             "    --enable-auto-tool-choice --tool-call-parser hermes"],
        ),
        (
            {"base_model": "/home/ann/tiny.gguf", "base_model_is_hub_id": False, "repository": None},
            ["vllm serve path/to/the/base-model \\",
             "    --enable-lora --max-lora-rank 8 --lora-modules support-lora=path/to/this/directory"],
        ),
        ({"adapter_type": "full", "tokens": 2}, ["vllm serve ann/support-lora --served-model-name support-lora"]),
    ],
)  # fmt: skip
def test_vllm_serves_it_by_these_commands(tmp_path: Path, changes: dict[str, Any], commands: list[str]) -> None:
    body = written(tmp_path, **{"adapter_type": "lora", **changes})[1]
    serve, ask, _ = blocks(body, "sh")
    assert serve.splitlines() == commands
    assert ask.splitlines()[0].startswith("curl http://localhost:8000/v1/completions")
    if "base_model" in changes:
        assert "vLLM needs the base model as safetensors" in body and "pip install transformers torch peft gguf" in body


@pytest.mark.parametrize("name", ["a b", "it's", 'x"y', "$(touch x)", "a\nb"])
def test_no_name_is_more_than_a_word_of_a_command(tmp_path: Path, name: str) -> None:
    for changes in ({"adapter_type": "lora", "branch": name, "chat": True}, {"adapter_type": "full"}, {}):
        for text in blocks(written(tmp_path, name=name, repository=name, **changes)[1], "sh")[:-1]:
            words = shlex.split(text.replace("\\\n", " "))
            asked = [json.loads(word)["model"] for word in words if word.startswith("{")]
            assert asked == [name] or any(name in word for word in words)
            assert not any("touch" in word and name not in word for word in words)


def test_files_and_hub_ids_are_told_apart_wherever_the_run_was_started(here: Path) -> None:
    settings = check.bare("sft", "owner/model").dataset
    source = recipe.Source("", 1.0, None, (), "auto")
    Path("data").mkdir()
    Path("data/README.md").write_text(CARD.format("mit"))
    ledger = {
        "files": [{"file": name, "read": 3, "kept": 2} for name in ("data/train.jsonl", "data/e1.jsonl", "ann/rows")]
    }
    prepared = {"data": {"data/train.jsonl": "ab", "ann/rows": "cd"}, "evaluation": {"rows": 2}}
    train = (replace(source, path=str(here / "data/train.jsonl")), replace(source, path="ann/rows"))
    apart = replace(settings, train=train, evaluation=(replace(source, path=str(here / "data/e*.jsonl")),))
    found = list(result_card._sources(apart, ledger, prepared))
    assert [(each.name, each.use, each.digest, each.licence.name) for each in found] == [
        (str(here / "data/train.jsonl"), "training", "ab", "mit"),
        (str(here / "data/e1.jsonl"), "scores", None, "mit"),
        ("ann/rows", "training", "cd", None),
    ]
    share = list(result_card._sources(replace(settings, train=train, evaluation=()), ledger, prepared))
    assert {each.use for each in share} == {"training, and a share for scores"}


def test_of_many_files_few_are_listed(tmp_path: Path) -> None:
    sources = tuple(Source(f"/data/{number}.txt", "training", 1, 1, None, Licence()) for number in range(500))
    body = written(tmp_path, sources=sources)[1]
    assert "480 more files are not listed." in body and body.count("| data | unknown |") == 20


def test_limits_are_those_that_are_known(tmp_path: Path) -> None:
    scores = {
        "loss": Score(2.0, 3.0, 9, (0.5, 1.5), "worse"),
        "exact_match": Score(0.5, 0.5, 9, (-1, 1), "within noise"),
    }
    body = written(tmp_path, scores=scores, overlap=3, longest=93, quantization="nf4")[1]
    limits = body.split("## Limits")[1].split("##")[0]
    for said in (
        "worse than its base model in loss", "cannot be told from its base model, by these rows, in exact match",
        "3 held-out rows were trained on as well", "has 93 tokens", "`nf4`", "of the revision that is named here",
    ):  # fmt: skip
        assert said in limits, said
    assert "worse in loss; within noise of it in exact match" in body.split("##")[0]
    bare = written(tmp_path, scores={}, revision=None)[1].split("## Limits")[1].split("##")[0]
    assert "It was not scored" in bare and "overlap" not in bare and "tokens" not in bare


CARD = "---\nlicense: {}\n---\n# a model\n"


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": CARD.format("apache-2.0")}, Licence("apache-2.0", None, "its card, `README.md`")),
        (
            {"README.md": CARD.format("other\nlicense_name: llama3\nlicense_link: https://a.b/c")},
            Licence("llama3", "https://a.b/c", "its card, `README.md`"),
        ),
        (
            {"README.md": CARD.format("[mit, cc-by-4.0]\nlicense_link: LICENSE")},
            Licence("mit, cc-by-4.0", None, "its card, `README.md`"),
        ),
        ({"README.md": CARD.format("unknown")}, Licence()),
        ({"README.md": "# license: mit\n", "LICENSE": "MIT"}, Licence(None, None, "a file `LICENSE` lies beside it")),
        ({"README.md": CARD.format("[")}, Licence()),
        ({"README.md": "---\n5\n---\n"}, Licence()),
        ({}, Licence()),
    ],
)
def test_a_licence_is_what_is_said_and_else_unknown(tmp_path: Path, files: dict[str, str], licence: Licence) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licences.of_model(str(tmp_path), None) == licence
    assert licences.of_data(str(tmp_path / "rows.jsonl")) == licence == licences.of_data(str(tmp_path))
    assert (
        f"| {'unknown' if licence.name is None else f'`{licence.name}'}"
        in written(tmp_path / "..", base_licence=licence)[1]
    )


def test_licences_of_a_gguf_file_and_of_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert licences.of_model(str(MODEL), None) == Licence("apache-2.0", None, "the header of its GGUF file")
    (tmp_path / "torn.gguf").write_bytes(MODEL.read_bytes()[:100])
    assert licences.of_model(str(tmp_path / "torn.gguf"), None) == Licence()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for kind, licence in (("models", "mit"), ("datasets", "cc0-1.0")):
        snapshot = tmp_path / f"{kind}--ann--it" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "README.md").write_text(CARD.format(licence))
        (tmp_path / f"{kind}--ann--it" / "refs").mkdir()
        (tmp_path / f"{kind}--ann--it" / "refs" / "main").write_text("abc")
    assert licences.of_model("ann/it", None).name == licences.of_model("ann/it", "abc").name == "mit"
    assert licences.of_data("ann/it").name == "cc0-1.0"
    assert licences.of_model("ann/other", None) == licences.of_data("ann/other") == Licence()


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
        overrides=(data, setting),
        datasets=(data,),
        scores={"loss": Score(None, score)},
        settings={setting: setting, "all": [setting, 1.5, True]},
        sources=(Source(data, "training", 1, None, setting, Licence(name, None, base)),),
    )
    assert metadata["library_name"] == "peft"
    assert ("model-index" in metadata) == math.isfinite(score)
    assert len(blocks(body, "yaml")) == 1
    for code in blocks(body, "python"):
        compile(code, "card", "exec")
    assert (len(blocks(body, "python")), len(blocks(body, "sh"))) == (2, 3)
    for title, columns in (("Data", 5), ("Licences", 4)):
        part = body.rsplit(f"\n## {title}\n", 1)[1].split("\n\n")
        rows = next(text for text in part if text.lstrip().startswith("|")).strip().splitlines()
        assert len(rows) >= 3 and all(len(re.findall(r"(?<!\\)\|", row)) == columns + 1 for row in rows)


WORDS = st.text("abcXYZ059_/+=\"'\\é -", min_size=8, max_size=20).filter(lambda word: len(word.strip()) >= 8)


SNIPPET_WORKS = """
import contextlib, io, os, re, sys
from pathlib import Path

import torch
from huggingface_hub import HfApi, ModelCard
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
shape = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2, init_lora_weights=False)
adapted = get_peft_model(model, shape)
adapted.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
facts = replace(
    FACTS, base_model="ann/base", revision=base, repository="ann/adapter", branch="next", chat=True, calls="hermes",
)
card.write(adapter, facts)
repository.push(work / "run", recipe.Hub("ann/adapter", True, "next"), os.environ, check_status=False)
pushed = ModelCard.load(adapter / "README.md")
pushed.validate()
assert pushed.data.base_model == "ann/base" and pushed.data.eval_results[0].metric_value == 1.5
code, merging = blocks((adapter / "README.md").read_text(), "python")
said = io.StringIO()
loaded = {}
with contextlib.redirect_stdout(said):
    exec(code, loaded)
chat = tokenizer.apply_chat_template(
    loaded["messages"], tools=loaded["tools"], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
wanted = adapted.generate(**chat, max_new_tokens=100, do_sample=False)[0, chat["input_ids"].shape[1] :]
assert len(wanted) and said.getvalue() == tokenizer.decode(wanted, skip_special_tokens=True) + "\\n"
os.chdir(work)
exec(merging, loaded)
merged = LlamaForCausalLM.from_pretrained("merged")
again = merged.generate(**chat, max_new_tokens=100, do_sample=False)[0, chat["input_ids"].shape[1] :]
assert again.tolist() == wanted.tolist()
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
