"""Shapes of models from their files alone: safetensors, and the Hub's cache of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import A_LAYER, CONFIG, HIDDEN, LAYERS, MATRICES, index, llama, model, shape_of, weights
from settled import CPU, recipe_of

from runner import architecture, plan, planfile
from runner.architecture import Matrix, UnreadableModel

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
