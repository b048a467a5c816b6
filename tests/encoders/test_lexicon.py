"""The lexicon's columns say of a text what VADER says, of its words and of its hashtags' words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pairfuse.arrays import Floats
from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.encoders.lexicon import COLUMNS, SCORES, LexiconEncoder, words_apart
from pairfuse.encoders.weights import package_path


def encode(*texts: str) -> Floats:
    loaded = LexiconEncoder().load("cpu")
    found = loaded.encode([loaded.prepare(text) for text in texts])
    assert isinstance(found, np.ndarray)
    return found


def test_the_first_columns_are_those_of_vader_itself() -> None:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    text = "Not a GOOD day :( but I love #LoveMyDog!!!"
    expected = SentimentIntensityAnalyzer().polarity_scores(text)
    assert np.allclose(encode(text)[0, :4], [expected[name] for name in SCORES])
    assert len(COLUMNS) == encode(text).shape[1] == build_encoders(["lexicon"])[0].dim


def test_words_in_hashtags_count_in_the_columns_for_them() -> None:
    [hidden, plain] = encode("we are here #feellove", "we are here")
    assert np.array_equal(hidden[:4], plain[:4])
    place = COLUMNS.index("compound_of_hashtag_words")
    assert hidden[place] > 0.5 > plain[place] == 0


HASHTAGS = [
    ("see #LoveMyDog now", "see Love My Dog now"),
    ("#lovemydog", "love mydog"),
    ("#feelLOVE2day", "feel LOVE 2 day"),
    ("#so_happy", "so happy"),
    ("#sohappy", "so happy"),
    ("#unitedkingdom", "unitedkingdom"),
    ("#crusader", "crusader"),
    ("#写真好き", "写真好き"),
    ("#___", ""),
    ("no hashtag # here", "no hashtag # here"),
]


@pytest.mark.parametrize(("text", "expected"), HASHTAGS)
def test_a_hashtag_is_cut_into_words(text: str, expected: str) -> None:
    assert " ".join(words_apart(text, {"love", "happy"}).split()) == expected


def test_a_longer_word_of_feeling_is_found_before_a_shorter_one() -> None:
    assert words_apart("#heartbrokengirl", {"heart", "heartbroken"}).split() == [
        "heartbroken",
        "girl",
    ]


def test_odd_texts_give_finite_numbers_within_their_range() -> None:
    odd = [
        "",
        " ",
        "#",
        "\ud83d",
        "!" * 5000,
        "\U0001f600" * 300,
        "but " * 3000,
        "0 \x00 ﷽",
        "写真",
    ]
    found = encode(*odd)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


def test_the_fingerprint_is_of_the_files_that_the_scores_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(LexiconEncoder())
    source = package_path("lexicon", "package:vaderSentiment/vader_lexicon.txt").parent
    for file in source.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    place = "pairfuse.encoders.weights.package_path"
    monkeypatch.setattr(place, lambda _, inner: tmp_path / inner.rpartition("/")[2])
    assert fingerprint(LexiconEncoder()) == before
    with (tmp_path / "vader_lexicon.txt").open("a") as file:
        file.write("splendiferous\t3.0\t0.5\t[3]\n")
    assert fingerprint(LexiconEncoder()) != before


def test_it_is_described_without_being_imported() -> None:
    script = (
        "import sys; from pairfuse.encoders import build_encoders, fingerprint\n"
        "fingerprint(*build_encoders(['lexicon']))\n"
        "print(sorted({'vaderSentiment', 'requests', 'nltk', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
