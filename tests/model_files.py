"""Models as files: a small Llama whose weights are zeros, and the real model that the tests use."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from small_model import MODEL

from runner import architecture
from runner.architecture import Matrix

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


@cache
def real() -> architecture.Architecture:
    found = architecture.read(str(MODEL))
    assert found is not None
    return found
