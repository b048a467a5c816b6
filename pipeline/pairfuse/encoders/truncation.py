"""Long texts: a tokenizer that keeps a text's head, or its head and its tail.

Source: Sun et al. 2019, "How to fine-tune BERT for text classification?": of 510 tokens the first
128 and the last 382 told most of long reviews.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Truncation = Literal["head", "head-tail"]
TRUNCATIONS: tuple[Truncation, ...] = get_args(Truncation)
#: Of the tokens that are kept, one in so many is of the head.
HEAD_SHARE = 4


class Encoding(Protocol):
    """Token ids of one text, which sentence of a pair each is of, and what was cut off."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def type_ids(self) -> list[int]: ...

    @property
    def overflowing(self) -> list[Any]: ...


class TextTokenizer(Protocol):
    """What makes token ids of a text, or of a pair of sentences; safe in threads."""

    def encode(self, text: str, second: str | None = None, /) -> Encoding: ...

    def num_special_tokens_to_add(self, is_pair: bool, /) -> int: ...


@dataclass(frozen=True)
class Cut:
    """Token ids that were kept, and the whole where something was cut off."""

    ids: list[int]
    type_ids: list[int]
    overflowing: list[Any]


@dataclass(frozen=True)
class HeadAndTail:
    """A tokenizer, set to cut nothing, whose long texts lose their middle.

    Its own marks at both ends stay. A pair of sentences is cut as one text.
    """

    tokenizer: Any
    max_length: int

    def encode(self, text: str, second: str | None = None, /) -> Cut:
        encoding = self.tokenizer.encode(text, second)
        ids: list[int] = encoding.ids
        types: list[int] = encoding.type_ids
        if len(ids) <= self.max_length:
            return Cut(ids, types, [])
        head = max(1, self.max_length // HEAD_SHARE)
        tail = head - self.max_length
        return Cut(ids[:head] + ids[tail:], types[:head] + types[tail:], [encoding])

    def num_special_tokens_to_add(self, is_pair: bool, /) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(is_pair))


def set_length(tokenizer: Any, max_length: int, truncation: Truncation) -> TextTokenizer:
    """The tokenizer with its maximal length; what it was set to before does not count."""
    if truncation == "head":
        tokenizer.enable_truncation(max_length)
        out: TextTokenizer = tokenizer
        return out
    tokenizer.no_truncation()
    return HeadAndTail(tokenizer, max_length)


def whole_length(encoding: Encoding, tokenizer: TextTokenizer) -> int:
    """Tokens of the whole text, the tokenizer's marks counted once."""
    if isinstance(encoding, Cut):
        return max(len(part.ids) for part in (encoding, *encoding.overflowing))
    rest = encoding.overflowing
    if not rest:
        return len(encoding.ids)
    marks = tokenizer.num_special_tokens_to_add(False)
    return len(encoding.ids) + sum(len(part.ids) - marks for part in rest)


def marks_pairs(tokenizer: TextTokenizer) -> bool:
    """Whether it has marks of its own between two sentences, as BERT and RoBERTa were taught."""
    return tokenizer.num_special_tokens_to_add(True) > tokenizer.num_special_tokens_to_add(False)


def in_fingerprint(truncation: Truncation) -> dict[str, str]:
    """What a fingerprint says of it; nothing for the way that was once the only one."""
    return {} if truncation == "head" else {"truncation": f"{truncation} 1:{HEAD_SHARE - 1}"}
