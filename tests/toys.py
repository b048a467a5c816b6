"""Toys: tiny data sets and encoders for every room of the tests; no torch, no weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairfuse.data.pairs import Modality
from pairfuse.encoders.base import Floats, Prepared
from pairfuse.encoders.pixels import Crop, cropped, standardise
from pairfuse.encoders.tokens import Encoded, Tokens, offsets_of
from pairfuse.errors import DataError


class Killed(BaseException):
    """Stands for the signal that ends a process: no code of the package catches it."""


@dataclass
class ToyEncoder:
    """An encoder whose features are a hash of what it reads; it notes every batch it encodes."""

    name: str = "toy"
    modality: Modality = "text"
    dim: int = 4
    made_from: dict[str, Any] = field(default_factory=lambda: {"weights": "toy"})
    batch_size: int = 8
    dies_after: int | None = None  # batches; the next one raises Killed
    memory: int | None = None  # inputs; a larger batch is out of memory
    refuses: tuple[str, ...] = ()  # texts whose preparation fails
    loads: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Inputs encoded so far."""
        return sum(self.batches)

    def load(self, device: str) -> ToyEncoder:
        self.loads += 1
        return self

    def prepare(self, raw: Any) -> Prepared:
        if raw in self.refuses:
            raise DataError(f"{raw} is refused")
        return Prepared(toy_bytes(raw))

    def encode(self, batch: Sequence[Prepared]) -> Floats:
        if self.memory is not None and len(batch) > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.dies_after is not None and len(self.batches) >= self.dies_after:
            raise Killed
        self.batches.append(len(batch))
        return np.stack([toy_features(item.value, self.dim) for item in batch])


def toy_bytes(raw: Any) -> bytes:
    """What a ToyEncoder reads of a text, of a picture, or of both."""
    if isinstance(raw, tuple):
        return b"".join(toy_bytes(each) for each in raw)
    return raw.encode() if isinstance(raw, str) else bytes(raw.tobytes())


def toy_features(content: bytes, dim: int = 4) -> Floats:
    """What a ToyEncoder gives for one prepared input, shape (dim,)."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)


def picture(number: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """An RGB picture of noise; another number is another picture."""
    return Image.frombytes("RGB", size, Random(number).randbytes(size[0] * size[1] * 3))


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_set(
    root: Path,
    train: Mapping[str, str],
    test: Sequence[str] = (),
) -> Path:
    """Write a data set in the guid-tag layout, each pair with its own text and picture.

    Args:
        root: The folder, made if it is not there.
        train: Guid to label; the text is `<label> text <guid>`.
        test: Guids without label; the text is `text <guid>`.
    """
    (root / "data").mkdir(parents=True, exist_ok=True)
    write_labels(root / "train.txt", train)
    if test:
        write_labels(root / "test_without_label.txt", dict.fromkeys(test, "null"))
    for number, (guid, label) in enumerate([*train.items(), *((guid, "") for guid in test)]):
        (root / "data" / f"{guid}.txt").write_text(f"{label} text {guid}".strip(), "utf-8")
        (root / "data" / f"{guid}.png").write_bytes(saved(picture(number)))
    return root


def write_labels(path: Path, labels: Mapping[str, str]) -> Path:
    """Write one label file: the header `guid,tag` and a line for each pair."""
    lines = ["guid,tag", *(f"{guid},{label}" for guid, label in labels.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def standardised(image: Image.Image, crop: Crop) -> Floats:
    """Pixels (3, size, size) of one picture, as a network gets them in a batch of one."""
    import torch

    pixels = torch.from_numpy(cropped(image, crop).copy())
    out: Floats = standardise(pixels[None], crop)[0].numpy()
    return out


@dataclass
class ToySequence(ToyEncoder):
    """A ToyEncoder with a sequence: as many tokens as the text has words, or three of a picture."""

    token_dim: int = 3
    has_summary: bool = True

    def keeping_tokens(self, width: int) -> ToyTokens:
        return ToyTokens(self)


@dataclass(frozen=True)
class ToyTokens:
    """A ToySequence that keeps its tokens."""

    toy: ToySequence

    def prepare(self, raw: Any) -> Prepared:
        size = len(raw.split()) if isinstance(raw, str) else 1
        return Prepared(self.toy.prepare(raw).value, size=size)

    def encode(self, batch: Sequence[Prepared]) -> Encoded:
        rows = [toy_tokens(item.value, self.toy.modality) for item in batch]
        tokens = Tokens(np.concatenate(rows), offsets_of([len(row) for row in rows]))
        return Encoded(self.toy.encode(batch), tokens)


def toy_tokens(content: bytes, modality: Modality = "text") -> NDArray[np.float16]:
    """What a ToySequence's tokens are for one prepared input, (T, 3)."""
    count = len(content.split()) if modality == "text" else 3
    words = [content + bytes([number]) for number in range(count)]
    return np.stack([toy_features(word, 3) for word in words]).astype(np.float16)
