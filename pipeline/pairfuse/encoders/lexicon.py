"""Words of feeling: VADER's scores of an English text, as it is and with its hashtags' words apart.

Source: Hutto and Gilbert 2014, "VADER: a parsimonious rule-based model for sentiment analysis of
social media text". A lexicon of 7,520 words and emoticons and rules for negation, degree and
capitals; nothing is trained and nothing is downloaded. On MVSA-Single it added .009 macro-F1 to a
logistic regression on MiniLM, EfficientNet-Lite0 and TF-IDF (folds by duplicates, three seeds).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder, weights
from pairfuse.encoders.base import EncoderInput, LoadedEncoder, plain_text

#: What VADER says of a text: shares of it in negative, neutral and positive words, and all as one.
SCORES = ("neg", "neu", "pos", "compound")
#: Names of the columns: VADER's of the text, then of the text with its hashtags' words apart.
COLUMNS = (*SCORES, *(f"{score}_of_hashtag_words" for score in SCORES))
#: Part of the fingerprint: raise it when the columns or the rule for hashtags change.
VERSION = 1
#: What the scores come from: VADER's words, its emoji in words, its rules.
FILES = ("vader_lexicon.txt", "emoji_utf8_lexicon.txt", "vaderSentiment.py")
PACKAGE = "vaderSentiment"
#: Shorter words of feeling are found in any hashtag ("sad" in "crusader") and are not looked for.
SHORTEST = 4

_HASHTAG = re.compile(r"#(\w+)")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\da-zA-Z]+|_+")


@dataclass(frozen=True)
class LexiconEncoder:
    """Eight numbers of a text, each between -1 and 1; `COLUMNS` names them."""

    name: str = "lexicon"
    modality: Modality = "text"
    batch_size: int = 256

    @property
    def dim(self) -> int:
        return len(COLUMNS)

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of the lexicon and its rules, and the version of what is made of them here."""
        files = {
            name: weights.package_path(self.name, f"package:{PACKAGE}/{name}") for name in FILES
        }
        return {
            "kind": "lexicon",
            "version": VERSION,
            "columns": list(COLUMNS),
            "files": {name: checkpoint_folder.file_digest(path) for name, path in files.items()},
        }

    def load(self, device: str) -> LoadedEncoder:
        """Read the lexicon; it runs on the CPU whatever the device."""
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        return LoadedLexicon(SentimentIntensityAnalyzer())


@dataclass(frozen=True)
class LoadedLexicon:
    """VADER, which learns nothing."""

    analyser: Any

    @cached_property
    def words(self) -> frozenset[str]:
        """Words of feeling that are looked for in a hashtag."""
        known = self.analyser.lexicon
        return frozenset(word for word in known if len(word) >= SHORTEST and word.isalpha())

    def prepare(self, raw: Any) -> EncoderInput:
        """Keep the text; it is scored per batch."""
        return EncoderInput(plain_text(raw))

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
        """Scores of each text, shape (B, 8); without words of feeling all but `neu` are 0."""
        rows = [self._scores(prepared.value) for prepared in batch]
        return np.array(rows, dtype=np.float32).reshape(len(batch), len(COLUMNS))

    def _scores(self, text: str) -> list[float]:
        whole = self.analyser.polarity_scores(text)
        apart = self.analyser.polarity_scores(words_apart(text, self.words))
        return [scores[name] for scores in (whole, apart) for name in SCORES]


def words_apart(text: str, words: Collection[str]) -> str:
    """The text with each hashtag as its words: "#LoveMyDog" is "Love My Dog".

    A hashtag is cut at its capitals, digits and underlines. What is left in one piece is cut after
    the longest of the words that it begins with, else before the longest that it ends with.
    """

    def apart(found: re.Match[str]) -> str:
        pieces = [piece for piece in _PIECE.findall(found[1]) if not piece.startswith("_")]
        return " ".join(["", *(part for piece in pieces for part in _cut(piece, words)), ""])

    return _HASHTAG.sub(apart, text)


def _cut(piece: str, words: Collection[str]) -> list[str]:
    lower = piece.lower()
    if lower in words:
        return [piece]
    for size in range(len(piece) - 1, SHORTEST - 1, -1):
        if lower[:size] in words:
            return [piece[:size], *_cut(piece[size:], words)]
        if lower[-size:] in words:
            return [*_cut(piece[:-size], words), piece[-size:]]
    return [piece]
