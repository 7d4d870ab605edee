"""What PEFT and transformers make of the models whose shapes are read from their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from model_files import real, shape_of
from settled import CPU, recipe_of

from runner import plan


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
