"""Every token head keeps the promises of a head, over sequences of any length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pairfuse.errors import CheckpointError
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.heads import FusionNetwork
from toys.fusion import TOKEN_HEADS

every_head = pytest.mark.parametrize("head", TOKEN_HEADS)
SHAPE = HeadShape(
    {"look": 5, "more": 4, "words": 6}, {"look": "image", "more": "text", "words": "text"}, 3, 8
)
LENGTHS = {"look": 4, "more": 2, "words": 5}
Stack = dict[str, Tensor]


def _tokens(rows: int, *, seed: int = 0) -> tuple[Stack, Stack]:
    """Drawn tokens, and masks in which each row has a length of its own, from one up."""
    random = torch.Generator().manual_seed(seed)
    views, there = {}, {}
    for view, length in LENGTHS.items():
        views[view] = torch.randn(rows, length, SHAPE.dims[view], generator=random)
        ends = torch.randint(1, length + 1, (rows, 1), generator=random)
        there[view] = torch.arange(length) < ends
    return views, there


def _hidden(there: Stack, view: str, rows: list[int]) -> Stack:
    mask = there[view].clone()
    mask[rows] = False
    return {**there, view: mask}


@every_head
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_logits_have_one_row_for_each_pair(head: str, rows: int) -> None:
    logits = FusionNetwork(head, SHAPE)(*_tokens(rows))
    assert logits.shape == (rows, 3)
    assert logits.isfinite().all()


@every_head
def test_the_loss_reaches_every_token_that_is_there_and_no_other(head: str) -> None:
    views, there = _tokens(6)
    leaves = {view: values.clone().requires_grad_() for view, values in views.items()}
    FusionNetwork(head, SHAPE)(leaves, there)[..., 0].square().sum().backward()
    for view, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.equal(leaf.grad.abs().sum(dim=-1) > 0, there[view]), view


@every_head
def test_every_parameter_but_unused_stand_ins_gets_a_gradient(head: str) -> None:
    net = FusionNetwork(head, SHAPE)
    net(*_tokens(6))[..., 0].square().sum().backward()
    for name, parameter in net.named_parameters():
        if not name.startswith("missing"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@every_head
@pytest.mark.parametrize("view", list(LENGTHS))
def test_tokens_that_are_not_there_do_not_show(head: str, view: str) -> None:
    views, there = _tokens(4)
    there = _hidden(there, view, [1, 2])
    garbage = {v: torch.where(there[v][..., None], x, torch.inf) for v, x in views.items()}
    net = FusionNetwork(head, SHAPE)
    logits = net(views, there)
    assert logits.isfinite().all()
    assert torch.equal(logits, net(garbage, there))


@every_head
def test_more_padding_changes_nothing(head: str) -> None:
    views, there = _tokens(4)
    longer = {v: torch.cat([x, torch.ones(4, 3, x.shape[-1])], dim=1) for v, x in views.items()}
    mask = {v: torch.cat([m, torch.zeros(4, 3, dtype=torch.bool)], 1) for v, m in there.items()}
    net = FusionNetwork(head, SHAPE)
    assert torch.allclose(net(views, there), net(longer, mask), atol=1e-6)


@every_head
def test_a_row_alone_gets_the_logits_it_gets_in_company(head: str) -> None:
    (views, there), net = _tokens(5), FusionNetwork(head, SHAPE)
    row = net({v: x[2:3] for v, x in views.items()}, {v: m[2:3] for v, m in there.items()})
    assert torch.allclose(row[0], net(views, there)[2], atol=1e-6)


@every_head
def test_a_pair_without_any_token_gets_finite_logits(head: str) -> None:
    views, there = _tokens(3)
    for view in LENGTHS:
        there = _hidden(there, view, [1])
    assert FusionNetwork(head, SHAPE)(views, there).isfinite().all()


@every_head
@pytest.mark.parametrize("view", list(LENGTHS))
def test_the_stand_in_of_a_missing_view_is_learnt(head: str, view: str) -> None:
    views, there = _tokens(4)
    net = FusionNetwork(head, SHAPE)
    net(views, _hidden(there, view, [1]))[..., 0].square().sum().backward()
    for name, vector in net.missing.items():
        assert bool(vector.grad.any()) == (name == view)


@every_head
def test_views_may_be_given_in_any_order(head: str) -> None:
    (views, there), net = _tokens(4), FusionNetwork(head, SHAPE)
    turned = {view: views[view] for view in reversed(views)}
    assert torch.equal(net(views, there), net(turned, there))


@every_head
def test_other_views_than_it_was_built_for_are_refused(head: str) -> None:
    views, there = _tokens(2)
    with pytest.raises(CheckpointError, match="was built for views"):
        FusionNetwork(head, SHAPE)({"words": views["words"]}, there)


@every_head
def test_tokens_of_one_modality_are_enough(head: str) -> None:
    shape = replace(SHAPE, dims={"words": 6})
    views, there = _tokens(3)
    net = FusionNetwork(head, shape)
    assert net({"words": views["words"]}, {"words": there["words"]}).shape == (3, 3)


@every_head
def test_an_interaction_of_tokens_is_learnt(head: str) -> None:
    """The label is whether a sign in the text's tokens and one in the image's agree."""
    random = torch.Generator().manual_seed(0)
    shape = HeadShape({"look": 2, "words": 2}, {"look": "image", "words": "text"}, 2, 16)
    views = {v: torch.randn(600, 3, 2, generator=random) for v in shape.dims}
    signs = torch.randint(0, 2, (2, 600), generator=random)
    for view, sign in zip(shape.dims, signs, strict=True):
        views[view][:, 0, 0] = 3.0 * (2 * sign - 1)
        views[view][:, 1:, 0] = 0
    there = {view: torch.ones(600, 3, dtype=torch.bool) for view in shape.dims}
    targets, net = (signs[0] == signs[1]).long(), FusionNetwork(head, shape)
    adam = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0)
    train, test = slice(0, 400), slice(400, 600)
    for _ in range(60):
        logits = net(*({v: x[train] for v, x in part.items()} for part in (views, there)))
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets[train]).backward()
        adam.step()
    logits = net(*({v: x[test] for v, x in part.items()} for part in (views, there)))
    assert (logits.argmax(dim=-1) == targets[test]).float().mean() > 0.9
