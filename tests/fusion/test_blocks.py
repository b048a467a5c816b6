"""Parts of heads are what torch's are, and padding stays out of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pairfuse.fusion.blocks import ATTENTION_HEADS, Attention, HeadShape, Norm, PaddingMask

SHAPE = HeadShape({"words": 3, "look": 2}, {"words": "text", "look": "image"}, 2, 8)
NARROW = replace(SHAPE, dims={"look": 2}, hidden_dim=5)


def _random(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(2))


def _seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _narrowed(part: nn.Module, own: nn.Module) -> None:
    """Make `own`, a part of NARROW, the second model: its first rows and columns, and shape."""
    theirs = dict(own.named_parameters())
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            parameter[1] = 0
            parameter[1][tuple(slice(size) for size in theirs[name].shape[1:])] = theirs[name][0]
    for module in part.modules():
        if isinstance(module, PaddingMask):
            module.fit([SHAPE, NARROW])


def test_a_norm_is_torchs() -> None:
    rows = _random(2, 5, 8)
    assert torch.allclose(Norm(SHAPE, 2)(rows), nn.LayerNorm(8)(rows), atol=1e-6)


def test_a_norm_leaves_padding_out_and_zero() -> None:
    rows = _random(2, 5, 8)
    rows[1, :, 5:] = 0
    part, own = Norm(SHAPE, 2), Norm(NARROW, 1)
    _narrowed(part, own)
    found = part(rows.requires_grad_())
    assert torch.allclose(found[0], nn.LayerNorm(8)(rows[0]), atol=1e-5)
    assert torch.allclose(found[1, :, :5], own(rows[1:, :, :5])[0], atol=1e-5)
    assert not found[1, :, 5:].any()
    found[..., :5].square().sum().backward()
    assert rows.grad is not None
    assert not rows.grad[1, :, 5:].any()


def test_attention_is_torchs_with_its_columns_in_another_order() -> None:
    ours = Attention(SHAPE, _seeded(1))
    theirs = nn.MultiheadAttention(8, ATTENTION_HEADS, batch_first=True)
    by_head = torch.arange(8).reshape(-1, ATTENTION_HEADS).T.flatten()  # ours is d * heads + h
    with torch.no_grad():
        layers = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([each.weight[0].T[by_head] for each in layers]))
        theirs.in_proj_bias.copy_(torch.cat([each.bias[0, 0, by_head] for each in layers]))
        theirs.out_proj.weight.copy_(ours.out.weight[0].T[:, by_head])
        theirs.out_proj.bias.copy_(ours.out.bias[0, 0])
    query, key = _random(1, 6, 3, 8), _random(1, 6, 4, 8) + 1
    attn_mask = torch.zeros(1, 6, 4)
    attn_mask[0, 2, 1:] = -torch.inf
    expected, _ = theirs(query[0], key[0], key[0], key_padding_mask=attn_mask[0] < 0)
    assert torch.allclose(ours(query, key, attn_mask)[0], expected, atol=1e-5)


def test_attention_of_a_narrow_model_is_that_of_the_wide_stack_it_lies_in() -> None:
    part, own = Attention(SHAPE, _seeded(1, 2)), Attention(NARROW, _seeded(3))
    _narrowed(part, own)
    tokens, attn_mask = _random(2, 6, 3, 8), torch.zeros(2, 6, 3)
    tokens[1, ..., 5:] = 0
    found = part(tokens, tokens, attn_mask)[1]
    alone = own(tokens[1:, ..., :5], tokens[1:, ..., :5], attn_mask[1:])[0]
    assert torch.allclose(found[..., :5], alone, atol=1e-6)
    assert not found[..., 5:].any()


def test_the_mean_is_over_a_models_own_views() -> None:
    padding, tokens = PaddingMask(SHAPE, 2), _random(2, 6, 2, 8)
    assert torch.allclose(padding.mean(tokens), tokens.mean(dim=2))
    padding.fit([SHAPE, NARROW])
    assert torch.allclose(padding.mean(tokens)[1], tokens[1, :, 1])


@pytest.mark.parametrize("width", [1, 5, 8, 30])
def test_attention_takes_any_width(width: int) -> None:
    shape = replace(SHAPE, hidden_dim=width)
    tokens = _random(1, 2, 3, width)
    assert Attention(shape, _seeded(0))(tokens, tokens, torch.zeros(1, 2, 3)).shape == tokens.shape
