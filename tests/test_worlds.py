"""Worlds: the best rule for each modality does as well as the world's equations say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.study.crossfit import Table
from toys.worlds import IMAGE, TEXT, World, draw_world

ROWS = 6000
#: Strong enough that the class shown is plain to see.
PLAIN = World(classes=3, text_strength=12.0, image_strength=12.0)


def seen(table: Table, view: str) -> Ints:
    """The class that each row of a view shows, numbered by its first row: no frame is needed."""
    from sklearn.cluster import KMeans

    found = KMeans(3, n_init=3, random_state=0).fit_predict(table.views.features[view])
    return np.asarray(found, dtype=np.int64)


def best_share(cues: Ints, targets: Ints) -> float:
    """Accuracy of the best rule from cues to labels."""
    return sum(np.bincount(targets[cues == cue]).max() for cue in np.unique(cues)) / len(targets)


def both(text: Ints, image: Ints) -> Ints:
    return text * 3 + image


@pytest.mark.parametrize(
    ("kinds", "text", "image", "together"),
    [
        ({}, 1 / 3, 1 / 3, 1 / 3),
        ({"text": 1.0}, 1.0, 1 / 3, 1.0),
        ({"image": 1.0}, 1 / 3, 1.0, 1.0),
        ({"added": 1.0}, 1.0, 1.0, 1.0),
        ({"interaction": 1.0}, 1 / 3, 1 / 3, 1.0),
        ({"text": 0.4}, 0.4 + 0.6 / 3, 1 / 3, 0.4 + 0.6 / 3),
    ],
)
def test_the_label_shows_where_the_world_says(
    kinds: dict[str, float], text: float, image: float, together: float
) -> None:
    table = draw_world(replace(PLAIN, **kinds), ROWS, seed=1)
    words, look = seen(table, TEXT), seen(table, IMAGE)
    assert best_share(words, table.targets) == pytest.approx(text, abs=0.03)
    assert best_share(look, table.targets) == pytest.approx(image, abs=0.03)
    assert best_share(both(words, look), table.targets) == pytest.approx(together, abs=0.03)


def test_an_interaction_is_at_chance_for_each_modality_where_classes_are_unequal() -> None:
    table = draw_world(replace(PLAIN, interaction=1.0, imbalance=3.0), ROWS, seed=2)
    largest = np.bincount(table.targets).max() / ROWS
    for view in (TEXT, IMAGE):
        assert best_share(seen(table, view), table.targets) == pytest.approx(largest, abs=0.02)


def test_text_and_image_of_an_added_world_are_independent_given_the_label() -> None:
    world = World(added=1.0, text_strength=2.0, image_strength=2.0)
    table = draw_world(world, ROWS, seed=3)
    for target in (0, 1):
        rows = table.views.rows(table.targets == target)
        joint = np.corrcoef(rows.features[TEXT].T, rows.features[IMAGE].T)
        assert abs(joint[:12, 12:]).max() < 0.09  # 144 correlations of 3000 rows


def test_classes_have_the_shares_that_the_imbalance_says() -> None:
    world = World(classes=3, imbalance=4.0)
    assert world.prior[0] / world.prior[2] == pytest.approx(4.0)
    counts = np.bincount(draw_world(world, ROWS, seed=4).targets)
    assert counts / ROWS == pytest.approx(world.prior, abs=0.02)


def test_noise_draws_so_many_labels_again() -> None:
    table = draw_world(replace(PLAIN, text=1.0, noise=0.3), ROWS, seed=5)
    assert best_share(seen(table, TEXT), table.targets) == pytest.approx(0.8, abs=0.02)


def test_duplicates_have_one_group_and_the_same_features() -> None:
    table = draw_world(World(duplicates=0.2), ROWS, seed=6)
    _, first, group = np.unique(table.groups, return_index=True, return_inverse=True)
    for values in table.views.features.values():
        assert np.array_equal(values, values[first[group]])
    assert 1 - len(first) / ROWS == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("disputed", "differ"), [(0.0, 0.0), (0.5, 0.25)])
def test_so_many_duplicates_are_labelled_anew(disputed: float, differ: float) -> None:
    table = draw_world(World(duplicates=0.2, disputed=disputed), ROWS, seed=7)
    _, first, group = np.unique(table.groups, return_index=True, return_inverse=True)
    copies = np.setdiff1d(np.arange(ROWS), first)
    other = table.targets[copies] != table.targets[first[group[copies]]]
    assert other.mean() == pytest.approx(differ, abs=0.06)


def test_another_seed_draws_new_pairs_of_the_same_world() -> None:
    world = replace(PLAIN, added=1.0)
    one, same, other = (draw_world(world, 300, seed=seed) for seed in (8, 8, 9))
    assert np.array_equal(one.views.features[TEXT], same.views.features[TEXT])
    assert not np.array_equal(one.views.features[TEXT], other.views.features[TEXT])
    for target in range(3):
        means = [t.views.features[TEXT][t.targets == target].mean(axis=0) for t in (one, other)]
        assert means[0] == pytest.approx(means[1], abs=0.6)


def test_another_number_shows_the_classes_elsewhere() -> None:
    tables = [draw_world(replace(PLAIN, added=1.0, number=n), 300, seed=8) for n in (0, 1)]
    means = [t.views.features[TEXT][t.targets == 0].mean(axis=0) for t in tables]
    assert abs(means[0] - means[1]).max() > 2


def test_kinds_of_more_than_all_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 1\.2"):
        World(text=0.6, image=0.6)
