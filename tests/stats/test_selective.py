"""The most confident predictions are the best ones, where probabilities are calibrated."""

from __future__ import annotations

import pytest

from pairfuse.stats.metrics import macro_f1
from pairfuse.stats.selective import selective_curve
from toys.probabilities import drawn


def test_the_surest_rows_are_the_most_often_right() -> None:
    good, targets = drawn(3000, repeats=2)
    found = selective_curve(good, targets)
    assert [each.coverage for each in found] == pytest.approx([n / 10 for n in range(1, 11)])
    assert found[0].accuracy > found[4].accuracy > found[-1].accuracy
    assert found[-1].accuracy == pytest.approx((good[0].argmax(axis=1) == targets).mean())
    assert found[-1].macro_f1 == pytest.approx(macro_f1(targets, good[0].argmax(axis=1), 3))
