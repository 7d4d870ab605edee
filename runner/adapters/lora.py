"""Low-rank adapters and their variants, as PEFT configures them."""

from __future__ import annotations

from peft import LoraConfig

from runner import recipe
from runner.architecture import ATTENTION_MATRICES


def lora(settings: recipe.Adapter) -> LoraConfig:
    """LoRA (https://arxiv.org/abs/2106.09685)."""
    return _config(settings)


def dora(settings: recipe.Adapter) -> LoraConfig:
    """DoRA: direction and magnitude are learned apart (https://arxiv.org/abs/2402.09353)."""
    return _config(settings, use_dora=True)


def rslora(settings: recipe.Adapter) -> LoraConfig:
    """Rank-stabilised LoRA: scaled by alpha / √rank (https://arxiv.org/abs/2312.03732)."""
    return _config(settings, use_rslora=True)


def _config(settings: recipe.Adapter, use_dora: bool = False, use_rslora: bool = False) -> LoraConfig:
    targets: str | list[str] = list(settings.target_modules)
    if settings.target_modules == ("all-linear",):
        targets = "all-linear"
    elif settings.target_modules == ("attention",):
        targets = list(ATTENTION_MATRICES)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_dora=use_dora,
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
    )
