"""Encoders that keep their tokens: any encoder whose network gives a sequence, told to keep it.

Its pooled features are those of the plain encoder; its fingerprint differs in saying tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pairfuse.data.pairs import Modality
from pairfuse.encoders.base import Encoder, LoadedEncoder
from pairfuse.encoders.tokens import TOKEN_POOLINGS, TokenPooling
from pairfuse.errors import ConfigError


class SequenceLoaded(LoadedEncoder, Protocol):
    """A network that can give its sequence beside the pooled vector."""

    def keeping_tokens(self, width: int) -> LoadedEncoder:
        """The same, but `encode` and `launch` give `Encoded` with tokens of this width."""
        ...


class SequenceEncoder(Encoder, Protocol):
    """An encoder whose network gives a sequence: word pieces, patches, cells of a map."""

    @property
    def token_dim(self) -> int:
        """Width of a token, which need not be that of the pooled vector."""
        ...

    @property
    def has_summary(self) -> bool:
        """Whether the first token may stand for the whole."""
        ...

    def load(self, device: str) -> SequenceLoaded: ...


@dataclass(frozen=True)
class TokenEncoder:
    """An encoder that keeps its tokens beside the pooled vector.

    With a `pooling` its view is pooled from the stored tokens, else it is the encoder's own vector.
    """

    plain: SequenceEncoder
    pooling: TokenPooling | None = None

    @property
    def name(self) -> str:
        return self.plain.name

    @property
    def modality(self) -> Modality:
        return self.plain.modality

    @property
    def dim(self) -> int:
        return self.plain.dim

    @property
    def token_dim(self) -> int:
        return self.plain.token_dim

    @property
    def batch_size(self) -> int:
        return self.plain.batch_size

    @property
    def made_from(self) -> dict[str, Any]:
        """As the plain encoder's; how the view is pooled leaves what is stored as it is."""
        return {**self.plain.made_from, "tokens": "float16"}

    def load(self, device: str) -> LoadedEncoder:
        return self.plain.load(device).keeping_tokens(self.token_dim)


def keep_tokens(encoders: Sequence[Encoder], pooling: str) -> list[Encoder]:
    """Those that give a sequence keep it, the others stay as they are.

    Args:
        pooling: cls, mean or max pools a view from its tokens; anything else leaves it the
            encoder's own vector.

    Raises:
        ConfigError: `cls` is asked of an encoder that has no token for the whole.
    """
    how = next((known for known in TOKEN_POOLINGS if known == pooling), None)
    return [_keep(encoder, how) for encoder in encoders]


def _keep(encoder: Encoder, pooling: TokenPooling | None) -> Encoder:
    if not hasattr(type(encoder), "token_dim"):
        return encoder
    able = cast(SequenceEncoder, encoder)
    if pooling == "cls" and not able.has_summary:
        raise ConfigError(
            f"encoder {encoder.name} has no token that stands for the whole; "
            "use --pooling mean, max or auto with --tokens"
        )
    return TokenEncoder(able, pooling)
