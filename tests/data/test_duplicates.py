from __future__ import annotations

from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pairfuse.data import duplicates
from pairfuse.data.duplicates import (
    duplicate_groups,
    normalise_text,
    perceptual_hash,
    twins,
)
from pairfuse.data.pairs import BETWEEN, Dataset, ImageFacts, Pair, Split

PHOTO = 0x9F3A_56C1_0FE2_7B4D  # 35 bits set


def dataset(*rows: tuple[str | None, str, int], splits: str = "", labels: str = "") -> Dataset:
    """Rows of text, digest and hash; splits t(rain) or e (test) and labels by letter."""
    names: dict[str, Split] = {"t": "train", "v": "val", "e": "test"}
    pairs = tuple(
        Pair(str(n), text, Path(str(n)), (labels or "p" * 99)[n], names[(splits or "t" * 99)[n]])
        for n, (text, _, _) in enumerate(rows)
    )
    facts = {str(n): ImageFacts(d, 1, 9, 9, "RGB", "JPEG", h) for n, (_, d, h) in enumerate(rows)}
    return Dataset(Path("toy"), pairs, ("n", "p"), (), {}, facts)


def picture(seed: int) -> Image.Image:
    random, image = Random(seed), Image.new("RGB", (200, 150), "white")
    for _ in range(12):
        x, y = random.randint(0, 160), random.randint(0, 110)
        colour = (random.randint(0, 255), random.randint(0, 255), random.randint(0, 255))
        ImageDraw.Draw(image).rectangle((x, y, x + 60, y + 50), fill=colour)
    return image


@pytest.mark.parametrize(
    "copy",
    [
        "RT @bob: So happy at the beach! http://t.co/abc",
        "so  HAPPY at the beach http:\u2026",
        "So happy at the beach htt\u2026",
        "So happy at the beach https",
        "@amy So happy at the beach \U0001f60d\u2764\ufe0f",
        "\uff33o happy at the #beach pic.twitter.com/a1B2",
        "RT @bob: RT @amy_1: So happy at the beach...",
    ],
)
def test_a_copy_normalises_to_the_words_of_its_source(copy: str) -> None:
    assert normalise_text(copy) == "so happy at the beach"


def test_normalising_keeps_the_vowel_signs_of_other_scripts() -> None:
    assert normalise_text("की हिन्दी!") != normalise_text("का हिन्दी!")


def test_a_pair_of_sentences_is_a_copy_of_the_text_that_joins_them() -> None:
    parts = ["RT @me: look at this http://t.co/x", "and  at\nthat, too"]
    assert normalise_text(BETWEEN.join(parts)) == normalise_text(" ".join(parts))


def test_text_after_a_link_without_a_space_is_kept() -> None:
    assert normalise_text("看http://t.co/abc你好") == "看 你好"


def test_groups_are_transitive_across_kinds() -> None:
    rows = [("the same long text", "a", 1), ("The same long text!", "b", 2), ("x", "b", 3)]
    groups = duplicate_groups(dataset(*rows, ("another long text", "c", 4)))
    assert groups.tolist() == [0, 0, 0, 1]


def test_missing_texts_missing_images_and_blank_images_make_no_group() -> None:
    rows = [("", "a", 0), (None, "b", 0), (None, "", 1 << 63), (None, "", 1 << 63)]
    assert duplicate_groups(dataset(*rows)).tolist() == [0, 1, 2, 3]


def test_broken_files_make_no_group() -> None:
    toy = dataset(("one", "a", PHOTO), ("two", "a", PHOTO))
    broken = {guid: ImageFacts("a", 0, phash=PHOTO, error="empty") for guid in toy.images}
    alone = Dataset(toy.root, toy.pairs, toy.labels, (), {}, broken)
    assert duplicate_groups(alone).tolist() == [0, 1]


@pytest.mark.parametrize(("bits", "together"), [(0, True), (4, True), (5, False)])
def test_images_are_near_up_to_the_distance(bits: int, together: bool) -> None:
    other = PHOTO ^ sum(1 << (k * 13) for k in range(bits))  # spread over the bands
    groups = duplicate_groups(dataset((None, "a", PHOTO), (None, "b", other)), max_distance=4)
    assert (groups[0] == groups[1]) is np.bool_(together)


@pytest.mark.parametrize("max_distance", [0, 3, 4, 9])
def test_links_are_those_of_all_pairs(max_distance: int) -> None:
    random = Random(max_distance)
    base = [random.getrandbits(64) for _ in range(20)]
    flips = [sum(1 << bit for bit in random.sample(range(64), k % 7)) for k in range(300)]
    hashes = np.unique(np.array([base[k % 20] ^ f for k, f in enumerate(flips)], dtype=np.uint64))
    near = {
        (i, j)
        for i, j in combinations(range(len(hashes)), 2)
        if int(hashes[i] ^ hashes[j]).bit_count() <= max_distance
    }
    found = set()
    for left, right in duplicates._near_links(hashes, max_distance):
        found |= {(min(i, j), max(i, j)) for i, j in zip(left, right, strict=True)}
    assert found == near


def test_small_batches_of_links_give_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(None, str(n), PHOTO ^ (1 << n)) for n in range(40)]
    whole = duplicate_groups(dataset(*rows))
    monkeypatch.setattr(duplicates, "EDGES_AT_ONCE", 3)
    assert duplicate_groups(dataset(*rows)).tolist() == whole.tolist() == [0] * 40


def test_an_impossible_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 31, found 64"):
        duplicate_groups(dataset(("a", "a", PHOTO)), max_distance=64)


def test_no_pairs_make_no_groups() -> None:
    assert duplicate_groups(dataset()).tolist() == []
    assert twins(dataset()) == ()


def test_twins_tell_kind_border_and_labels() -> None:
    rows = [("the same long text", "a", 0), ("the same long text", "a", 0), ("b", "c", 0)]
    found = {twin.kind: twin for twin in twins(dataset(*rows, splits="tet", labels="pnp"))}
    assert set(found) == {"same text", "same image bytes", "any of these"}
    assert found["same text"].guids == ("0", "1")
    assert found["same text"].across
    assert found["same text"].labels == ("n", "p")


def test_train_and_val_are_on_one_side_of_the_border() -> None:
    rows = [("the same long text", "a", 0), ("the same long text", "b", 0)]
    assert not any(twin.across for twin in twins(dataset(*rows, splits="tv")))


def test_near_images_are_listed_only_if_their_bytes_differ() -> None:
    same = twins(dataset((None, "a", PHOTO), (None, "a", PHOTO)))
    near = twins(dataset((None, "a", PHOTO), (None, "b", PHOTO)))
    assert [twin.kind for twin in same] == ["same image bytes", "any of these"]
    assert [twin.kind for twin in near] == ["near image", "any of these"]


def test_a_smaller_copy_has_a_near_hash_and_another_picture_has_not() -> None:
    one, copy, other = picture(1), picture(1).resize((120, 90)), picture(2)
    assert (perceptual_hash(one) ^ perceptual_hash(copy)).bit_count() <= duplicates.MAX_DISTANCE
    assert (perceptual_hash(one) ^ perceptual_hash(other)).bit_count() > 10


def test_blank_pictures_hash_to_zero() -> None:
    assert perceptual_hash(Image.new("RGB", (40, 30), "red")) == 0
