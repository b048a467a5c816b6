"""Character n-grams hashed to a fixed width: a text encoder without weights, in any language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.encoders.base import EncoderInput, LoadedEncoder, plain_text

DIM = 4096
SETTINGS: dict[str, Any] = {
    "analyzer": "char_wb",
    "ngram_range": [2, 5],
    "n_features": DIM,
    "alternate_sign": True,
    "norm": "l2",
    "lowercase": True,
}


@dataclass(frozen=True)
class NgramEncoder:
    """N-grams of 2 to 5 characters inside words, signed hashing, unit length."""

    name: str = "ngram"
    modality: Modality = "text"
    dim: int = DIM
    batch_size: int = 256

    @property
    def made_from(self) -> dict[str, Any]:
        """The hashing's settings; there is nothing else."""
        return {"kind": "ngram", **SETTINGS}

    def load(self, device: str) -> LoadedEncoder:
        """Build the hasher; it runs on the CPU whatever the device."""
        from sklearn.feature_extraction.text import HashingVectorizer

        settings = {**SETTINGS, "ngram_range": tuple(SETTINGS["ngram_range"])}
        return LoadedNgram(HashingVectorizer(**settings, dtype=np.float32))


@dataclass(frozen=True)
class LoadedNgram:
    """The hasher, which learns nothing and so needs no fit."""

    vectorizer: Any

    def prepare(self, raw: Any) -> EncoderInput:
        """Keep the text; hashing happens per batch."""
        return EncoderInput(plain_text(raw))

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
        """Hash a batch; a text without n-grams becomes zeros."""
        texts = [prepared.value for prepared in batch]
        features: Floats = self.vectorizer.transform(texts).toarray()
        return features
