"""Encoder contracts: a cheap description first, the loaded network only when a row is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality, one_text
from pairfuse.encoders.tokens import Encoded

#: What a batch gives: features (B, D), or these with the tokens behind them.
EncoderOutput = Floats | Encoded
Precision = Literal["fp32", "bf16", "fp16"]

#: Part of every fingerprint: raise it when our own preparation of text or images changes.
PREPROCESSING_VERSION = 2


@dataclass(frozen=True)
class EncoderInput:
    """One input, ready for a batch: `size` is its length in tokens (1 for an image).

    `length` is what a text's size would be if it were not cut; 0 of what is not one text.
    `types` say of each token of a pair of sentences which of the two it is of; none of one text.
    """

    value: Any
    size: int = 1
    truncated: bool = False
    types: Sequence[int] = ()
    length: int = 0


class LoadedEncoder(Protocol):
    """A frozen network on its device: eval mode, no gradients."""

    def prepare(self, raw: Any) -> EncoderInput:
        """Turn one text (str) or one RGB image (PIL) into an input; runs in worker threads."""
        ...

    def encode(self, batch: Sequence[EncoderInput]) -> EncoderOutput:
        """Features of a batch, shape (B, D), float32; must not depend on the batch's company.

        With tokens where it was told to keep them.
        """
        ...


@runtime_checkable
class LaunchingEncoder(LoadedEncoder, Protocol):
    """A network whose device computes while the host goes on."""

    def launch(self, batch: Sequence[EncoderInput]) -> Callable[[], EncoderOutput]:
        """Begin a batch; the result waits for its features, as `encode` gives them."""
        ...


class Encoder(Protocol):
    """What is known of an encoder before its weights are in memory."""

    @property
    def name(self) -> str:
        """The view's name, as the feature store and the heads use it."""
        ...

    @property
    def modality(self) -> Modality: ...

    @property
    def dim(self) -> int:
        """Width D of its features."""
        ...

    @property
    def made_from(self) -> dict[str, Any]:
        """All that determines the features, as plain JSON values: weights, tokenizer, ..."""
        ...

    @property
    def batch_size(self) -> int:
        """Inputs a batch starts with; it halves when memory runs out."""
        ...

    def load(self, device: str) -> LoadedEncoder: ...


def fingerprint(encoder: Encoder) -> str:
    """Sha256 (hex) over all that determines the features, and nothing else."""
    made_from = {
        "preprocessing_version": PREPROCESSING_VERSION,
        "dim": encoder.dim,
        **encoder.made_from,
    }
    text = json.dumps(made_from, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain_text(raw: Any) -> str:
    """The text with lone surrogates, which no tokenizer takes, as question marks.

    A pair of sentences is one text here.
    """
    return one_text(str(raw)).encode("utf-8", "replace").decode()
