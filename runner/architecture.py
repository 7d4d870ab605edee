"""The shape of a model, read from its files without torch: what it weighs, and which matrices an adapter can go on.

A directory is read through `config.json` and the headers of its safetensors files, a GGUF file through its own
header, a Hub id through the local Hub cache. Nothing is downloaded: what is not here is not known yet.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_HEADER = 100 * 1024**2  # bytes; the safetensors format's own limit

# GGUF value types, by their number in the format's specification: fixed-size ones with their struct code.
GGUF_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_STRING, GGUF_ARRAY = 8, 9
# How llama.cpp abbreviates the matrices of a layer, and what transformers calls them.
GGUF_MATRICES = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}
ATTENTION_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "c_attn", "query_key_value")


@dataclass(frozen=True)
class Matrix:
    """A kind of linear layer: its name within a layer, its sizes, and how many of it the model has."""

    name: str
    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True)
class Architecture:
    """A model's shape. Sizes are in units of the model, `parameters` counts all weights."""

    kind: str
    layers: int
    hidden: int
    vocabulary: int
    context: int | None  # tokens the model was made for
    parameters: int
    matrices: tuple[Matrix, ...]  # the linear layers inside the blocks: what `all-linear` means

    def adapted(self, targets: tuple[str, ...]) -> tuple[Matrix, ...]:
        """The matrices that `adapter.target_modules` names."""
        if targets == ("all-linear",):
            return self.matrices
        wanted = ATTENTION_MATRICES if targets == ("attention",) else targets
        return tuple(matrix for matrix in self.matrices if matrix.name in wanted)


class UnreadableModel(ValueError):
    """The model's files are not what they should be."""


def read(name: str, revision: str | None = None) -> Architecture | None:
    """The shape of a model named as recipes name it; None where its files are not on this machine yet."""
    path = Path(name)
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path)
    directory = path if path.is_dir() else _cached(name, revision)
    if directory is None or not (directory / "config.json").is_file():
        return None
    return _from_directory(directory)


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder in the local Hub cache that holds this revision of a model, if it is there."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repository = cache / f"models--{name.replace('/', '--')}"
    wanted = revision or "main"
    try:
        commit = (repository / "refs" / wanted).read_text().strip()
    except OSError:
        commit = wanted
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _from_directory(directory: Path) -> Architecture:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableModel(f"`{directory / 'config.json'}` is not readable JSON: {error}") from error
    if not isinstance(config, dict):
        raise UnreadableModel(f"`{directory / 'config.json'}` holds no JSON object")
    config = config | (config.get("text_config") or {})
    shapes = list(_safetensors_shapes(directory))
    return _architecture(
        kind=str(config.get("model_type", "unknown")),
        context=config.get("max_position_embeddings"),
        vocabulary=config.get("vocab_size"),
        hidden=config.get("hidden_size") or config.get("n_embd"),
        shapes=shapes,
    )


def _safetensors_shapes(directory: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, from the headers alone (format: length as u64, then JSON)."""
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > LARGEST_HEADER:
                    raise UnreadableModel(f"`{path}` is not a safetensors file")
                header = json.loads(file.read(length))
            for name, tensor in header.items():
                if name != "__metadata__":
                    yield name, tuple(tensor["shape"])
        except (OSError, ValueError, KeyError, AttributeError, struct.error) as error:
            raise UnreadableModel(f"`{path}` is not a whole safetensors file") from error


def _from_gguf(path: Path) -> Architecture:
    """The header of a GGUF file (specification: ggml's docs/gguf.md)."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UnreadableModel(f"`{path}` is not a GGUF file")
            version, tensors, pairs = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3):
                raise UnreadableModel(f"`{path}` is GGUF version {version}; versions 2 and 3 can be read")
            facts: dict[str, Any] = {}
            for _ in range(pairs):
                key = _gguf_string(file)
                (kind,) = struct.unpack("<I", file.read(4))
                facts[key] = _gguf_value(file, kind)
            shapes = [_gguf_tensor(file) for _ in range(tensors)]
    except (OSError, struct.error, UnicodeDecodeError, KeyError, MemoryError, OverflowError) as error:
        raise UnreadableModel(f"`{path}` is not a whole GGUF file") from error
    kind = str(facts.get("general.architecture", "unknown"))
    return _architecture(
        kind=kind,
        context=facts.get(f"{kind}.context_length"),
        vocabulary=facts.get(f"{kind}.vocab_size") or facts.get("tokenizer.ggml.tokens"),
        hidden=facts.get(f"{kind}.embedding_length"),
        shapes=shapes,
    )


def _gguf_string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LARGEST_HEADER:
        raise struct.error("a string longer than any header")
    return file.read(length).decode("utf-8", errors="replace")


def _gguf_value(file: BinaryIO, kind: int) -> Any:
    """A value of the header; an array becomes its length, which is all that is needed of one."""
    if kind == GGUF_STRING:
        return _gguf_string(file)
    if kind == GGUF_ARRAY:
        item, length = struct.unpack("<IQ", file.read(12))
        if item in GGUF_SCALARS:
            file.seek(length * struct.calcsize("<" + GGUF_SCALARS[item]), os.SEEK_CUR)
        else:
            for _ in range(length):
                _gguf_value(file, item)
        return length
    code = "<" + GGUF_SCALARS[kind]
    return struct.unpack(code, file.read(struct.calcsize(code)))[0]


def _gguf_tensor(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a tensor, in transformers' words and order."""
    name = _gguf_string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise struct.error("a tensor with more dimensions than GGUF allows")
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    file.read(12)  # its type and offset
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if found and found.group(2) in GGUF_MATRICES:
        name = f"layers.{found.group(1)}.{GGUF_MATRICES[found.group(2)]}.weight"
    return name, tuple(reversed(shape))


def _architecture(
    kind: str, context: int | None, vocabulary: int | None, hidden: int | None, shapes: Iterable[tuple[str, Any]]
) -> Architecture:
    parameters = 0
    layers: set[int] = set()
    counts: dict[tuple[str, int, int], int] = {}
    for name, shape in shapes:
        size = 1
        for length in shape:
            size *= length
        parameters += size
        found = re.search(r"(?:layers|h|blocks|layer)\.(\d+)\.(?:.*\.)?([\w-]+)\.weight$", name)
        if found:
            layers.add(int(found.group(1)))
            if len(shape) == 2:
                key = (found.group(2), shape[1], shape[0])
                counts[key] = counts.get(key, 0) + 1
    matrices = tuple(Matrix(name, inputs, outputs, count) for (name, inputs, outputs), count in counts.items())
    return Architecture(kind, len(layers), hidden or 0, vocabulary or 0, context, parameters, matrices)
