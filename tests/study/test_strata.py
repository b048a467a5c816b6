"""Strata find where the image helps, and say so no more often than they may."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.study.crossfit import Table
from pairfuse.study.strata import (
    AGREEMENT,
    CLUSTER,
    CLUSTERS,
    CONTENT,
    LEAST_ROWS,
    Stratum,
    agreement,
    strata,
    where,
)
from toys import fusion as toys

ROWS = 300
TEXTS = ["x" * (row % 90) for row in range(ROWS)]


def _arm(table: Table, right: Bools, *, repeats: int = 2, seed: int = 0) -> Floats:
    """Probabilities (R, N, 3) whose prediction is right in these rows and wrong in the others."""
    random = np.random.default_rng(seed)
    y_pred = np.where(right, table.targets, (table.targets + 1) % 3)
    out = random.uniform(0, 0.3, size=(repeats, len(right), 3))
    out[:, np.arange(len(right)), y_pred] = random.uniform(1, 3, size=len(right))
    return np.asarray(out / out.sum(axis=-1, keepdims=True), dtype=np.float32)


def _often(share: float, *, seed: int) -> Bools:
    return np.asarray(np.random.default_rng(seed).random(ROWS) < share)


def _table(seed: int = 0) -> Table:
    return toys.table(*toys.told_by_words(ROWS, seed=seed))


def _strata(table: Table, *rights: Bools, texts: list[str | None] | None = None) -> list[Stratum]:
    arms = tuple(_arm(table, right, seed=seed) for seed, right in enumerate(rights))
    draws = draw_groups(table.groups, seed=0, resamples=1000)
    return strata(table, texts or TEXTS, arms, draws, seed=0)


def _found(seed: int = 0) -> list[Stratum]:
    table = _table(seed)
    return _strata(table, *(_often(share, seed=n) for n, share in enumerate([0.6, 0.5, 0.7])))


def test_the_strata_of_a_kind_hold_every_row_once() -> None:
    rows: dict[str, int] = {}
    for each in _found():
        rows[each.by] = rows.get(each.by, 0) + each.rows
    assert set(rows.values()) == {ROWS}
    assert list(rows) == [
        "class",
        "text length",
        "text-only confidence",
        "image cluster",
        "text and image alone",
    ]


def test_accuracies_are_those_of_the_rows() -> None:
    table = _table()
    text, fused = _often(0.6, seed=1), _often(0.7, seed=2)
    found = _strata(table, text, _often(0.5, seed=3), fused)[1]
    rows = table.targets == 1
    assert (found.by, found.name, found.rows) == ("class", "label-1", rows.sum())
    assert found.text_only == pytest.approx(text[rows].mean())
    assert found.fused == pytest.approx(fused[rows].mean())
    assert found.difference.value == pytest.approx(found.fused - found.text_only)


def test_a_gain_in_one_class_is_found_there_and_not_in_the_others() -> None:
    table = _table()
    text = _often(0.5, seed=1)
    found = _strata(table, text, _often(0.5, seed=2), text | (table.targets == 2))
    by_class = [each for each in found if each.by == "class"]
    assert [each.p_holm < 0.05 for each in by_class] == [False, False, True]
    assert by_class[2].difference.low > 0
    assert by_class[0].difference.value == 0
    assert by_class[0].p_holm == 1


def test_nothing_is_claimed_where_there_is_nothing() -> None:
    claims = [any(each.p_holm < 0.05 for each in _null(seed)) for seed in range(20)]
    assert sum(claims) <= 3


def _null(seed: int) -> list[Stratum]:
    """Without agreement: where the image agrees text-only is right more often, drawn like this."""
    rights = [_often(0.6, seed=100 * seed + n) for n in range(3)]
    return [each for each in _strata(_table(seed), *rights) if each.by != AGREEMENT]


def test_texts_are_cut_into_thirds_by_length_and_missing_ones_put_apart() -> None:
    texts: list[str | None] = [None if row < 30 else "x" * (row % 90) for row in range(ROWS)]
    found = _strata(_table(), *([_often(0.5, seed=0)] * 3), texts=texts)
    lengths = [each for each in found if each.by == "text length"]
    assert lengths[0].name == "missing"
    assert lengths[0].rows == 30
    assert all(abs(each.rows - 90) < 12 for each in lengths[1:])
    assert [each.name.split(" ")[0] for each in lengths[1:]] == ["short", "medium", "long"]


def test_missing_modalities_are_strata_of_their_own() -> None:
    table = _table()
    views = toys.without(toys.without(table.views, "words", range(40)), "look", range(50, 80))
    found = _strata(replace(table, views=views), *([_often(0.5, seed=0)] * 3))
    presence = {each.name: each.rows for each in found if each.by == CONTENT}
    assert presence == {"text and image": 230, "image only": 40, "text only": 30}


def test_small_strata_are_left_out() -> None:
    table = _table()
    views = toys.without(table.views, "look", range(LEAST_ROWS - 1))
    found = _strata(replace(table, views=views), *([_often(0.5, seed=0)] * 3))
    assert [each.name for each in found if each.by == CONTENT] == ["text and image"]
    assert min(each.rows for each in found) >= LEAST_ROWS


def test_image_clusters_are_those_that_were_drawn_the_largest_first() -> None:
    table = _table()
    random = np.random.default_rng(0)
    kind = random.choice(CLUSTERS, size=ROWS, p=[0.3, 0.2, 0.15, 0.13, 0.12, 0.1])
    look = 20 * np.eye(CLUSTERS)[kind] + random.normal(size=(ROWS, CLUSTERS))
    views = replace(table.views, features={**table.views.features, "look": look.astype("f4")})
    found = _strata(replace(table, views=views), *([_often(0.5, seed=0)] * 3))
    clusters = [each for each in found if each.by == CLUSTER]
    sizes = sorted(np.bincount(kind).tolist(), reverse=True)
    assert [each.rows for each in clusters] == sizes
    assert clusters[0].name == f"1 ({sizes[0]} pairs)"


def test_pictures_that_are_all_alike_form_no_clusters() -> None:
    table = _table()
    same = np.ones((ROWS, 5), dtype=np.float32)
    views = replace(table.views, features={**table.views.features, "look": same})
    found = _strata(replace(table, views=views), *([_often(0.5, seed=0)] * 3))
    assert CLUSTER not in {each.by for each in found}


def test_same_seed_same_strata() -> None:
    assert _found() == _found()


def test_agreement_shares_are_counted() -> None:
    table = _table()
    text, image = _often(0.6, seed=1), _often(0.3, seed=2)
    found = agreement(table.targets, _arm(table, text), _arm(table, image))
    assert asdict(found) == {
        "both": pytest.approx((text & image).mean()),
        "only_text": pytest.approx((text & ~image).mean()),
        "only_image": pytest.approx((~text & image).mean()),
        "neither": pytest.approx((~text & ~image).mean()),
    }


def test_duplicates_widen_the_interval() -> None:
    table = _table()
    twins: Ints = np.arange(ROWS) // 10
    rights = [np.repeat(_often(0.6, seed=n)[::10], 10) for n in range(3)]
    alone, together = _strata(table, *rights), _strata(replace(table, groups=twins), *rights)
    widths = [each.difference.high - each.difference.low for each in (alone[0], together[0])]
    assert widths[1] > 1.5 * widths[0]  # a group holds about 3 rows of a class


def test_every_stratum_has_its_place_in_a_sentence() -> None:
    said = [where(each) for each in _found()]
    assert said[0] == "among pairs of the class label-0"
    assert said[-1] == "where text and image alone disagree"
    assert not [each for each in said if "{" in each]
