"""Layers of a stack leave each other alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pairfuse.fusion.layers import (
    Dropout,
    JoinedLinear,
    Missing,
    ModalityDropout,
    StackedLinear,
)


def _seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_layer_of_a_stack_is_the_layer_alone() -> None:
    inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(9))
    together = StackedLinear(4, 2, _seeded(7, 8, 9))(inputs)
    for place, seed in enumerate((7, 8, 9)):
        alone = StackedLinear(4, 2, _seeded(seed))(inputs[place : place + 1])
        assert torch.allclose(alone[0], together[place], atol=1e-6)


def test_a_stacked_layer_maps_as_torch_does() -> None:
    layer, torchs = StackedLinear(4, 2, _seeded(1)), torch.nn.Linear(4, 2)
    with torch.no_grad():
        torchs.weight.copy_(layer.weight[0].T)
        torchs.bias.copy_(layer.bias[0, 0])
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(layer(inputs[None])[0], torchs(inputs), atol=1e-6)


def test_dropout_keeps_its_share_and_the_mean() -> None:
    drop = Dropout(torch.tensor([0.0, 0.25, 0.9]), 400)
    drop.begin(1, 1)
    dropped = drop(torch.ones(3, 400, 100), "hidden")
    assert torch.equal(dropped[0], torch.ones(400, 100))
    for place, rate in ((1, 0.25), (2, 0.9)):
        assert (dropped[place] == 0).float().mean() == pytest.approx(rate, abs=0.01)
        assert dropped[place].mean() == pytest.approx(1, abs=0.05)


def test_dropout_goes_on_the_same_when_another_model_leaves() -> None:
    ones = torch.ones(2, 6, 6)
    stays, shrinks = (Dropout(torch.tensor([0.5, 0.5]), 6) for _ in range(2))
    assert torch.equal(stays(ones, "hidden"), shrinks(ones, "hidden"))
    shrinks.select(torch.tensor([1]))
    assert torch.equal(stays(ones, "hidden")[1], shrinks(ones[:1], "hidden")[0])


def test_dropout_of_a_narrow_model_is_that_of_the_wide_stack_it_lies_in() -> None:
    narrow, wide = (Dropout(torch.tensor([0.5]), 8) for _ in range(2))
    for step in range(3):
        narrow.begin(1, step)
        wide.begin(1, step)
        for place in ("words", "hidden"):
            dropped = wide(torch.ones(1, 8, 20), place)
            assert torch.equal(narrow(torch.ones(1, 8, 6), place), dropped[..., :6])
            assert 0.3 < (dropped == 0).float().mean() < 0.7


def test_each_step_and_each_place_in_the_network_drops_others() -> None:
    drop = Dropout(torch.tensor([0.5]), 64)
    seen = []
    for epoch, step in ((1, 1), (1, 2), (2, 1)):
        drop.begin(epoch, step)
        seen += [drop(torch.ones(1, 64, 32), place) != 0 for place in ("words", "hidden")]
    for number, one in enumerate(seen):
        for other in seen[:number]:
            assert (one == other).float().mean() == pytest.approx(0.5, abs=0.06)


def test_joined_inputs_map_as_one_matrix_does() -> None:
    joined, torchs = JoinedLinear({"a": 3, "b.c": 2}, 4, _seeded(1)), torch.nn.Linear(5, 4)
    a, b = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(2)).split([3, 2], dim=-1)
    with torch.no_grad():
        torchs.weight.copy_(torch.cat([block[0] for block in joined.blocks.values()]).T)
        torchs.bias.copy_(joined.bias[0, 0])
    found = joined({"a": a[:1], "b.c": b[:1]})[0]
    assert torch.allclose(found, torchs(torch.cat([a[0], b[0]], dim=-1)), atol=1e-6)


def test_a_present_row_passes_and_a_missing_one_is_replaced() -> None:
    layer = Missing(3, 2)
    with torch.no_grad():
        layer.vector.copy_(torch.tensor([7.0, 8.0]).reshape(2, 1, 1).expand(-1, -1, 3))
    inputs = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    out, _ = layer(inputs, torch.tensor([[True, False], [False, True]]))
    assert torch.equal(out[0, 0], inputs[0, 0])
    assert torch.equal(out[1, 1], inputs[1, 1])
    assert out[0, 1].tolist() == [7.0] * 3
    assert out[1, 0].tolist() == [8.0] * 3


def _left(rates: list[float], **hidden: int) -> dict[str, torch.Tensor]:
    """What 4,000 rows of two texts and an image still have, of which some lack a view already."""
    lose = ModalityDropout(
        torch.tensor(rates),
        [("one", "two", "look")] * len(rates),
        {"one": "text", "two": "text", "look": "image"},
    )
    lose.begin(1, 2)
    present = {view: torch.tensor(True) for view in ("one", "two", "look")}
    for view, row in hidden.items():
        present[view] = torch.ones(len(rates), 4000, dtype=torch.bool)
        present[view][:, :row] = False
    return dict(lose(present, lose.draw(4000)))


def test_modality_dropout_hides_one_modality_in_its_share_of_rows() -> None:
    left = _left([0.0, 0.4])
    assert all(there[0].all() for there in left.values())
    assert torch.equal(left["one"][1], left["two"][1])
    for view in left:
        assert (~left[view][1]).float().mean() == pytest.approx(0.2, abs=0.03)
    assert (left["one"] | left["look"]).all()


def test_modality_dropout_takes_no_row_its_only_modality() -> None:
    left = _left([0.9], look=1000)
    assert left["one"][0, :1000].all()
    assert not left["look"][0, :1000].any()
    assert not left["one"][0, 1000:].all()


def test_a_view_that_a_model_does_not_use_is_no_reason_to_lose_another() -> None:
    """In a stack such a view counts as present; the row of this model has but its text."""
    modality = {"one": "text", "look": "image", "sight": "image"}
    lose = ModalityDropout(torch.tensor([0.9]), [("one", "look")], modality)
    present = {view: torch.tensor(True) for view in modality}
    present["look"] = torch.zeros(1, 500, dtype=torch.bool)
    assert lose(present, lose.draw(500))["one"].all()


def test_each_step_hides_other_modalities() -> None:
    lose = ModalityDropout(torch.tensor([0.5]), [("one", "look")], {"one": "text", "look": "image"})
    seen = []
    for epoch, step in ((1, 1), (1, 2), (2, 1)):
        lose.begin(epoch, step)
        seen.append(lose.draw(64))
        assert torch.equal(lose.draw(64), seen[-1])
    assert not any(torch.equal(one, other) for one, other in pairwise(seen))
