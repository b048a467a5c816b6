"""Folds: every row held out once, groups never on two sides, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.errors import DataError
from pairfuse.fusion.fitting import RowSet, ScaledRowSet
from pairfuse.study.folds import fold_numbers, make_folds, outer_folds

LABELS = ("negative", "neutral", "positive")
SHARES = np.array([0.3, 0.15, 0.55])
SIZES = [(2, 1), (2, 3), (5, 1), (5, 3), (7, 2)]
every_size = pytest.mark.parametrize(("folds", "members"), SIZES)


def _given(rows: int = 300, *, seed: int = 0) -> tuple[Ints, Ints]:
    """Labels of unequal classes; every third row is a copy of another one, now and then a few."""
    random = np.random.default_rng(seed)
    targets = random.choice(3, size=rows, p=SHARES).astype(np.int64)
    groups = np.arange(rows, dtype=np.int64)
    groups[::3] = random.integers(0, rows // 10, len(groups[::3]))
    return targets, groups


def _folds(folds: int = 5, members: int = 3, *, seed: int = 0, rows: int = 300) -> list[RowSet]:
    return make_folds(*_given(rows), LABELS, folds=folds, n_models=members, seed=seed)


def _numbers(parts: list[RowSet]) -> list[list[list[int]]]:
    return [[part.train.tolist(), part.val.tolist(), part.held_out.tolist()] for part in parts]


@every_size
def test_every_row_is_held_out_once_by_each_member(folds: int, members: int) -> None:
    found = _folds(folds, members)
    assert len(found) == folds * members
    for member in range(members):
        held = np.concatenate([part.held_out for part in found[member::members]])
        assert sorted(held.tolist()) == list(range(300))


@every_size
def test_the_three_sets_of_a_fold_share_no_row_and_no_group(folds: int, members: int) -> None:
    _, groups = _given()
    for part in _folds(folds, members):
        sides = [set(groups[rows].tolist()) for rows in (part.train, part.val, part.held_out)]
        assert all(sides)
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert len(part.train) + len(part.val) + len(part.held_out) == 300


@every_size
def test_each_set_has_about_the_shares_of_the_whole(folds: int, members: int) -> None:
    targets, _ = _given()
    whole = np.bincount(targets) / len(targets)
    for part in _folds(folds, members):
        for rows in (part.train, part.held_out):
            shares = np.bincount(targets[rows], minlength=3) / len(rows)
            assert abs(shares - whole).max() < 0.12
        assert set(targets[part.val].tolist()) == {0, 1, 2}


def test_members_of_a_fold_hold_out_the_same_rows_and_watch_others() -> None:
    found = _folds(5, 3)
    for start in range(0, 15, 3):
        members = found[start : start + 3]
        assert {tuple(part.held_out.tolist()) for part in members} == {
            tuple(members[0].held_out.tolist())
        }
        watched = [set(part.val.tolist()) for part in members]
        assert not watched[0] & watched[1]
        assert not watched[1] & watched[2]


def test_about_one_row_in_eight_watches() -> None:
    for part in _folds(5, 3):
        share = len(part.val) / (len(part.val) + len(part.train))
        assert 0.06 < share < 0.2


def test_the_same_seed_gives_the_same_folds() -> None:
    assert _numbers(_folds(seed=4)) == _numbers(_folds(seed=4))
    assert _numbers(_folds(seed=4)) != _numbers(_folds(seed=5))


def test_more_members_leave_the_earlier_ones_as_they_were() -> None:
    one, three = _folds(5, 1), _folds(5, 3)
    assert _numbers(one) == _numbers(three[::3])


@pytest.mark.parametrize(("folds", "pairs"), [(5, 4), (5, 1), (3, 2), (2, 3), (4, 0)])
def test_a_class_with_too_few_different_pairs_is_an_error_that_names_it(
    folds: int, pairs: int
) -> None:
    targets = np.array([0] * 50 + [1] * 50 + [2] * pairs, dtype=np.int64)
    groups = np.arange(len(targets), dtype=np.int64)
    with pytest.raises(DataError, match=f"label 'positive' has {pairs} different pairs"):
        make_folds(targets, groups, LABELS, folds=folds, n_models=1, seed=0)


def test_copies_do_not_count_as_different_pairs() -> None:
    targets = np.array([0] * 50 + [1] * 50 + [2] * 30, dtype=np.int64)
    groups = np.arange(len(targets), dtype=np.int64)
    groups[100:] = 100 + np.arange(30) % 2
    with pytest.raises(DataError, match="'positive' has 2 different pairs"):
        make_folds(targets, groups, LABELS, folds=5, n_models=1, seed=0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_as_few_pairs_as_there_are_folds_are_enough(folds: int) -> None:
    fewest = 4 if folds == 2 else folds
    targets = np.array([0] * 40 + [1] * fewest, dtype=np.int64)
    groups = np.arange(len(targets), dtype=np.int64)
    for part in make_folds(targets, groups, LABELS[:2], folds=folds, n_models=2, seed=0):
        assert set(targets[part.train].tolist()) == {0, 1}


def test_each_repeat_deals_every_row_once_and_differently() -> None:
    targets, groups = _given()
    parts = make_folds(targets, groups, LABELS, folds=5, repeats=2, n_models=1, seed=0)
    assert [part.repeat for part in parts] == [0] * 5 + [1] * 5
    for repeat in (0, 1):
        held = np.concatenate([part.held_out for part in parts if part.repeat == repeat])
        assert np.array_equal(np.sort(held), np.arange(len(targets)))
    assert {tuple(p.held_out) for p in parts[:5]}.isdisjoint(tuple(p.held_out) for p in parts[5:])


def test_the_first_repeat_is_that_of_no_repeats() -> None:
    targets, groups = _given()
    once = make_folds(targets, groups, LABELS, folds=5, n_models=2, seed=3)
    twice = make_folds(targets, groups, LABELS, folds=5, repeats=2, n_models=2, seed=3)
    assert _numbers(once) == _numbers(twice[:10])


def test_row_sets_of_a_fold_are_put_together() -> None:
    targets, groups = _given()
    parts = make_folds(targets, groups, LABELS, folds=3, repeats=2, n_models=2, seed=0)
    folds = outer_folds([ScaledRowSet(rows, {}) for rows in parts])
    assert [fold.sets for fold in folds] == [(n, n + 1) for n in range(0, 12, 2)]
    assert [fold.repeat for fold in folds] == [0, 0, 0, 1, 1, 1]
    numbers = fold_numbers(folds, len(targets))
    assert all((numbers[fold.repeat, fold.held_out] == n).all() for n, fold in enumerate(folds))


def test_published_folds_are_held_out_and_their_twins_do_not_train() -> None:
    targets = np.arange(24, dtype=np.int64) % 2
    groups = np.arange(24, dtype=np.int64)
    groups[23] = 0  # a twin of the first row in another fold
    published = np.repeat([3, 5, 9], 8)
    parts = make_folds(
        targets, groups, LABELS[:2], folds=3, n_models=2, seed=0, repeats=2, published=published
    )
    for part, number in zip(parts, np.tile([3, 3, 5, 5, 9, 9], 2), strict=True):
        assert part.held_out.tolist() == np.flatnonzero(published == number).tolist()
        trained = np.concatenate([part.train, part.val])
        assert not set(groups[trained].tolist()) & set(groups[part.held_out].tolist())
    assert 23 not in [*parts[0].train, *parts[0].val]


def test_published_folds_of_another_number_are_an_error() -> None:
    targets = np.arange(24, dtype=np.int64) % 2
    published = np.repeat([0, 1, 2], 8)
    with pytest.raises(DataError, match="the split file has 3 folds; use --folds 3"):
        make_folds(
            targets,
            np.arange(24),
            LABELS[:2],
            folds=5,
            n_models=1,
            seed=0,
            published=published,
        )


def test_kept_rare_classes_are_spread_and_stay_in_training_where_they_can() -> None:
    targets = np.array([0] * 30 + [1] * 30 + [2] * 2, dtype=np.int64)
    groups = np.arange(len(targets), dtype=np.int64)
    parts = make_folds(targets, groups, LABELS, folds=5, n_models=2, seed=0, keep_rare=True)
    held = [part.held_out for part in parts[::2]]
    assert sorted(np.concatenate(held).tolist()) == list(range(62))
    assert max(int((targets[rows] == 2).sum()) for rows in held) == 1
    for part in parts:
        assert len(part.val) < len(part.train) / 3
        inside = set(targets.tolist()) if 2 not in targets[part.held_out] else {0, 1, 2}
        assert inside == set(targets[part.train].tolist())
