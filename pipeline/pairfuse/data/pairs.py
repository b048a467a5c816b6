"""Pairs and data sets: what every later room reads; plain values, no file access."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
#: What a view is of; "joint" is both at once, one network having seen text and image together.
Modality = Literal["text", "image", "joint"]
#: The modalities of a pair. A joint view is of neither alone: it is in no text-only or image-only
#: arm, and is missing where either is.
MODALITIES: tuple[Modality, ...] = ("text", "image")
#: Stands between two texts that are a pair of sentences, of a table's columns; whoever does not
#: read pairs takes it for a line end. Readers let no other text hold it. (ASCII's unit separator.)
BETWEEN = "\x1f"


@dataclass(frozen=True)
class Pair:
    """One text with one image; a modality that is missing or unreadable is None."""

    guid: str
    text: str | None
    image: Path | None
    label: str | None
    split: Split


@dataclass(frozen=True)
class Problem:
    """One thing found wrong with one pair, and the reason in words."""

    guid: str
    modality: Modality | Literal["pair"]
    reason: str


@dataclass(frozen=True)
class Decoding:
    """How the bytes of one text were read: encoding name and count of replaced characters."""

    encoding: str
    replaced: int


@dataclass(frozen=True)
class ImageFacts:
    """What one look at an image file gave; `error` says why it cannot be used.

    `digest` is the sha256 of the file's bytes (hex), `phash` a 64-bit perceptual hash.
    """

    digest: str
    size: int
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    phash: int = 0
    error: str = ""


@dataclass(frozen=True)
class Dataset:
    """All pairs of a data set in file order, with what was decided while reading.

    `reader` is the layout that was read, `left_out` counts the rows that are no pairs, by reason.
    Where several annotators answered each question, `answers` has all that they said, by guid: the
    pair's label is the most common one, and rows that were left out are here too. `rare` is what
    became of labels that were dropped (an empty word) or merged. `folds` are published ones, by
    guid: pairs of one fold are held out together.
    """

    root: Path
    pairs: tuple[Pair, ...]
    labels: tuple[str, ...]
    problems: tuple[Problem, ...]
    decodings: Mapping[str, Decoding]
    images: Mapping[str, ImageFacts]
    reader: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)
    rare: Mapping[str, str] = field(default_factory=dict)

    def split(self, *splits: Split) -> tuple[Pair, ...]:
        """Pairs of the named splits, in order."""
        return tuple(pair for pair in self.pairs if pair.split in splits)

    def key(self, pair: Pair, modality: Modality) -> bytes | None:
        """The sha256 of the content that an encoder of this modality reads, or None if missing."""
        if modality == "text":
            return None if pair.text is None else text_key(pair.text)
        if modality == "image":
            return None if pair.image is None else bytes.fromhex(self.images[pair.guid].digest)
        text, image = self.key(pair, "text"), self.key(pair, "image")
        return None if text is None or image is None else joint_key(text, image)


def text_key(text: str) -> bytes:
    """Sha256 of the decoded text (lone surrogates, which no file can hold, are kept apart).

    A pair of sentences has the key of no single text: sha256 over the keys of both.
    """
    first, between, second = text.partition(BETWEEN)
    if between:
        return joint_key(text_key(first), text_key(second))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def joint_key(first: bytes, second: bytes) -> bytes:
    """Sha256 over two keys: of a text and an image, or of two texts."""
    return hashlib.sha256(first + second).digest()


def one_text(text: str) -> str:
    """The text as one, no pair of sentences."""
    return text.replace(BETWEEN, "\n")
