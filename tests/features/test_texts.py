from __future__ import annotations

import numpy as np
import pytest

from pairfuse.errors import DataError
from pairfuse.features.texts import Texts
from pairfuse.features.views import Views


@pytest.fixture
def views() -> Views:
    arrays = {"words": np.ones((3, 2)), "looks": np.ones((3, 2))}
    return Views.of_arrays(arrays, {"looks": "image"}, texts=["one", None, "three"])


def strings(views: Views) -> list[str | None]:
    assert views.texts is not None
    return views.texts.strings


def test_texts_follow_their_rows(views: Views) -> None:
    assert strings(views[[2, 1]]) == ["three", None]
    assert strings(views.rows(np.array([False, False, True]))) == ["three"]
    assert strings(views.only(["looks"])[1:]) == [None, "three"]


def test_selections_share_what_is_counted(views: Views) -> None:
    assert views.texts is not None
    part = views[[0]].texts
    assert part is not None
    assert part.table.counts is views.texts.table.counts


def test_texts_are_blanked_and_views_stay(views: Views) -> None:
    blank = views.without_texts()
    assert strings(blank) == [None, None, None]
    assert blank.features is views.features


def test_without_texts_there_are_none_to_blank() -> None:
    assert Views.of_arrays({"words": np.ones((3, 2))}).without_texts().texts is None


def test_another_number_of_texts_is_refused() -> None:
    with pytest.raises(DataError, match="views of 3 rows need as many texts; found 1"):
        Views.of_arrays({"words": np.ones((3, 2))}, texts=["one"])


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="text 1 is 7"):
        Texts.of(["one", 7])  # type: ignore[list-item]


def test_texts_without_a_term_have_none() -> None:
    assert [counts.shape for counts, _ in Texts.of(["", " "]).table.counts] == [(3, 0), (3, 0)]
