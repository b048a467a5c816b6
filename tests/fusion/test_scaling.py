"""Scaling: fitted on training rows alone, the same for a row whatever its company."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.errors import DataError
from pairfuse.features.views import Views
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.fusion.scaling import fit_scaling, narrow, scale
from toys.fusion import halves, noise, without

SPREAD = np.array([8, 4, 2, 1, 0.5, 0.25], dtype=np.float32)


def _stretched(rows: int = 400, *, seed: int = 0) -> Views:
    """One view whose directions have very different sizes, turned, far from zero."""
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(6, 6)))
    values = (random.normal(size=(rows, 6)) * SPREAD) @ turn + 30
    return Views(
        {"words": values.astype(np.float32)}, {"words": np.ones(rows, bool)}, {"words": "text"}
    )


def _scaled(views: Views, width: int = 6, whitening: float = 1.0) -> np.ndarray:
    scaling = narrow(fit_scaling(views, seed=0), width, whitening)
    return np.asarray(scale(views, scaling).features["words"])


def test_full_whitening_gives_every_axis_unit_variance() -> None:
    scaled = _scaled(_stretched())
    assert np.allclose(np.cov(scaled.T), np.eye(6), atol=0.1)  # the last axis is approximate
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-3)


def test_no_whitening_keeps_distances_but_for_one_factor() -> None:
    views = _stretched()
    scaled, given = _scaled(views, whitening=0.0), views.features["words"]
    factors = np.linalg.norm(scaled[:50] - scaled[50:100], axis=1) / np.linalg.norm(
        given[:50] - given[50:100], axis=1
    )
    assert np.allclose(factors, factors[0], rtol=1e-3)
    assert np.square(scaled).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("whitening", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("width", [1, 3, 6])
def test_kept_axes_have_variance_one_on_average(width: int, whitening: float) -> None:
    scaled = _scaled(_stretched(), width, whitening)
    assert scaled.shape[1] == width
    assert scaled.var(axis=0, ddof=1).mean() == pytest.approx(1, abs=0.01)


def test_whitening_evens_out_step_by_step() -> None:
    spreads = [np.ptp(np.log(_scaled(_stretched(), 6, w).std(axis=0))) for w in (0, 0.25, 0.5, 1)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[2] == pytest.approx(spreads[0] / 2, rel=0.05)


def test_more_axes_than_there_are_is_no_error() -> None:
    assert _scaled(_stretched(), 128).shape == (400, 6)
    assert _scaled(_stretched(4), 128).shape == (4, 3)


def test_held_out_and_validation_rows_change_nothing() -> None:
    views, rows = _stretched(100), halves(100, val=10)
    [before] = prepare_rows(views, [rows], seed=0)
    views.features["words"][rows.held_out] = 1e6
    views.features["words"][rows.val] = -1e6
    [after] = prepare_rows(views, [rows], seed=0)
    for part in ("mean", "axes", "deviation"):
        one, other = (getattr(p.scaling["words"], part) for p in (before, after))
        assert np.array_equal(one, other), part


def test_rows_in_which_a_view_is_missing_do_not_enter_its_fit() -> None:
    whole = _stretched(100)
    lacking = without(whole, "words", slice(60, 100))
    one, other = (
        fit_scaling(views, seed=0)["words"] for views in (lacking, whole.rows(np.arange(60)))
    )
    assert np.array_equal(one.mean, other.mean)
    assert np.array_equal(one.axes, other.axes)


def test_a_missing_row_stays_zero() -> None:
    lacking = without(_stretched(50), "words", [3, 7])
    lacking.features["words"][3] = 12.0  # whatever stands there
    scaled = _scaled(lacking)
    assert not scaled[[3, 7]].any()
    assert scaled[[0, 1, 2]].all()


@pytest.mark.parametrize("row", [0, 13, 199])
def test_a_row_alone_is_scaled_as_in_company(row: int) -> None:
    views = _stretched(200)
    scaling = narrow(fit_scaling(views, seed=0), 4, 0.5)
    alone = scale(views.rows(np.array([row])), scaling).features["words"][0]
    assert np.allclose(alone, scale(views, scaling).features["words"][row], atol=1e-5)


def test_a_constant_view_gives_finite_numbers() -> None:
    views = noise(20)
    views.features["words"][:] = 3.0
    scaled = scale(views, narrow(fit_scaling(views, seed=0), 4, 1.0))
    assert all(np.isfinite(values).all() for values in scaled.features.values())


@pytest.mark.parametrize("there", [0, 1])
def test_a_view_that_is_hardly_ever_there_is_an_error_that_names_it(there: int) -> None:
    views = without(noise(20), "look", slice(there, None))
    with pytest.raises(DataError, match=f"view look is present in {there} training rows"):
        fit_scaling(views, seed=0)
