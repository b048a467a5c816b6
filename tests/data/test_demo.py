from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from pairfuse.data import demo
from pairfuse.data.demo import FLAWS, LABELS, SENTENCES, UNDECIDED, WORLDS, draw_demo, scenes
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.loading import load_dataset
from pairfuse.errors import DataError


def digest(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "set"
    draw_demo(root, pairs=60, test_pairs=20)
    return root


def rows(path: Path) -> dict[str, str]:
    header, *lines = path.read_text().splitlines()
    assert header == "guid,tag"
    return dict(line.split(",") for line in lines)


def flawed(root: Path) -> dict[str, Path]:
    """Flaw to the file stem of its pair, as the README tells."""
    lines = [line for line in (root / "README.txt").read_text().splitlines() if line[:2] == "- "]
    parts = [line.removeprefix("- pair ").split(": ", 1) for line in lines]
    return {flaw: root / "data" / guid for guid, flaw in parts}


def test_the_label_files_have_the_layout_of_the_task(drawn: Path) -> None:
    train, test = rows(drawn / "train.txt"), rows(drawn / "test_without_label.txt")
    truth = rows(drawn / "test_truth.csv")
    assert (len(train), len(test)) == (60, 20)
    assert set(test.values()) == {"null"}
    assert list(truth) == list(test)
    assert not set(train) & set(test)
    counts = Counter(train.values())
    assert counts["positive"] > counts["negative"] > counts["neutral"] > 0


def test_every_pair_has_its_files_but_one_image(drawn: Path) -> None:
    guids = rows(drawn / "train.txt") | rows(drawn / "test_without_label.txt")
    names = {path.name for path in (drawn / "data").iterdir()}
    missing = flawed(drawn)["no image"].name
    assert names == {f"{g}.{e}" for g in guids for e in ("txt", "jpg")} - {f"{missing}.jpg"}


def test_the_same_seed_draws_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw_demo(tmp_path / "again", pairs=60, test_pairs=20)
    draw_demo(tmp_path / "other", pairs=60, test_pairs=20, seed=1)
    assert digest(tmp_path / "again") == digest(drawn)
    assert digest(tmp_path / "other") != digest(drawn)


def test_the_readme_names_a_pair_for_every_flaw(drawn: Path) -> None:
    assert set(flawed(drawn)) == set(FLAWS)


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030"])
def test_legacy_texts_are_quoted_and_not_utf8(drawn: Path, encoding: str) -> None:
    stem = next(stem for flaw, stem in flawed(drawn).items() if encoding in flaw)
    raw = stem.with_suffix(".txt").read_bytes()
    assert raw.decode(encoding)[0] == "\u201c"
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")


def test_texts_are_cut_and_empty_where_the_readme_says(drawn: Path) -> None:
    stems = flawed(drawn)
    cut = stems["text cut in the middle of a character"].with_suffix(".txt").read_bytes()
    assert cut.decode("utf-8", "replace").endswith("caf\ufffd")
    assert stems["empty text"].with_suffix(".txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("flaw", "holds"),
    [
        ("PNG with transparency, named .jpg", lambda image: image.format == "PNG"),
        ("WebP, named .jpg", lambda image: image.format == "WEBP"),
        ("turned by EXIF", lambda image: image.getexif()[0x0112] == 6),
        ("grey JPEG", lambda image: image.mode == "L" and image.format == "JPEG"),
    ],
)
def test_odd_images_are_what_the_readme_says(
    drawn: Path, flaw: str, holds: Callable[[Image.Image], bool]
) -> None:
    data = flawed(drawn)[flaw].with_suffix(".jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert holds(image)


def test_a_cut_image_opens_but_does_not_load(drawn: Path) -> None:
    data = flawed(drawn)["image cut off"].with_suffix(".jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_only_the_copies_are_duplicates(drawn: Path) -> None:
    dataset = load_dataset(drawn)
    groups = Counter(duplicate_groups(dataset).tolist())
    assert len(dataset.pairs) - len(groups) == 2  # max(2, 3 % of 80)
    assert len(dataset.problems) == 3


@pytest.mark.parametrize("inside", ["file", "folder"])
def test_a_place_that_is_taken_is_refused_and_left_alone(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "set"
    if inside == "folder":
        root.mkdir()
    kept = root / "mine.txt" if inside == "folder" else root
    kept.write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        draw_demo(root, pairs=60, test_pairs=20)
    assert kept.read_text() == "mine"


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40 pairs or more"):
        draw_demo(tmp_path / "set", pairs=10)


def test_a_broken_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    (tmp_path / "set").mkdir()
    monkeypatch.setattr(demo, "_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        draw_demo(tmp_path / "set", pairs=40, test_pairs=0)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert not any((tmp_path / "set").iterdir())


def test_an_empty_folder_is_taken_and_no_test_pairs_are_allowed(tmp_path: Path) -> None:
    draw_demo(tmp_path, pairs=40, test_pairs=0)
    assert len(rows(tmp_path / "train.txt")) == 40
    assert rows(tmp_path / "test_without_label.txt") == {}


#: Stands for the drawn scene, so that a test can tell what an image shows.
INKS = {"positive": "red", "negative": "lime", "neutral": "blue", UNDECIDED: "black"}


@dataclass(frozen=True)
class Shown:
    """What text and image of a pair show, beside its label."""

    label: str
    text: str
    image: str


def text_shows(text: str) -> str:
    """The kind of sentence that a text holds."""
    return next(
        kind
        for kind, sentences in SENTENCES.items()
        for sentence in sentences
        if re.search(".+".join(map(re.escape, re.split(r"{\w+}", sentence))), text, re.IGNORECASE)
    )


def image_shows(path: Path) -> str:
    with Image.open(path) as image:
        strongest = image.convert("RGB").getpixel((0, 0))
    if max(strongest) < 100:
        return UNDECIDED
    return ("positive", "negative", "neutral")[strongest.index(max(strongest))]


def draw_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch, world: str, noise: float = 0.0
) -> list[Shown]:
    """Draw a set of one world and read it; pairs with a flaw are left out."""

    def scene(kind: str, random: Random) -> Image.Image:
        return Image.new("RGB", (16, 16), INKS[kind])

    monkeypatch.setattr(scenes, "draw_scene", scene)
    draw_demo(root, pairs=400, test_pairs=0, world=world, noise=noise)
    odd = {path.name for path in flawed(root).values()}
    return [
        Shown(
            label,
            text_shows((stem := root / "data" / guid).with_suffix(".txt").read_text()),
            image_shows(stem.with_suffix(".jpg")),
        )
        for guid, label in rows(root / "train.txt").items()
        if guid not in odd
    ]


def share(pairs: list[Shown], holds: Callable[[Shown], bool]) -> float:
    return sum(map(holds, pairs)) / len(pairs)


def accuracy(pairs: list[Shown], modality: str) -> float:
    """Of the best rule that reads what one modality shows."""
    table = Counter((getattr(pair, modality), pair.label) for pair in pairs)
    best = {kind: max(n for (k, _), n in table.items() if k == kind) for kind, _ in table}
    return sum(best.values()) / len(pairs)


@pytest.mark.parametrize(
    ("world", "text", "image"),
    [
        ("mixed", (0.72, 0.88), (0.7, 0.88)),
        ("text", (0.88, 0.99), (0.5, 0.62)),
        ("image", (0.5, 0.62), (0.88, 0.99)),
        ("added", (0.68, 0.82), (0.68, 0.82)),
        ("interaction", (0.5, 0.62), (0.5, 0.62)),
    ],
)
def test_a_world_tells_the_label_where_it_says(
    world: str,
    text: tuple[float, float],
    image: tuple[float, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = draw_shown(tmp_path / "set", monkeypatch, world)
    assert text[0] < accuracy(pairs, "text") < text[1]  # 0.55 is the largest class alone
    assert image[0] < accuracy(pairs, "image") < image[1]


def test_every_world_is_tested() -> None:
    assert set(WORLDS) == {"mixed", "text", "image", "added", "interaction"}


def test_text_and_image_of_an_interaction_give_the_label_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = draw_shown(tmp_path / "set", monkeypatch, "interaction")

    def together(pair: Shown) -> bool:
        total = LABELS.index(pair.text) + LABELS.index(pair.image)
        return LABELS[total % 3] == pair.label

    assert share(pairs, together) > 0.98  # but for copies that annotators disagree about


def test_only_the_mixed_world_is_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for world in WORLDS:
        pairs = draw_shown(tmp_path / world, monkeypatch, world)
        undecided = share(pairs, lambda pair: UNDECIDED in (pair.text, pair.image))
        assert (undecided > 0.5) == (world == "mixed")
        assert undecided in (0, pytest.approx(0.64, abs=0.08))


def test_noise_draws_so_many_labels_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = draw_shown(tmp_path / "clean", monkeypatch, "text")
    noisy = draw_shown(tmp_path / "noisy", monkeypatch, "text", noise=0.5)
    assert [(pair.text, pair.image) for pair in clean] == [
        (pair.text, pair.image) for pair in noisy
    ]
    changed = sum(one.label != two.label for one, two in zip(clean, noisy, strict=True)) / len(
        clean
    )
    assert 0.2 < changed < 0.4  # of 0.5 drawn again 0.58 become another label
    assert "50% of the labels are noise" in (tmp_path / "noisy" / "README.txt").read_text()


def test_the_default_is_the_mixed_world_without_noise(drawn: Path, tmp_path: Path) -> None:
    draw_demo(tmp_path / "set", pairs=60, test_pairs=20, world="mixed", noise=0.0)
    assert digest(tmp_path / "set") == digest(drawn)
    assert "six of ten images follow the label" in (drawn / "README.txt").read_text()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"world": "flat"}, "no demo world 'flat'; choose one of mixed, text"),
        ({"noise": 1.5}, r"noisy labels is 1\.5; use 0 to 1"),
    ],
)
def test_an_unknown_world_or_share_is_refused(
    asked: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        draw_demo(tmp_path / "set", **asked)
    assert not (tmp_path / "set").exists()
