"""Parts of heads are what torch's are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pairfuse.fusion.blocks import ATTENTION_HEADS, Attention, HeadShape, Norm

SHAPE = HeadShape({"words": 3, "look": 2}, {"words": "text", "look": "image"}, 2, 8)


def _random(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(2))


def _seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_norm_is_torchs() -> None:
    rows = _random(2, 5, 8)
    assert torch.allclose(Norm(SHAPE, 2)(rows), nn.LayerNorm(8)(rows), atol=1e-6)


def test_attention_is_torchs() -> None:
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


@pytest.mark.parametrize("width", [1, 5, 8, 30])
def test_attention_takes_any_width(width: int) -> None:
    shape = replace(SHAPE, hidden_dim=width)
    tokens = _random(1, 2, 3, width)
    assert Attention(shape, _seeded(0))(tokens, tokens).shape == tokens.shape
