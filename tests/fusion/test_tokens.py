"""Tokens in training: gathered for all models of a stack, pooled by learnt attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pairfuse.encoders.tokens import Tokens, offsets_of
from pairfuse.features.store import FeatureStore
from pairfuse.features.token_views import TokenRows, open_tokens
from pairfuse.features.views import Views
from pairfuse.fusion.blocks import AttentionPooling
from pairfuse.fusion.rowbank import TokenBank
from pairfuse.fusion.scaling import fit_scaling, scale
from toys.fusion import noise

LENGTHS = [3, 1, 4, 2, 2, 5]
DIM = 3


@pytest.fixture
def sequences(tmp_path: Path) -> TokenRows:
    """Six rows; the one before the last is missing."""
    store = FeatureStore(tmp_path / "parts", "words", "text", "ab" * 32, 1, token_dim=DIM)
    keys = [bytes([number]) * 32 for number in range(6)]
    values = np.random.default_rng(0).standard_normal((sum(LENGTHS), DIM)).astype(np.float16)
    store.add(keys, np.zeros((6, 1), np.float32), Tokens(values, offsets_of(LENGTHS)))
    return open_tokens(store, [*keys[:4], None, keys[5]])


def views(sequences: TokenRows) -> Views:
    plain = noise(6)
    return Views(plain.features, plain.present, plain.modality, {"words": sequences})


def bank(*rows: Views) -> TokenBank:
    return TokenBank(rows, torch.device("cpu"))


def test_rows_views_and_scaling_keep_the_tokens_of_their_rows(sequences: TokenRows) -> None:
    whole = views(sequences)
    index = np.array([5, 2])
    some = scale(whole, fit_scaling(whole, seed=0)).rows(index).only(["words"])
    assert (some.tokens["words"].take(np.array([0, 1]))[0] == sequences.take(index)[0]).all()
    assert not whole.only(["look"]).tokens


def test_each_model_of_a_stack_gets_the_tokens_of_its_own_rows(sequences: TokenRows) -> None:
    whole = views(sequences)
    parts = [whole.rows(np.array(rows)) for rows in ([0, 1, 2], [5, 4, 3])]
    place = torch.tensor([[1, 0], [2, 1]])  # of the whole: 1, 0 and 3, 4
    found = bank(*parts)
    tokens, there = found.take([0, 1], place)
    assert tokens["words"].shape == (2, 2, 3, DIM)
    assert there["words"].sum(dim=2).tolist() == [[1, 3], [2, 0]]
    for model, row, number in ((0, 0, 1), (0, 1, 0), (1, 0, 3)):
        values, mask = sequences.take(np.array([number]))
        own = tokens["words"][model, row][there["words"][model, row]]
        assert (own.numpy() == values[0][mask[0]]).all()
    assert not tokens["words"][~there["words"]].any()


def test_models_that_are_left_in_a_stack_get_their_own_tokens(sequences: TokenRows) -> None:
    whole = views(sequences)
    parts = [whole.rows(np.array(rows)) for rows in ([0, 1, 2], [5, 4, 3])]
    found = bank(*parts)
    tokens, there = found.take([1], torch.tensor([[0]]))
    assert (tokens["words"][0].numpy() == sequences.take(np.array([5]))[0]).all()
    assert there["words"].all()


def pooling() -> AttentionPooling:
    torch.manual_seed(0)
    return AttentionPooling(DIM, 8)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randn(4, 5, DIM, generator=torch.Generator().manual_seed(0))
    return tokens, torch.arange(5) < torch.tensor([1, 5, 3, 0])[:, None]


def test_attention_pooling_gives_a_weighted_mean_of_the_real_tokens() -> None:
    tokens, there = batch()
    found = pooling()(tokens, there)
    assert found.shape == (4, DIM)
    assert torch.allclose(found[0], tokens[0, 0])  # its only token
    own = tokens[2, :3]
    assert (found[2] >= own.amin(0)).all()
    assert (found[2] <= own.amax(0)).all()


def test_attention_pooling_does_not_look_at_padding() -> None:
    tokens, there = batch()
    noisy = torch.where(there[..., None], tokens, 100.0)
    assert torch.equal(pooling()(tokens, there), pooling()(noisy, there))


def test_a_row_without_tokens_is_zeros_and_its_gradient_a_number() -> None:
    tokens, there = batch()
    net = pooling()
    found = net(tokens.requires_grad_(), there)
    assert not found[3].any()
    found.square().sum().backward()
    assert torch.isfinite(tokens.grad).all()  # type: ignore[arg-type]
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
