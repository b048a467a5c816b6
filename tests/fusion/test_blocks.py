"""Parts of heads: attention is torch's, stand-ins replace what is missing and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pairfuse.fusion.blocks import ATTENTION_HEADS, Attention, fill_missing


def _random(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(2))


def test_attention_is_torchs() -> None:
    ours = Attention(8)
    theirs = nn.MultiheadAttention(8, ATTENTION_HEADS, batch_first=True)
    no_bias = torch.zeros(8)
    with torch.no_grad():
        layers = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([each.weight for each in layers]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, no_bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    query, key = _random(6, 3, 8), _random(6, 4, 8) + 1
    attn_mask = torch.zeros(6, 4)
    attn_mask[2, 1:] = -torch.inf
    expected, _ = theirs(query, key, key, key_padding_mask=attn_mask < 0)
    assert torch.allclose(ours(query, key, attn_mask), expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 5, 8, 30])
def test_attention_takes_any_width(width: int) -> None:
    tokens = _random(2, 3, width)
    assert Attention(width)(tokens, tokens).shape == tokens.shape


def test_a_present_row_passes_and_a_missing_one_is_replaced() -> None:
    values, vector = _random(3, 4), torch.full((4,), 7.0)
    present = torch.tensor([True, False, True])
    out, left = fill_missing(values, present, vector)
    assert torch.equal(out[[0, 2]], values[[0, 2]])
    assert out[1].tolist() == [7.0] * 4
    assert torch.equal(left, present)


def test_a_row_without_tokens_gets_one_and_what_pads_is_zero() -> None:
    tokens, vector = _random(2, 3, 4), torch.full((4,), 7.0)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    out, left = fill_missing(tokens, mask, vector)
    assert torch.equal(out[0, :2], tokens[0, :2])
    assert out[1, 0].tolist() == [7.0] * 4
    assert not out[0, 2].any()
    assert not out[1, 1:].any()
    assert left.tolist() == [[True, True, False], [True, False, False]]
