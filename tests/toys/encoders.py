"""Toys: tiny encoders for every room of the tests; no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.encoders.base import EncoderInput
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

    def prepare(self, raw: Any) -> EncoderInput:
        if raw in self.refuses:
            raise DataError(f"{raw} is refused")
        return EncoderInput(toy_bytes(raw))

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
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

    def prepare(self, raw: Any) -> EncoderInput:
        size = len(raw.split()) if isinstance(raw, str) else 1
        return EncoderInput(self.toy.prepare(raw).value, size=size)

    def encode(self, batch: Sequence[EncoderInput]) -> Encoded:
        rows = [toy_tokens(item.value, self.toy.modality) for item in batch]
        tokens = Tokens(np.concatenate(rows), offsets_of([len(row) for row in rows]))
        return Encoded(self.toy.encode(batch), tokens)


def toy_tokens(content: bytes, modality: Modality = "text") -> NDArray[np.float16]:
    """What a ToySequence's tokens are for one prepared input, (T, 3)."""
    count = len(content.split()) if modality == "text" else 3
    words = [content + bytes([number]) for number in range(count)]
    return np.stack([toy_features(word, 3) for word in words]).astype(np.float16)
