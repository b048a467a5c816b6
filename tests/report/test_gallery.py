from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pairfuse.data.pairs import BETWEEN, Pair
from pairfuse.report.gallery import MOST_CARDS, MOST_LETTERS, THUMB, gallery, thumbnail
from pairfuse.report.inputs import ReportInput
from pairfuse.stats.predictions import Predictions
from toys.data import picture, saved
from toys.reports import made_up
from toys.reports import predictions as table_of

LABELS = ("no", "yes")


def predictions(yes: Mapping[str, float], truth: str = "yes") -> Predictions:
    """Guid to the probability of yes."""
    table = np.array([[1 - p, p] for p in yes.values()])
    return table_of("arm", list(yes), [truth] * len(yes), LABELS, table)


def found(
    fused: Mapping[str, float], only_text: Mapping[str, float], **pair: str | Path | None
) -> ReportInput:
    """Pairs whose truth is yes, with what two arms say of them."""
    shown = {"text": "a text", "image": None, **pair}
    return replace(
        made_up(20, labels=LABELS, arms=("fused", "text-only")),
        predictions={"fused": predictions(fused), "text-only": predictions(only_text)},
        pairs={guid: Pair(guid, label="yes", split="train", **shown) for guid in fused},
    )


def guids(page: str, title: str) -> list[str]:
    part = page.split(title)[1].split("<h3>")[0]
    return re.findall(r"guid <bdi>([^<]*)<", part)


def body(given: ReportInput) -> str:
    section = gallery(given)
    assert section is not None
    return section.body


FUSED = {"a": 0.6, "b": 0.9, "c": 0.1, "d": 0.3, "e": 0.2}
TEXT = {"a": 0.4, "b": 0.2, "c": 0.8, "d": 0.1, "e": 0.6}


def test_pairs_that_the_image_rescued_come_by_what_was_gained() -> None:
    assert guids(body(found(FUSED, TEXT)), "Rescued by the image: 2") == ["b", "a"]


def test_pairs_that_the_image_spoiled_come_by_what_was_lost() -> None:
    assert guids(body(found(FUSED, TEXT)), "Spoiled by the image: 2") == ["c", "e"]


def test_errors_come_by_confidence() -> None:
    assert guids(body(found(FUSED, TEXT)), "Most confident errors: 3") == ["c", "e", "d"]


def test_arms_may_list_the_pairs_in_different_orders() -> None:
    turned = dict(reversed(TEXT.items()))
    assert body(found(FUSED, turned)) == body(found(FUSED, TEXT))


def test_each_row_has_few_cards() -> None:
    wrong = {str(n): 0.1 for n in range(30)}
    assert len(guids(body(found(wrong, wrong)), "Most confident errors: 30")) == MOST_CARDS


def test_without_the_text_only_arm_there_are_errors_only() -> None:
    given = found(FUSED, TEXT)
    page = body(replace(given, predictions={"fused": given.predictions["fused"]}))
    assert "Rescued" not in page
    assert guids(page, "Most confident errors: 3") == ["c", "e", "d"]


def test_without_probabilities_there_is_no_gallery() -> None:
    given = found(FUSED, TEXT)
    bare = replace(predictions(FUSED), probabilities=None)
    assert gallery(replace(given, predictions={"fused": bare})) is None


def test_a_broken_picture_is_a_word(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(picture(1, (80, 60)), "JPEG")[:200])
    assert "picture cannot be read" in body(found(FUSED, TEXT, image=path))
    assert "picture cannot be read" in body(found(FUSED, TEXT, image=tmp_path / "absent.jpg"))


def test_a_missing_modality_is_a_word() -> None:
    page = body(found(FUSED, TEXT, text=None, image=None))
    assert "no text" in page
    assert "no picture" in page


def test_a_pair_of_sentences_is_one_text() -> None:
    page = body(found(FUSED, TEXT, text=f"the title{BETWEEN}the body"))
    assert "the title the body" in page
    assert BETWEEN not in page


def test_a_long_text_is_cut() -> None:
    page = body(found(FUSED, TEXT, text="word " * 200))
    longest = max(re.findall(r'<p dir="auto">([^<]*)<', page), key=len)
    assert len(longest) == MOST_LETTERS


def test_a_hostile_text_is_escaped_and_isolated() -> None:
    page = body(found(FUSED, TEXT, text="<script>alert(1)</script>\u202e"))
    assert "<script" not in page
    assert '<p dir="auto">&lt;script&gt;' in page


def test_a_thumbnail_is_a_small_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(picture(1, (900, 500))))
    with Image.open(io.BytesIO(thumbnail(path))) as image:
        assert image.format == "JPEG"
        assert image.size == (THUMB, round(THUMB * 5 / 9))


def test_pictures_are_shown_within_the_bounds_that_the_user_set(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(picture(1, (30, 20))))
    given = found(FUSED, TEXT, image=path)
    assert "picture cannot be read" not in body(replace(given, max_pixels=600))
    assert "picture cannot be read" in body(replace(given, max_pixels=599))
    assert "picture cannot be read" in body(replace(given, max_image_bytes=60))


def test_a_guid_without_a_pair_is_shown_without_text_and_picture() -> None:
    page = body(replace(found(FUSED, TEXT), pairs={}))
    assert "no text" in page
