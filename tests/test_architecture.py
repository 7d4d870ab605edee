"""Shapes of models from their files alone: safetensors, GGUF, the Hub's cache; and what PEFT makes of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settled import CPU, recipe_of
from small_model import MODEL

from runner import architecture, plan, planfile
from runner.architecture import Matrix, UnreadableModel

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CONFIG = {"model_type": "llama", "hidden_size": 4, "vocab_size": 10, "max_position_embeddings": 64}
HIDDEN, INNER, LAYERS = 4, 6, 2


def weights(path: Path, shapes: dict[str, list[int]], missing: int = 0) -> None:
    """A safetensors file of zeros in float16, which may end so many bytes too early."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end - missing))


def llama(tied: bool = False, layers: range = range(LAYERS)) -> dict[str, list[int]]:
    shapes = {"model.embed_tokens.weight": [10, HIDDEN], "model.norm.weight": [HIDDEN]}
    if not tied:
        shapes["lm_head.weight"] = [10, HIDDEN]
    for layer in layers:
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = [HIDDEN, HIDDEN]
        shapes[f"model.layers.{layer}.self_attn.q_proj.bias"] = [HIDDEN]
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = [INNER, HIDDEN]
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = [HIDDEN]
    return shapes


A_LAYER = HIDDEN * HIDDEN + HIDDEN + INNER * HIDDEN + HIDDEN
MATRICES = (Matrix("self_attn.q_proj", HIDDEN, HIDDEN, LAYERS), Matrix("mlp.up_proj", HIDDEN, INNER, LAYERS))


def model(folder: Path, shapes: dict[str, list[int]] | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    if shapes is not None:
        weights(folder / "model.safetensors", shapes)
    return folder


def index(folder: Path, files: dict[str, dict[str, list[int]]]) -> None:
    where = {name: file for file, shapes in files.items() for name in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def shape_of(folder: Path) -> architecture.Architecture:
    found = architecture.read(str(folder))
    assert found is not None
    return found


def test_a_model_of_one_file(tmp_path: Path) -> None:
    found = shape_of(model(tmp_path, llama()))
    assert (found.kind, found.layers, found.hidden, found.vocabulary, found.context) == ("llama", 2, 4, 10, 64)
    assert found.parameters == 2 * 10 * HIDDEN + HIDDEN + LAYERS * A_LAYER
    assert found.matrices == MATRICES


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    without = shape_of(model(tmp_path / "a", llama(tied=True), tie_word_embeddings=True))
    stored_twice = shape_of(model(tmp_path / "b", llama(), tie_word_embeddings=True))
    untied = shape_of(model(tmp_path / "c", llama(), tie_word_embeddings=False))
    assert without.parameters == stored_twice.parameters == untied.parameters - 10 * HIDDEN


def test_a_model_of_two_files(tmp_path: Path) -> None:
    files = {"one.safetensors": llama(layers=range(1)), "two.safetensors": llama(True, range(1, 2))}
    del files["two.safetensors"]["model.embed_tokens.weight"], files["two.safetensors"]["model.norm.weight"]
    model(tmp_path)
    index(tmp_path, files)
    for name, shapes in files.items():
        weights(tmp_path / name, shapes)
    assert shape_of(tmp_path) == shape_of(model(tmp_path / "whole", llama()))
    (tmp_path / "two.safetensors").unlink()
    found = shape_of(tmp_path)
    assert (found.parameters, found.matrices, found.layers, found.context) == (0, (), 0, 64)


def test_other_files_of_weights_are_not_counted(tmp_path: Path) -> None:
    model(tmp_path, llama())
    weights(tmp_path / "consolidated.safetensors", llama())
    weights(tmp_path / "adapter_model.safetensors", llama())
    assert shape_of(tmp_path).parameters == shape_of(model(tmp_path / "alone", llama())).parameters


def test_gpt2_has_its_matrices_the_other_way_round(tmp_path: Path) -> None:
    shapes = {
        "wte.weight": [10, 4], "wpe.weight": [64, 4], "h.0.ln_1.weight": [4], "h.0.attn.bias": [1, 1, 64, 64],
        "h.0.attn.c_attn.weight": [4, 12], "h.0.attn.c_attn.bias": [12], "h.0.attn.c_proj.weight": [4, 4],
        "h.0.mlp.c_proj.weight": [16, 4],
    }  # fmt: skip
    folder = model(tmp_path, shapes)
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_embd": 4, "vocab_size": 10, "n_positions": 64}')
    found = shape_of(folder)
    assert (found.kind, found.layers, found.hidden, found.context) == ("gpt2", 1, 4, 64)
    assert found.parameters == 40 + 256 + 4 + 48 + 12 + 16 + 64
    assert found.matrices == (
        Matrix("attn.c_attn", 4, 12, 1),
        Matrix("attn.c_proj", 4, 4, 1),
        Matrix("mlp.c_proj", 16, 4, 1),
    )
    assert [each.name for each in found.adapted(("attention",))] == ["attn.c_attn"]
    assert [each.name for each in found.adapted(("c_proj",))] == ["attn.c_proj", "mlp.c_proj"]


def test_names_that_only_end_like_a_layers_are_not_one(tmp_path: Path) -> None:
    assert shape_of(model(tmp_path, {"patch.0.proj.weight": [4, 4], "players.1.x.weight": [4, 4]})).matrices == ()


def test_the_text_half_of_a_model_that_reads_pictures(tmp_path: Path) -> None:
    found = shape_of(model(tmp_path, llama(), text_config={"model_type": "inner", "hidden_size": 8, "vocab_size": 99}))
    assert (found.kind, found.hidden, found.vocabulary, found.context) == ("inner", 8, 99, 64)


@pytest.mark.parametrize(
    ("targets", "counts"),
    [
        (("all-linear",), {"self_attn.q_proj": 2, "mlp.up_proj": 2}),
        (("attention",), {"self_attn.q_proj": 2}),
        (("up_proj", "q_proj"), {"self_attn.q_proj": 2, "mlp.up_proj": 2}),
        (("mlp.up_proj",), {"mlp.up_proj": 2}),
        (("layers.0.mlp.up_proj",), {"mlp.up_proj": 1}),
        (("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"), {"mlp.up_proj": 2}),
        (("p_proj",), {}),
        (("mlp",), {}),
        (("lm_head",), {}),
    ],
)
def test_targets_name_matrices_as_peft_reads_them(tmp_path: Path, targets: Any, counts: dict[str, int]) -> None:
    adapted = shape_of(model(tmp_path, llama())).adapted(targets)
    assert {matrix.name: matrix.count for matrix in adapted} == counts


# what is not there, or broken


def test_what_is_not_here_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match=r"a directory without a `config\.json`"):
        architecture.read(str(tmp_path))
    assert architecture.read(str(tmp_path / "nothing.gguf")) is None
    weights(tmp_path / "model.safetensors", llama())
    with pytest.raises(UnreadableModel):
        architecture.read(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"vocab_size": 1' + b"0" * 5000 + b"}"]
)
def test_a_broken_config(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UnreadableModel, match="config.json"):
        architecture.read(str(tmp_path))


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "max_position_embeddings"])
@pytest.mark.parametrize("value", ["4", 4.5, True, [4], {}, 0, -1])
def test_a_config_with_no_number_for_a_number(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UnreadableModel, match=f"`{key}` in .* is no positive whole number"):
        architecture.read(str(model(tmp_path, llama(), **{key: value})))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x08", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 99) + b"{}", struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 7) + b'{"a":1}', struct.pack("<Q", 10) + b'{"a":"bc"}', struct.pack("<Q", 2) + b"\xff\xff",
        struct.pack("<Q", 10**6) + b"[" * 10**6,
    ],
)  # fmt: skip
def test_broken_headers(tmp_path: Path, content: bytes) -> None:
    folder = model(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UnreadableModel, match="safetensors file"):
        architecture.read(str(folder))


@pytest.mark.parametrize("shape", [5, "ab", ["a"], [-1], [True], [1.5], [2] * 9, [2**70], None])
def test_a_header_with_a_shape_that_is_none(tmp_path: Path, shape: Any) -> None:
    folder = model(tmp_path)
    header = json.dumps({"layers.0.x.weight": {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UnreadableModel, match="not a whole safetensors file"):
        architecture.read(str(folder))


def test_weights_that_end_too_early(tmp_path: Path) -> None:
    folder = model(tmp_path)
    weights(folder / "model.safetensors", llama(), missing=1)
    with pytest.raises(UnreadableModel, match="not a whole safetensors file"):
        architecture.read(str(folder))


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_a_broken_index(tmp_path: Path, content: str) -> None:
    folder = model(tmp_path)
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UnreadableModel, match=r"index.json` (has no `weight_map`|holds no JSON object)"):
        architecture.read(str(folder))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("layers.0.a.weight"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["shape", "data_offsets", "layers.0.a.weight", "weight_map"]), inner)
    ),
    max_leaves=8,
)


@SHARED
@given(st.dictionaries(st.sampled_from([*CONFIG, "text_config", "n_embd", "tie_word_embeddings"]), JSON), JSON, JSON)
def test_any_json_is_a_shape_or_unreadable(tmp_path: Path, config: Any, header: Any, weight_map: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    try:
        found = architecture.read(str(folder))
    except UnreadableModel:
        return
    assert found is not None
    assert planfile.from_json(planfile.to_json(plan.make(recipe_of("dataset.max_length=null"), CPU, found)))


# GGUF


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(facts: list[tuple[str, int, bytes]], tensors: list[tuple[str, list[int]]], version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(facts))
    for key, kind, value in facts:
        head += gguf_text(key) + struct.pack("<I", kind) + value
    for name, shape in tensors:
        head += gguf_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", 1, 0)
    return head + bytes(64)


SMALL = gguf(
    [
        ("general.architecture", 8, gguf_text("llama")),
        ("llama.context_length", 4, struct.pack("<I", 64)),
        ("llama.embedding_length", 4, struct.pack("<I", 4)),
        ("general.alignment", 9, struct.pack("<IQ2I", 4, 2, 1, 2)),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + gguf_text("a") + gguf_text("é")),
    ],
    [("token_embd.weight", [4, 2]), ("blk.0.attn_q.weight", [4, 4]), ("blk.0.ffn_up.weight", [4, 6]),
     ("blk.0.attn_norm.weight", [4])],
)  # fmt: skip


def read_gguf(path: Path, content: bytes) -> architecture.Architecture:
    path.write_bytes(content)
    found = architecture.read(str(path))
    assert found is not None
    return found


@cache
def real() -> architecture.Architecture:
    found = architecture.read(str(MODEL))
    assert found is not None
    return found


def test_the_header_of_a_real_gguf_file() -> None:
    found = real()
    assert (found.kind, found.layers, found.hidden, found.vocabulary) == ("llama", 30, 576, 49152)
    assert (found.context, found.parameters) == (8192, 134_515_008)
    assert {matrix.name: (matrix.inputs, matrix.outputs, matrix.count) for matrix in found.matrices} == {
        "self_attn.q_proj": (576, 576, 30), "self_attn.k_proj": (576, 192, 30), "self_attn.v_proj": (576, 192, 30),
        "self_attn.o_proj": (576, 576, 30), "mlp.gate_proj": (576, 1536, 30), "mlp.up_proj": (576, 1536, 30),
        "mlp.down_proj": (1536, 576, 30),
    }  # fmt: skip


def test_a_small_gguf_file(tmp_path: Path) -> None:
    found = read_gguf(tmp_path / "a.GGUF", SMALL)
    assert (found.layers, found.vocabulary, found.context, found.parameters) == (1, 2, 64, 8 + 16 + 24 + 4)
    assert found.matrices == (Matrix("self_attn.q_proj", 4, 4, 1), Matrix("mlp.up_proj", 4, 6, 1))


@pytest.mark.parametrize("content", [b"", b"GGU", b"GGUF", b"PK\x03\x04", SMALL[:24], SMALL[:-65]])
def test_what_is_no_gguf_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableModel, match="GGUF file"):
        read_gguf(tmp_path / "a.gguf", content)


@pytest.mark.parametrize("version", [0, 1, 4])
def test_another_version_of_gguf(tmp_path: Path, version: int) -> None:
    with pytest.raises(UnreadableModel, match=f"version {version}; versions 2 and 3"):
        read_gguf(tmp_path / "a.gguf", gguf([], [], version))


@pytest.mark.parametrize("length", [2**27, 2**61, 2**62, 2**63, 2**64 - 1])
def test_an_array_longer_than_the_file(tmp_path: Path, length: int) -> None:
    for item in (0, 8, 9, 10):
        with pytest.raises(UnreadableModel, match="not a whole GGUF file"):
            read_gguf(tmp_path / "a.gguf", gguf([("x", 9, struct.pack("<IQ", item, length))], [("a", [1])]))


def test_arrays_in_arrays_without_end(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel):
        read_gguf(tmp_path / "a.gguf", gguf([("x", 9, struct.pack("<IQ", 9, 1) * 10_000)], []))


def test_a_gguf_file_without_its_weights(tmp_path: Path) -> None:
    whole = MODEL.read_bytes()[: 4 * 2**20]  # the header and the first of the weights
    with pytest.raises(UnreadableModel, match="not a whole GGUF file"):
        read_gguf(tmp_path / "a.gguf", whole)


@SHARED
@given(st.integers(0, len(SMALL)), st.binary(max_size=40), st.integers(0, 40))
def test_a_damaged_gguf_file_is_a_shape_or_unreadable(tmp_path: Path, at: int, put: bytes, taken: int) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(SMALL[:at] + put + SMALL[at + taken :])
    try:
        found = architecture.read(str(path))
    except UnreadableModel:
        return
    assert found is not None
    plan.make(recipe_of("dataset.max_length=null"), CPU, found)


@SHARED
@given(st.binary(max_size=200))
def test_garbage_after_the_magic_number(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gguf"
    for version in (b"", struct.pack("<I", 3), struct.pack("<IQQ", 3, 2, 1)):
        path.write_bytes(b"GGUF" + version + content)
        try:
            assert architecture.read(str(path)) is not None
        except UnreadableModel as error:
            assert "GGUF" in str(error)


# the Hub's cache


def cached(cache: Path, commit: str, revision: str = "main") -> None:
    repository = cache / "models--owner--model"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    blob = repository / "blobs" / commit
    model(blob, llama())
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in blob.iterdir():
        (snapshot / file.name).symlink_to(file)


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("HF_HUB_CACHE", "."),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
        ("HOME", ".cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_client_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert architecture.read("owner/model") is None
    monkeypatch.setenv(variable, str(tmp_path))
    cached(tmp_path / below, "abc123")
    found = architecture.read("owner/model")
    assert found is not None and found.matrices == MATRICES


def test_revisions_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "abc123", "v2")
    assert architecture.read("owner/model") is None
    assert architecture.read("owner/model", "v1") is None
    assert architecture.read("owner/model", "v2") == architecture.read("owner/model", "abc123") is not None
    (tmp_path / "models--owner--model" / "refs" / "main").write_bytes(b"\xff")
    assert architecture.read("owner/model") is None


# what PEFT and transformers make of the same models


def adapted_parameters(base: Any, settled: Any) -> int:
    from peft import get_peft_model

    from runner.adapters import ADAPTERS

    found = get_peft_model(base, ADAPTERS[settled.type](settled), low_cpu_mem_usage=True)
    return sum(each.numel() for each in found.parameters() if each.requires_grad)


@pytest.fixture(scope="module")
def empty() -> Callable[[Any], Any]:
    """A function that makes a model of a configuration, without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    def make(config: Any) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)

    return make


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (("adapter.type=lora", "adapter.target_modules=all-linear"), 4_884_480),
        (("adapter.type=dora", "adapter.target_modules=all-linear"), None),
        (("adapter.type=rslora", "adapter.target_modules=attention"), None),
        (("adapter.type=lora", "adapter.target_modules=[self_attn.q_proj, model.layers.7.mlp.up_proj]"), None),
    ],
)
def test_the_parameters_of_an_adapter_are_those_that_peft_makes(
    empty: Callable[[Any], Any], overrides: tuple[str, ...], count: int | None
) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    )  # fmt: skip
    settled = recipe_of("adapter.rank=16", *overrides)
    trainable = plan.make(settled, CPU, real()).trainable
    assert trainable == adapted_parameters(empty(config), settled.adapter)
    assert count is None or trainable == count


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
KINDS = {
    "LlamaConfig": SIZES | {"intermediate_size": 24, "num_key_value_heads": 2},
    "Qwen3Config": SIZES | {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4},
    "Gemma3TextConfig": SIZES | {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4},
    "Phi3Config": SIZES | {"intermediate_size": 24, "num_key_value_heads": 2, "pad_token_id": 0},
    "GPTNeoXConfig": SIZES | {"intermediate_size": 24},
    "FalconConfig": SIZES,
    "GPT2Config": {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 64},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_models_that_transformers_has_written(
    tmp_path: Path, empty: Callable[[Any], Any], kind: str, adapter: str
) -> None:
    import transformers

    config = getattr(transformers, kind)(**KINDS[kind], bos_token_id=0, eos_token_id=0)
    base = transformers.AutoModelForCausalLM.from_config(config)
    base.save_pretrained(tmp_path)
    found = shape_of(tmp_path)
    assert found.parameters == base.num_parameters()
    assert (found.layers, found.hidden, found.vocabulary) == (2, 16, 64)
    assert found.context == config.max_position_embeddings
    settled = recipe_of(f"adapter.type={adapter}", "adapter.rank=3", "adapter.target_modules=all-linear")
    narrow = replace(settled, dataset=replace(settled.dataset, max_length=None))
    assert plan.make(narrow, CPU, found).trainable == adapted_parameters(base, settled.adapter)
