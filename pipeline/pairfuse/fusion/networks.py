"""Networks: one of many models made of many of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pairfuse.fusion.blocks import HeadShape, PaddingMask
from pairfuse.fusion.heads import FusionNetwork


def shapes_of(network: nn.Module) -> dict[str, torch.Size]:
    """Shape of each parameter of one model, by name."""
    return {name: parameter.shape[1:] for name, parameter in network.named_parameters()}


def enclosing(shapes: Sequence[HeadShape]) -> HeadShape:
    """The smallest shape that each of these fits into."""
    dims: dict[str, int] = {}
    for shape in shapes:
        for view, dim in shape.dims.items():
            dims[view] = max(dim, dims.get(view, 0))
    modality = {view: kind for shape in shapes for view, kind in shape.modality.items()}
    width = max(shape.hidden_dim for shape in shapes)
    return HeadShape(dict(sorted(dims.items())), modality, shapes[0].num_classes, width)


def stack_networks(network: FusionNetwork, own: Sequence[FusionNetwork]) -> FusionNetwork:
    """Make one network of M models, each of them in the first rows and columns, all else zero.

    Args:
        network: Of M models and a shape that encloses the shape of each of `own`.
        own: M networks of one model each.
    """
    with torch.no_grad():
        parts = [dict(each.named_parameters()) for each in own]
        for name, parameter in network.named_parameters():
            parameter.zero_()
            for model, part in enumerate(parts):
                if name in part:
                    inside = tuple(slice(0, size) for size in part[name].shape[1:])
                    parameter[model][inside] = part[name][0]
    for module in network.modules():
        if isinstance(module, PaddingMask):
            module.fit([each.shape for each in own])
    return network
