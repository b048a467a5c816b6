"""Texts are called English where they read so as a whole."""

from __future__ import annotations

import pytest

from pairfuse.data.english import mostly_english

ENGLISH = "What a day: the dog ran into the park and they could not find it for an hour."
TWEETS = [
    "RT @ana: OMG this is what you get when they don't care #sad #news http://t.co/N8x",
    "Proud of our team tonight!!! #winning #together",
    "http://t.co/uhBAWowjbY http://t.co/70qXpnCKhv",
]
SPANISH = "El perro corre por el parque y no me gusta nada lo que dicen de la casa de mi hermano."
GERMAN = "Ich war in der Stadt, was will man so an dem Tag, und habe das Buch im Park gelesen."
DUTCH = "We gaan was of niet, de hond is in open water en het was een mooie dag, of niet."
CHINESE = "今天天气很好,我们去公园散步,the best day,然后回家吃饭看电影。"

CASES = [
    ("a sentence", [ENGLISH], True),
    ("tweets", TWEETS, True),
    ("Spanish", [SPANISH], False),
    ("German", [GERMAN], False),
    ("Dutch", [DUTCH], False),
    ("Chinese", [CHINESE], False),
    ("Spanish with some English", [SPANISH] * 9 + [ENGLISH], False),
    ("English with some Spanish", [ENGLISH] * 9 + [SPANISH], True),
    ("none", [], False),
    ("empty ones", ["", " "], False),
    ("numbers and links", ["12 + 3", "http://the.and.you/that"], False),
]


@pytest.mark.parametrize(
    ("texts", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_language_is_told_by_its_words(texts: list[str], expected: bool) -> None:
    assert mostly_english(texts) == expected


def test_many_texts_are_sampled_over_their_whole_length() -> None:
    assert not mostly_english([ENGLISH] * 3000 + [CHINESE] * 27_000)
