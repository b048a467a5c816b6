from __future__ import annotations

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.data import decoding
from pairfuse.data.decoding import CANDIDATES, DecodedText, decode_texts
from pairfuse.errors import DataError

HANS = "今天的天气真好，我们一起去公园散步吧！"
HANT = "媽媽做的滷肉飯永遠是最好吃的，週末還要再來！"
JAPANESE = "週末も仕事で疲れた。このラーメン屋さん、スープが最高に美味しい！"
KOREAN = "오늘 날씨가 정말 좋아서 공원에서 산책했어요"
RUSSIAN = "Сегодня прекрасная погода, пойдём гулять"
SPANISH = "¿Quién soñó anoche con un dragón? Mañana será otro día"
ENGLISH = "“Don’t forget”, she said… it’s only £5 at the café"


def only(raw: bytes) -> DecodedText:
    (result,) = decode_texts([raw])
    return result


@pytest.mark.parametrize(
    ("text", "encoding", "reported"),
    [
        ("plain words\r\n", "ascii", "ascii"),
        ("", "ascii", "ascii"),
        ("a stray \0 byte", "ascii", "ascii"),
        (HANS, "utf-8", "utf-8"),
        (HANS, "utf-8-sig", "utf-8-sig"),
        (HANS, "utf-16", "utf-16"),
        (HANS, "utf-32", "utf-32"),
        (ENGLISH * 3, "utf-16-le", "utf-16-le"),
        (HANS, "gb18030", "gb18030"),
        (HANT, "big5", "cp950"),
        (JAPANESE, "cp932", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (KOREAN, "euc_kr", "cp949"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "utf-8", "utf-8"),
        (SPANISH, "cp1252", "cp1252"),
        (SPANISH, "latin-1", "cp1252"),
        (ENGLISH, "cp1252", "cp1252"),
        (ENGLISH + " 😂🎉", "utf-8", "utf-8"),
        ("😂", "utf-8", "utf-8"),
        ("café", "utf-8", "utf-8"),
        ("a café in town", "cp1252", "cp1252"),
        ("naïve", "cp1252", "cp1252"),  # an ideograph inside a word for GB18030
    ],
)
def test_one_file_alone_is_read_as_it_was_written(text: str, encoding: str, reported: str) -> None:
    assert only(text.encode(encoding)) == DecodedText(text, reported, 0)


@pytest.mark.parametrize(
    ("neighbours", "codec", "short", "text"),
    [
        (HANS, "gb18030", b"ha (\xd0\xa6) x", "ha (笑) x"),  # Ц in UTF-8
        (HANS, "gb18030", b"RT x: \xc2\xaf500 | y", "RT x: 炉500 | y"),  # a macron in UTF-8
        (HANS, "gb18030", b"180\xa2\xe3", "180€"),  # not in GBK
        (HANS, "gb18030", b"so true\xa1\xad \n", "so true… \n"),
        (ENGLISH, "utf-8", b"ha (\xd0\xa6) x", "ha (Ц) x"),
        (JAPANESE, "cp932", "(笑)".encode("cp932"), "(笑)"),
        (JAPANESE, "euc_jp", "新しい".encode("euc_jp"), "新しい"),
        (KOREAN, "cp949", "ㅋㅋㅋ".encode("cp949"), "ㅋㅋㅋ"),
        (HANT, "cp950", "圓圓".encode("cp950"), "圓圓"),
        (RUSSIAN, "cp1251", "да".encode("cp1251"), "да"),
        (SPANISH, "cp1252", b"\xf1\xf3", "ñó"),
    ],
)
def test_an_ambiguous_file_is_read_like_the_others(
    neighbours: str, codec: str, short: bytes, text: str
) -> None:
    raws = [f"{neighbours} {i}".encode(codec) for i in range(200)]
    assert decode_texts([*raws, short])[-1].text == text


@pytest.mark.parametrize(
    ("text", "codec"), [(ENGLISH, "cp1252"), (RUSSIAN, "cp1251"), (JAPANESE, "cp932")]
)
def test_a_mixed_data_set_is_read_file_by_file(text: str, codec: str) -> None:
    raws = [f"{i} {text}".encode(name) for i in range(20) for name in ("utf-8", codec)]
    results = decode_texts(raws)
    assert [result.text for result in results] == [f"{i} {text}" for i in range(20) for _ in "ab"]
    assert [result.encoding for result in results] == ["utf-8", codec] * 20


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (HANS, "utf-8"),
        (HANS + "😂", "gb18030"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (HANT, "cp950"),
        (KOREAN, "cp949"),
    ],
)
def test_a_character_cut_in_two_becomes_one_replacement(text: str, codec: str) -> None:
    for ending in ("", "\n", " \r\n"):
        result = only(text.encode(codec)[:-1] + ending.encode())
        assert result == DecodedText(f"{text[:-1]}\ufffd{ending}", codec, 1)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_every_cut_of_a_four_byte_character_is_one_replacement(cut: int) -> None:
    for codec in ("utf-8", "gb18030"):
        raw = f"{HANS}😂".encode(codec)[:-cut] + b"\n"
        assert only(raw) == DecodedText(f"{HANS}\ufffd\n", codec, 1)


@pytest.mark.parametrize("text", ["ok 😂", "wow 日本", "你好"])
def test_short_utf8_that_is_cut_off_stays_utf8(text: str) -> None:
    assert only(text.encode()[:-1]) == DecodedText(text[:-1] + "\ufffd", "utf-8", 1)


def test_utf8_with_bad_bytes_stays_utf8() -> None:
    raw = SPANISH.encode() + b" \xff " + RUSSIAN.encode() + b" \xfe"
    assert only(raw) == DecodedText(f"{SPANISH} \ufffd {RUSSIAN} \ufffd", "utf-8", 2)


def test_utf8_whose_start_is_cut_off_stays_utf8() -> None:
    assert only(HANS.encode()[1:]) == DecodedText("\ufffd\ufffd" + HANS[1:], "utf-8", 2)


def test_a_replacement_character_in_the_source_is_not_counted() -> None:
    assert only(f"{RUSSIAN} \ufffd".encode()).replaced == 0
    assert decode_texts(["a\ufffd".encode() + b"\xff"], encoding="utf8")[0].replaced == 1


def test_a_named_encoding_overrules_the_evidence() -> None:
    results = decode_texts([RUSSIAN.encode("utf-8"), b"abc", b"\x98"], encoding="CP1251")
    assert [result.encoding for result in results] == ["cp1251"] * 3
    assert [result.replaced for result in results] == [
        RUSSIAN.encode("utf-8").decode("cp1251", "replace").count("\ufffd"),
        0,
        1,
    ]


def test_a_name_that_is_no_text_encoding_is_refused_with_advice() -> None:
    for name in ("klingon", "base64", "rot13", "idna", "undefined", "", "a\0b"):
        with pytest.raises(DataError, match="give a name that Python knows") as caught:
            decode_texts([b"x"], encoding=name)
        assert "\n" not in str(caught.value)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_make_it_fail(raws: list[bytes]) -> None:
    results = decode_texts(raws)
    assert len(results) == len(raws)
    for raw, result in zip(raws, results, strict=True):
        # Whatever was decided, the text is what that codec reads, up to replacements.
        if result.replaced == 0:
            assert raw.decode(result.encoding) == result.text


def test_no_bytes_make_a_named_candidate_fail() -> None:
    rng = random.Random(0)
    raws = [rng.randbytes(rng.randrange(30)) for _ in range(300)]
    for codec in (candidate.codec for candidate in CANDIDATES):
        for raw, result in zip(raws, decode_texts(raws, encoding=codec), strict=True):
            assert result.replaced > 0 or result.text == raw.decode(codec, "ignore"), codec


def test_the_order_of_the_files_does_not_matter() -> None:
    raws = [text.encode("gb18030") for text in (HANS, JAPANESE, RUSSIAN, ENGLISH, "(笑)")] * 3
    raws += [SPANISH.encode("utf-8"), SPANISH.encode("cp1252"), KOREAN.encode("cp949")]
    forwards = decode_texts(raws)
    assert decode_texts(raws[::-1]) == forwards[::-1]
    assert decode_texts(raws) == forwards


def test_newlines_and_blanks_are_left_alone() -> None:
    text = f"\r\n {HANS}\u3000\r\n\n\t "
    assert only(text.encode("gb18030")).text == text


def test_each_candidate_is_named_as_python_names_it() -> None:
    for candidate in CANDIDATES:
        assert codecs.lookup(candidate.codec).name == candidate.codec


def test_files_that_need_no_guess_are_not_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    def weigh(*_: object) -> None:
        raise AssertionError("it was weighed")

    for name in ("_fits", "_prior", "_wide"):
        monkeypatch.setattr(decoding, name, weigh)
    raws = [b"words, as in a tweet", HANS.encode(), HANS.encode("utf-16")]
    found = [result.encoding for result in decode_texts(raws)]
    assert found == ["ascii", "utf-8", "utf-16"]
