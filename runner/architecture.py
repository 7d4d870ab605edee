"""The shape of a model, read from its files without torch: what it weighs, and which matrices an adapter can go on.

A directory is read through `config.json` and the headers of its safetensors files, a GGUF file through its own
header, a Hub id through the local Hub cache. Nothing is downloaded: what is not here is not known yet.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from runner import weights

LARGEST_HEADER = 100 * 1024**2  # bytes; the safetensors format's own limit
MOST_DIMENSIONS = 8
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.(.+)")
# What the keys are called in config.json: today's name first, then those of older models.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
HIDDEN_KEYS = ("hidden_size", "n_embd", "d_model")
TRANSPOSED = ("gpt2", "openai-gpt")  # kinds whose matrices are stored as (inputs, outputs)

# GGUF value types, by their number in the format's specification: fixed-size ones with their struct code.
GGUF_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
HEADS = ("lm_head.weight", "embed_out.weight")  # output embeddings of their own
GGUF_HEAD = "output.weight"
GGUF_STRING, GGUF_ARRAY = 8, 9
# How llama.cpp abbreviates the matrices of a layer, and what transformers calls them.
GGUF_MATRICES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# What `attention` means: the last part of their names, in the model families there are.
ATTENTION_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "c_attn", "query_key_value")


@dataclass(frozen=True)
class Matrix:
    """A kind of linear layer: its path within a layer (`self_attn.q_proj`), its sizes, and how many there are."""

    name: str
    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True)
class Architecture:
    """A model's shape. Sizes are in units of the model, `parameters` counts all weights.

    Where `config.json` is here and not all of the weights, `parameters` is 0 and there are no matrices.
    """

    kind: str
    layers: int
    hidden: int
    vocabulary: int
    context: int | None  # tokens the model was made for
    parameters: int
    matrices: tuple[Matrix, ...]  # the linear layers inside the blocks: what `all-linear` means
    tied: bool = True  # whether input and output embeddings are one matrix

    def adapted(self, targets: tuple[str, ...]) -> tuple[Matrix, ...]:
        """The matrices that `adapter.target_modules` names: by a whole name or the end of one, as PEFT reads them."""
        if targets == ("all-linear",):
            return self.matrices
        wanted = ATTENTION_MATRICES if targets == ("attention",) else targets
        counted = (replace(matrix, count=_count(matrix, wanted)) for matrix in self.matrices)
        return tuple(matrix for matrix in counted if matrix.count)


def _count(matrix: Matrix, wanted: tuple[str, ...]) -> int:
    """How many of a kind of matrix are wanted: all, or those that are named with the number of their layer."""
    if any(f".{matrix.name}".endswith(f".{name}") for name in wanted):
        return matrix.count
    return sum((found := LAYER.search(name)) is not None and found[2] == matrix.name for name in wanted)


class UnreadableModel(ValueError):
    """The model's files are not what they should be. `hint` says what can be done, where that is known."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


def read(name: str, revision: str | None = None) -> Architecture | None:
    """The shape of a model named as recipes name it; None where its files are not on this machine yet.

    Raises UnreadableModel where they are here and broken.
    """
    path = Path(name)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _from_gguf(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise UnreadableModel(f"`{path}` is a directory without a `config.json`, so it holds no model")
    directory = path if path.is_dir() else cached(name, revision)
    if directory is None or not (directory / "config.json").is_file():
        return None
    return _from_directory(directory)


def cached(name: str, revision: str | None, kind: str = "models") -> Path | None:
    """The folder in the local Hub cache that holds this revision of a model, or of `datasets`, if it is there."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", caches / "huggingface"))
    cache = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))
    repository = cache / f"{kind}--{name.replace('/', '--')}"
    wanted = revision or "main"
    try:
        commit = (repository / "refs" / wanted).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = wanted
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _from_directory(directory: Path) -> Architecture:
    path = directory / "config.json"
    config = _json_object(path)
    if pickled := weights.pickled_in(directory):
        raise UnreadableModel(f"`{directory}` has its weights as a pickle, `{pickled}`", weights.HINT)
    text = config.get("text_config")  # of a model that reads pictures as well
    if isinstance(text, dict):
        config = config | text
    tied = config.get("tie_word_embeddings") is True
    shapes = [
        (name, shape)
        for name, shape in _safetensors_shapes(directory)
        # A tied output layer is the embedding again, and a bias with two dimensions is a mask: neither is a weight.
        if not (tied and name.endswith("lm_head.weight")) and not (name.endswith(".bias") and len(shape) > 1)
    ]
    return _architecture(
        kind=str(config.get("model_type", "unknown")),
        context=_whole(config, CONTEXT_KEYS, path),
        vocabulary=_whole(config, ("vocab_size",), path),
        hidden=_whole(config, HIDDEN_KEYS, path),
        shapes=shapes,
    )


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableModel(f"`{path}` is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableModel(f"`{path}` holds no JSON object")
    return value


def _whole(facts: Mapping[str, Any], names: tuple[str, ...], path: Path) -> int | None:
    """The first of these facts that is there. Raises UnreadableModel where it is no positive whole number."""
    for name in names:
        value = facts.get(name)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise UnreadableModel(f"`{name}` in `{path}` is no positive whole number")
        return value
    return None


def _safetensors_shapes(directory: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that transformers would load; nothing while a file of them is missing.

    A folder may hold the same weights a second time in another form, which transformers does not read either.
    """
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    paths = [single] if single.is_file() else []
    if not paths and index.is_file():
        files = _json_object(index).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
            raise UnreadableModel(f"`{index}` has no `weight_map`")
        paths = sorted({directory / file for file in files.values()})
    if all(path.is_file() for path in paths):
        for path in paths:
            yield from _safetensors_header(path)


def _safetensors_header(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of a file, from its header (length as u64, then JSON)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise UnreadableModel(f"`{path}` is not a safetensors file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        shapes = {name: (*tensor["shape"],) for name, tensor in header.items()}
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        whole = path.stat().st_size >= end
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError, struct.error) as error:
        raise UnreadableModel(f"`{path}` is not a whole safetensors file") from error
    if not whole or not all(_is_shape(shape) for shape in shapes.values()):
        raise UnreadableModel(f"`{path}` is not a whole safetensors file")
    yield from shapes.items()


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= MOST_DIMENSIONS and all(type(size) is int and 0 <= size < 2**63 for size in shape)


def gguf_facts(path: Path) -> dict[str, Any]:
    """What the header of a GGUF file says of its model, of an array its length. Raises UnreadableModel."""
    return _gguf_header(path)[0]


def _gguf_header(path: Path) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int]]]:
    """The facts and tensors of a GGUF file (specification: ggml's docs/gguf.md)."""
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
                (kind_of_value,) = struct.unpack("<I", file.read(4))
                facts[key] = _gguf_value(file, kind_of_value)
            found = [_gguf_tensor(file) for _ in range(tensors)]
            last = file.tell() + max((offset for _, _, offset in found), default=0)
            if last > path.stat().st_size:  # the weights themselves end before the last of them begins
                raise struct.error("weights are missing")
    except (OSError, struct.error, KeyError, MemoryError, OverflowError, RecursionError) as error:
        raise UnreadableModel(f"`{path}` is not a whole GGUF file") from error
    return facts, found


def _from_gguf(path: Path) -> Architecture:
    facts, found = _gguf_header(path)
    kind = str(facts.get("general.architecture", "unknown"))
    return _architecture(
        kind=kind,
        context=_whole(facts, (f"{kind}.context_length",), path),
        vocabulary=_whole(facts, (f"{kind}.vocab_size", "tokenizer.ggml.tokens"), path),
        hidden=_whole(facts, (f"{kind}.embedding_length",), path),
        shapes=[(name, shape) for name, shape, _ in found],
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
        if length > LARGEST_HEADER:
            raise struct.error("an array longer than any header")
        if item in GGUF_SCALARS:
            file.seek(length * struct.calcsize("<" + GGUF_SCALARS[item]), os.SEEK_CUR)
        else:
            for _ in range(length):
                _gguf_value(file, item)
        return length
    code = "<" + GGUF_SCALARS[kind]
    return struct.unpack(code, file.read(struct.calcsize(code)))[0]


def _gguf_tensor(file: BinaryIO) -> tuple[str, tuple[int, ...], int]:
    """A tensor's name and shape, in transformers' words and order, and where it begins among the weights."""
    name = _gguf_string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > MOST_DIMENSIONS:
        raise struct.error("a tensor with more dimensions than GGUF allows")
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    _, offset = struct.unpack("<IQ", file.read(12))
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if found and found.group(2) in GGUF_MATRICES:
        name = f"layers.{found.group(1)}.{GGUF_MATRICES[found.group(2)]}.weight"
    return name, tuple(reversed(shape)), offset


def _architecture(
    kind: str,
    context: int | None,
    vocabulary: int | None,
    hidden: int | None,
    shapes: Iterable[tuple[str, tuple[int, ...]]],
) -> Architecture:
    parameters = 0
    tied = True
    layers: set[str] = set()
    counts: dict[tuple[str, int, int], int] = {}
    for name, shape in shapes:
        parameters += math.prod(shape)
        tied = tied and name != GGUF_HEAD and not name.endswith(HEADS)
        found = LAYER.search(name)
        if found is None or not name.endswith(".weight"):
            continue
        layers.add(found[1])
        if len(shape) == 2:
            outputs, inputs = reversed(shape) if kind in TRANSPOSED else shape
            key = (found[2].removesuffix(".weight"), inputs, outputs)
            counts[key] = counts.get(key, 0) + 1
    matrices = tuple(Matrix(name, inputs, outputs, count) for (name, inputs, outputs), count in counts.items())
    return Architecture(kind, len(layers), hidden or 0, vocabulary or 0, context, parameters, matrices, tied)
