"""A model for as long as it decodes: in evaluation mode, and with less work in its linear layers.

A low-rank adapter is computed in the type of the weights beneath it, as mixed-precision training does at each step.
It is not added into them: in a weight of 16 bits, most of a young adapter would be rounded away. On a CPU that
computes in bfloat16 the weights are laid out once as the processor's library wants them, which it would otherwise
do for every token. The model's own weights are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora.layer import Linear as AdaptedLinear
from torch import nn
from torch.nn import functional

LAID_OUT_AT_MOST = 4 * 2**30  # bytes of weights; larger ones are not copied
ROWS = 16  # that the layout of a weight is chosen for; any number can be multiplied with it

Forward = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def decoding(model: nn.Module) -> Iterator[None]:
    """Within it, `model` is ready to decode; afterwards, and after an error, it is as it was. Weights must stay."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    changed: list[nn.Module] = []
    try:
        for layer, forward in _shorter(model):
            layer.forward = forward
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.forward
        for module in training:
            module.training = True


def _shorter(model: nn.Module) -> Iterator[tuple[nn.Module, Forward]]:
    """The layers that have a shorter way, and that way."""
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    laying_out = _lays_out() and sum(layer.weight.nbytes for layer in linear) <= LAID_OUT_AT_MOST
    adapted = [module for module in model.modules() if isinstance(module, AdaptedLinear) and _is_plain(module)]
    within = {id(part) for layer in adapted for part in layer.modules()}
    for layer in adapted:
        name = layer.active_adapters[0]
        weight = layer.base_layer.weight
        down = layer.lora_A[name].weight.to(weight.dtype)
        up = (layer.lora_B[name].weight.float() * layer.scaling[name]).to(weight.dtype).t().contiguous()
        bias = layer.base_layer.bias
        yield layer, (_stacked if laying_out and _fits(weight) else _beside)(weight, bias, down, up)
    for layer in linear:
        if laying_out and id(layer) not in within and _fits(layer.weight) and not _is_watched(layer):
            yield layer, _laid_out(layer.weight, layer.bias)


def _is_plain(layer: AdaptedLinear) -> bool:
    """Whether the layer is a linear map with one low-rank map beside it, and nothing else."""
    beneath = layer.base_layer
    return (
        type(layer) is AdaptedLinear
        and type(beneath) is nn.Linear
        and not (layer.disable_adapters or layer.merged)
        and len(layer.active_adapters) == 1
        and layer.active_adapters[0] in layer.lora_A
        and layer.active_adapters[0] not in layer.lora_variant
        and layer.lora_B[layer.active_adapters[0]].bias is None
        and not (_is_watched(layer) or _is_watched(beneath))
    )


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody else has a hand in the module's forward."""
    return "forward" in vars(module) or bool(module._forward_hooks or module._forward_pre_hooks)


def _beside(weight: torch.Tensor, bias: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor) -> Forward:
    def forward(inputs: torch.Tensor) -> torch.Tensor:
        result = functional.linear(inputs, weight, bias)
        narrow = functional.linear(inputs, down)
        return torch.addmm(result.flatten(0, -2), narrow.flatten(0, -2), up).view_as(result)

    return forward


def _stacked(weight: torch.Tensor, bias: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor) -> Forward:
    """The adapter's first matrix goes below the weight, so that one multiplication does for both."""
    wide = len(weight)
    longer = None if bias is None else functional.pad(bias, (0, len(down)))
    both = _laid_out(torch.cat([weight, down]), longer)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        result = both(inputs).flatten(0, -2)
        return torch.addmm(result[:, :wide], result[:, wide:], up).unflatten(0, inputs.shape[:-1])

    return forward


def _laid_out(weight: torch.Tensor, bias: torch.Tensor | None) -> Forward:
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, ordered, bias, "none", [], "")

    return forward


def _fits(weight: torch.Tensor) -> bool:
    return bool(weight.device.type == "cpu" and weight.dtype == torch.bfloat16)


def _lays_out() -> bool:
    """Whether this build of torch can lay weights out beforehand. What does it is not part of torch's public face."""
    operators = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return (
        torch.backends.mkldnn.is_available()
        and all(hasattr(operators, name) for name in names)
        and bool(operators._is_mkldnn_bf16_supported())
    )
