"""A cascade saves images where the text is confident and right, judged on other folds."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.cascade import NEVER, TOLERANCE, cascade
from toys.probabilities import drawn, folds_of


def _sure(y_pred: Ints, confidence: object) -> Floats:
    """Probabilities (1, N, 3) with these y_pred and confidences."""
    out = np.repeat(((1 - np.asarray(confidence)) / 2)[:, None], 3, axis=1)
    np.put_along_axis(out, y_pred[:, None], np.asarray(confidence)[:, None], axis=1)
    return out[None].astype(np.float32)


def test_no_image_is_paid_for_where_text_alone_is_always_right() -> None:
    _, targets = drawn(300)
    random = np.random.default_rng(1)
    text = _sure(targets, random.uniform(0.4, 1, 300))
    fused = _sure(random.integers(3, size=300), random.uniform(0.4, 1, 300))
    found = cascade(text, fused, targets, folds_of(300), draw_groups(targets, seed=0, resamples=50))
    assert (found.threshold, found.saved, found.macro_f1.value) == (0.0, 1.0, 1.0)


def test_every_image_is_paid_for_where_text_is_never_right() -> None:
    _, targets = drawn(300)
    random = np.random.default_rng(1)
    text = _sure((targets + 1) % 3, random.uniform(0.4, 1, 300))
    fused = _sure(targets, np.full(300, 0.9))
    found = cascade(text, fused, targets, folds_of(300), draw_groups(targets, seed=0, resamples=50))
    assert (found.threshold, found.saved, found.macro_f1) == (NEVER, 0.0, found.fused_macro_f1)


def test_a_cascade_keeps_text_where_it_is_sure_and_right() -> None:
    _, targets = drawn(2000)
    random = np.random.default_rng(2)
    confidence = random.uniform(0.4, 1, 2000)
    text = _sure(np.where(confidence > 0.7, targets, random.integers(3, size=2000)), confidence)
    fused = _sure(targets, np.full(2000, 0.9))
    draws = draw_groups(np.arange(2000), seed=0, resamples=50)
    found = cascade(text, fused, targets, folds_of(2000), draws)
    assert found.threshold == pytest.approx(0.7, abs=0.03)
    assert found.saved == pytest.approx(0.5, abs=0.05)
    assert found.macro_f1.value >= found.fused_macro_f1.value - 2 * TOLERANCE
    assert found.curve[-1].saved == 0
    assert found.curve[0].saved == 1


def test_a_cascade_is_judged_on_rows_that_did_not_choose_its_threshold() -> None:
    _, targets = drawn(500)
    folds = folds_of(500)
    spoiled = folds[0] == 1  # text is never right there, always elsewhere
    confidence = np.random.default_rng(3).uniform(0.4, 1, 500)
    text = _sure(np.where(spoiled, (targets + 1) % 3, targets), confidence)
    fused = _sure(targets, np.full(500, 0.9))
    found = cascade(text, fused, targets, folds, draw_groups(np.arange(500), seed=0, resamples=50))
    assert found.macro_f1.value == pytest.approx(0.8, abs=0.03)
    assert found.saved == pytest.approx(0.2, abs=0.03)
    assert found.threshold == NEVER
