"""Gallery: pairs that the image rescued or spoiled, and the most confident errors, to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS, open_image, read_picture
from pairfuse.data.pairs import one_text
from pairfuse.errors import DataError
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section
from pairfuse.report.markup import Markup, join, name_of, number, short, tag, text
from pairfuse.study.ablation import FUSED, TEXT_ONLY

MOST_CARDS = 8
THUMB = 160  # pixels of the longer side
QUALITY = 70
MOST_LETTERS = 280


@dataclass(frozen=True)
class Prediction:
    """What one arm says of one pair."""

    truth: str
    label: str
    confidence: float
    truth_probability: float

    @property
    def right(self) -> bool:
        """Whether it is the true label."""
        return self.label == self.truth


def gallery(found: ReportInput) -> Section | None:
    """Three rows of pairs; those rows that need an absent arm are left out."""
    fused = _predictions(found, FUSED)
    only_text = _predictions(found, TEXT_ONLY)
    both = {guid: (fused[guid], only_text[guid]) for guid in fused if guid in only_text}
    gain = {g: f.truth_probability - t.truth_probability for g, (f, t) in both.items()}
    rescued = (g for g, (f, t) in both.items() if f.right and not t.right)
    spoiled = (g for g, (f, t) in both.items() if t.right and not f.right)
    wrong = (g for g, f in fused.items() if not f.right)
    rows = (
        ("Rescued by the image", rescued, {g: -value for g, value in gain.items()}),
        ("Spoiled by the image", spoiled, gain),
        ("Most confident errors", wrong, {g: -f.confidence for g, f in fused.items()}),
    )
    parts = []
    for title, guids, order in rows:
        every = sorted(guids, key=lambda guid: (order[guid], guid))
        if every:
            cards = _cards(found, every[:MOST_CARDS], fused, only_text)
            parts += [tag("h3", text(f"{title}: {len(every):,} pairs")), cards]
    return Section("gallery", "Pairs to look at", join(parts)) if parts else None


def _predictions(found: ReportInput, arm: str) -> dict[str, Prediction]:
    given = found.predictions.get(arm)
    if given is None or given.probabilities is None:
        return {}
    place = {label: at for at, label in enumerate(given.labels)}
    rows = zip(given.guids, given.truth, given.y_pred, given.probabilities, strict=True)
    return {
        guid: Prediction(
            truth=truth,
            label=label,
            confidence=float(row[place[label]]),
            truth_probability=float(row[place[truth]]),
        )
        for guid, truth, label, row in rows
    }


def _cards(
    found: ReportInput,
    guids: Iterable[str],
    fused: Mapping[str, Prediction],
    only_text: Mapping[str, Prediction],
) -> Markup:
    cards = []
    for guid in guids:
        said = [
            _said(name, arm[guid])
            for name, arm in ((TEXT_ONLY, only_text), (FUSED, fused))
            if guid in arm
        ]
        truth = tag("li", text("true label "), tag("b", name_of(fused[guid].truth)))
        pair = found.pairs.get(guid)
        written = pair.text if pair else None
        body = tag(
            "div",
            tag("p", text(short(one_text(written), MOST_LETTERS)), dir="auto")
            if written
            else tag("p", tag("i", text("no text"))),
            tag("ul", truth, *said, tag("li", text("guid "), name_of(guid))),
            class_="body",
        )
        picture = tag("div", _picture(found, pair.image if pair else None), class_="thumb")
        cards.append(tag("article", picture, body, class_="card"))
    return tag("div", *cards, class_="cards")


def _said(arm: str, said: Prediction) -> Markup:
    return tag(
        "li",
        text(f"{arm} "),
        tag("b", name_of(said.label)),
        text(f" {number(said.confidence, 2)}"),
        class_="right" if said.right else "wrong",
    )


def _picture(found: ReportInput, path: Path | None) -> Markup:
    if path is None:
        return tag("div", text("no picture"), class_="none")
    try:
        data = thumbnail(path, max_pixels=found.max_pixels, max_image_bytes=found.max_image_bytes)
    except (DataError, OSError):
        return tag("div", text("picture cannot be read"), class_="none")
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return tag("img", src=source, alt="picture of the pair", decoding="async")


def thumbnail(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_image_bytes: int = MAX_IMAGE_BYTES
) -> bytes:
    """A small JPEG of a picture within these bounds.

    Raises:
        DataError: The file holds no usable picture.
        OSError: It cannot be read.
    """
    data = read_picture(path, max_bytes=max_image_bytes)
    picture = open_image(data, max_pixels=max_pixels, draft=THUMB)
    picture.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
