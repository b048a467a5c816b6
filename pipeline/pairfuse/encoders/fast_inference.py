"""Frozen networks made faster without another result: weights laid out once, layers folded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Rows that the layout of packed weights is chosen for; other numbers work all the same.
TYPICAL_ROWS = 2048


class PackedLinear(nn.Module):
    """A linear layer whose bf16 weights lie as the CPU's matrix product wants them."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().contiguous()
        self.weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        self.bias: Any = None if layer.bias is None else layer.bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            values, self.weight, self.bias, "none", [], ""
        )
        return product


def pack_linears(network: Any) -> Any:
    """Replace bf16 linear layers on the CPU by packed ones, where this torch can do so.

    torch lays plain weights out anew in each call, and adds the bias in a pass of its own: packed,
    a product of (4096, 768) with (768, 768) is a third faster.
    """
    if not _can_pack():
        return network
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            # subclasses are read by weight in torch's own attention, and stay
            if type(layer) is nn.Linear and _fits(layer.weight):
                setattr(parent, name, PackedLinear(layer))
    return network


def fold_batch_norm(network: Any) -> Any:
    """Fold each batch-norm into the convolution before it; only for networks in eval mode.

    Its children must be written in the order in which they run, as those of ResNet and
    EfficientNet are.
    """
    for parent in list(network.modules()):
        before: tuple[str, nn.Module] | None = None
        for name, layer in list(parent.named_children()):
            if before and isinstance(layer, nn.BatchNorm2d) and isinstance(before[1], nn.Conv2d):
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], layer))
                setattr(parent, name, nn.Identity())
            before = name, layer
    return network


def fold_padding(network: Any) -> Any:
    """Let convolutions pad by themselves where a layer of zeros on all sides did so before them.

    Each such layer wrote every map anew. It is found as the child `static_padding` of its
    convolution, as in ports of TensorFlow's networks; one that pads its sides unequally stays.
    """
    for layer in network.modules():
        padding = getattr(layer, "static_padding", None)
        if not (isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d)):
            continue
        left, right, top, bottom = padding.padding
        if left == right and top == bottom and layer.padding == (0, 0):
            layer.padding = (top, left)
            layer.static_padding = nn.Identity()
    return network


def _can_pack() -> bool:
    """Whether this torch can, on this CPU: without AVX-512 its bf16 products take plain weights."""
    backend: Any = torch.backends.mkldnn
    if not backend.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(1, 1, dtype=torch.bfloat16), 1)
    except (AttributeError, RuntimeError):
        return False
    return True


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16
