"""Every head keeps the same promises: shapes, gradients, missing views, what it can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.heads import HEADS, FusionNetwork, check_head
from pairfuse.fusion.training import train_stack
from toys.fusion import (
    DIMS,
    PLAIN,
    POOLED_HEADS,
    TOKEN_HEADS,
    f1_of,
    farthest,
    network,
    noise,
    reversed_views,
    split_task,
    stand_ins,
    task,
    tensors,
    told_by_both,
    without,
)

every_head = pytest.mark.parametrize("head", POOLED_HEADS)
STRANGE_VIEWS = [
    pytest.param(noise(3).only(["words"]), id="fewer"),
    pytest.param(noise(3, dims={**DIMS, "sound": 2}), id="more"),
    pytest.param(noise(3, dims={"words": 6, "look": 4}), id="narrower"),
    pytest.param(noise(3, dims={"words": 6, "sight": 5}), id="renamed"),
]


@every_head
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_logits_have_one_row_for_each_pair(head: str, rows: int) -> None:
    logits = network(head, classes=4)(*tensors(noise(rows)))
    assert logits.shape == (rows, 4)
    assert logits.isfinite().all()


@every_head
def test_the_loss_reaches_every_view(head: str) -> None:
    features, present = tensors(noise(9))
    leaves = {view: values.clone().requires_grad_() for view, values in features.items()}
    network(head)(leaves, present)[..., 0].square().sum().backward()
    for view in DIMS:
        gradient = leaves[view].grad
        assert gradient is not None, view
        assert (gradient.abs().sum(dim=-1) > 0).all(), view


@every_head
def test_every_parameter_but_unused_stand_ins_gets_a_gradient(head: str) -> None:
    net = network(head)
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    torch.nn.functional.cross_entropy(net(*tensors(noise(6))), targets).backward()
    for name, parameter in net.named_parameters():
        if not name.startswith("missing"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@every_head
@pytest.mark.parametrize("view", list(DIMS))
def test_a_missing_view_does_not_show_what_its_row_holds(head: str, view: str) -> None:
    hidden = without(noise(4), view, [1, 2])
    garbage = {**hidden.features, view: hidden.features[view].copy()}
    garbage[view][[1, 2]] = 1e6
    net = network(head)
    logits = net(*tensors(hidden))
    assert logits.isfinite().all()
    assert torch.equal(logits, net(*tensors(Views(garbage, hidden.present, hidden.modality))))


@every_head
def test_a_pair_without_any_view_gets_finite_logits(head: str) -> None:
    bare = without(without(noise(4), "words", 2), "look", 2)
    assert network(head)(*tensors(bare)).isfinite().all()


@pytest.mark.parametrize("head", [name for name in POOLED_HEADS if name != "late"])
@pytest.mark.parametrize("view", list(DIMS))
def test_the_stand_in_of_a_missing_view_is_learnt(head: str, view: str) -> None:
    whole = task(replace(PLAIN, head=head, epochs=2))
    lacking = replace(whole, train=without(whole.train, view, range(40)))
    [model] = train_stack([lacking])
    moved = {name: float(values.detach().abs().sum()) for name, values in stand_ins(model).items()}
    assert moved.pop(f"missing.{view}") > 0
    assert set(moved.values()) == {0.0}


def test_late_lets_a_missing_modality_have_no_vote() -> None:
    net = network("late")
    lacking = without(noise(5), "look", slice(None))
    before = net(*tensors(lacking))
    with torch.no_grad():
        for parameter in net.head.classifiers["image"].parameters():
            parameter.add_(1.0)
        net.head.votes[0] += 3
    assert torch.allclose(before, net(*tensors(lacking)), atol=1e-6)
    assert not torch.allclose(before, net(*tensors(noise(5))), atol=1e-3)


@every_head
def test_views_may_be_given_in_any_order(head: str) -> None:
    net = network(head)
    assert torch.equal(net(*tensors(noise(5))), net(*tensors(reversed_views(noise(5)))))


@every_head
def test_a_head_is_drawn_from_its_own_seed(head: str) -> None:
    """Neither from what was drawn before it, nor does what is drawn after it depend on it."""
    torch.manual_seed(1)
    one = network(head)
    after = torch.rand(1)
    other = network(head)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    for (name, values), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(values, same), name


@every_head
def test_a_model_trained_on_views_in_another_order_is_the_same(head: str) -> None:
    recipe = replace(PLAIN, head=head, epochs=3, dropout=0.3)
    given = task(recipe)
    turned = replace(given, train=reversed_views(given.train), val=reversed_views(given.val))
    [one], [other] = train_stack([given]), train_stack([turned])
    assert farthest(one, other) == 0


@every_head
@pytest.mark.parametrize("views", STRANGE_VIEWS)
def test_other_views_than_it_was_built_for_are_refused(head: str, views: Views) -> None:
    with pytest.raises(CheckpointError, match="was built for views"):
        network(head)(*tensors(views))


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=", ".join(HEADS)):
        FusionNetwork("mystery", HeadShape(DIMS, {}, 2, 8))


@every_head
def test_a_view_may_have_a_dot_in_its_name(head: str) -> None:
    shape = HeadShape({"bert-v1.5": 3}, {"bert-v1.5": "text"}, 2, 4)
    views = noise(2, dims={"bert-v1.5": 3})
    assert FusionNetwork(head, shape)(*tensors(views)).shape == (2, 2)


@every_head
def test_a_label_told_by_one_view_is_learnt(head: str) -> None:
    recipe = replace(PLAIN, head=head, epochs=25, patience=25)
    learnt = task(recipe, rows=400, val=200)
    [model] = train_stack([learnt])
    assert f1_of(model, learnt.val, learnt.val_targets) > 0.85


#: Macro-F1 in the world that neither modality tells alone, where a head cannot reach all of it:
#: late and linear cannot by construction, attention but in part, as it sums its views.
BOUNDS = {"late": (0.0, 0.7), "linear": (0.0, 0.7), "attention": (0.65, 0.9)}


@every_head
def test_an_interaction_is_learnt_only_where_the_views_are_joined(head: str) -> None:
    recipe = replace(PLAIN, head=head, epochs=40, patience=40, hidden_dim=32)
    given = split_task(*told_by_both(700), 300, recipe)
    [model] = train_stack([given])
    least, most = BOUNDS.get(head, (0.9, 1.0))
    assert least <= f1_of(model, given.val, given.val_targets) <= most


@every_head
@pytest.mark.parametrize("width", [1, 7])
def test_any_width_will_do(head: str, width: int) -> None:
    assert network(head, width=width)(*tensors(noise(3))).isfinite().all()


@every_head
def test_views_of_one_modality_are_enough(head: str) -> None:
    shape = HeadShape({"one": 3, "two": 4}, {"one": "text", "two": "text"}, 2, 8)
    views = noise(5, dims={"one": 3, "two": 4})
    assert FusionNetwork(head, shape)(*tensors(views)).shape == (5, 2)


@pytest.mark.parametrize("head", TOKEN_HEADS)
def test_a_head_that_reads_tokens_is_refused_on_pooled_views(head: str) -> None:
    with pytest.raises(ConfigError, match="the identity; choose bilinear") as caught:
        check_head(head)
    assert "\n" not in str(caught.value)
