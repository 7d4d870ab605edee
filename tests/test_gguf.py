"""Shapes of models from the headers of GGUF files, whole, broken and made up."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import real
from settled import CPU, recipe_of
from small_model import MODEL

from runner import architecture, plan
from runner.architecture import Matrix, UnreadableModel

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
