"""Decoding: bytes of text files to text; the whole data set is evidence for each of its files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass

import chardet
import numpy as np

from pairfuse.arrays import Doubles
from pairfuse.data.alphabets import costs
from pairfuse.errors import DataError

AUTO = "auto"


@dataclass(frozen=True)
class DecodedText:
    """One file's text, the codec that read it, and how many characters had to be replaced."""

    text: str
    encoding: str
    replaced: int


@dataclass(frozen=True)
class Candidate:
    """An encoding that a file may be in: its weight before any evidence, and what it writes.

    The first language is the one that the encoding was made for.
    """

    codec: str
    prior: float
    languages: tuple[str, ...]


CANDIDATES = (
    Candidate("utf-8", 0.5, ("marks", "west", "world", "hans", "hant", "ja", "ko", "ru")),
    Candidate("cp1252", 0.15, ("west", "marks")),
    Candidate("gb18030", 0.1, ("hans", "marks", "hant", "ja", "ru", "west", "world")),
    Candidate("cp932", 0.05, ("ja", "marks", "ru")),
    Candidate("cp949", 0.05, ("ko", "marks", "ja", "ru")),
    Candidate("cp950", 0.05, ("hant", "marks", "ja", "ru")),
    Candidate("cp1251", 0.05, ("ru", "marks")),
    Candidate("euc_jp", 0.02, ("ja", "marks", "ru", "west")),
    Candidate("iso8859-1", 0.001, ("west",)),
)
SECOND_LANGUAGE = 2.0  # nats: a file in a language that its encoding was not made for
UTF8 = next(i for i, candidate in enumerate(CANDIDATES) if candidate.codec == "utf-8")

BOMS = (  # utf-32-le begins like utf-16-le, so the long ones come first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")

# Signs that a text was read in the wrong encoding, each costing IMPLAUSIBLE nats: small letter
# before capital, Latin touching Cyrillic, an ideograph inside a Latin word, hangul beside hanja,
# two accented letters in a row.
ODD = re.compile(
    "(?=[а-яё][А-ЯЁ]|[a-zß-ÿ][À-Þ]|[A-Za-zÀ-ÿ][Ѐ-ӿ]|[Ѐ-ӿ][A-Za-zÀ-ÿ]"
    "|[A-Za-z][\u3040-\u9fff\uac00-\ud7a3][A-Za-z]|[가-힣][一-\u9fff]|[一-\u9fff][가-힣]|[À-ÿ]{2})"
)
IMPLAUSIBLE = 3.0
ASCII_COST = 3.2  # nats: about one of 25 letters
REPLACED_COST = 9.0
CUT_COST = 6.0  # a replaced character at the very end: cut-off files are common
WINDOW = 400  # bytes of a file that are weighed
CERTAIN = 4  # different characters that are valid UTF-8 are no accident
ROUNDS = 30
CHARDET_TRUST = 4.0  # factor on the prior of the encoding that chardet names for the whole set
POOL = 100_000  # bytes shown to chardet
BLANKS = " \t\r\n"
NON_ASCII = re.compile(r"[^\x00-\x7f]+")
STRETCH = re.compile(rb"[\x80-\xff]+[\x30-\x7e]?")


def decode_texts(raws: Sequence[bytes], *, encoding: str = AUTO) -> list[DecodedText]:
    """Decode the text files of one data set; no bytes make it fail.

    A byte-order mark decides; ASCII and long valid UTF-8 need no guess. The other files are
    weighed together: how well each candidate reads a file, times how many other files are in it.

    Args:
        raws: The bytes of each file.
        encoding: The name of a codec, which then reads every file, or "auto".

    Returns:
        One result per file, in order; newlines are left alone. The encoding is "ascii", or
        Python's name of the codec.

    Raises:
        DataError: Python has no text codec of that name.
    """
    if encoding != AUTO:
        codec = _codec(encoding)
        return [_decode(raw, codec) for raw in raws]
    results = [_plain(raw) for raw in raws]
    open_files = [i for i, result in enumerate(results) if result is None]
    sure_utf8 = sum(result is not None and result.encoding == "utf-8" for result in results)
    codecs_chosen = _choose([raws[i] for i in open_files], sure_utf8)
    for i, codec in zip(open_files, codecs_chosen, strict=True):
        results[i] = _decode(raws[i], codec)
    return [result for result in results if result is not None]


def _codec(name: str) -> str:
    """Python's own name of a codec that turns any bytes into text."""
    try:
        bytes(range(256)).decode(name, "replace")
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise DataError(
            f"{name!r} is not a text encoding; give a name that Python knows, such as "
            f"gb18030 or cp1252, or {AUTO} to have it found"
        ) from None


def _decode(raw: bytes, codec: str) -> DecodedText:
    """Decode with one codec; a character cut off at the end becomes one U+FFFD."""
    try:
        return DecodedText(raw.decode(codec), codec, 0)
    except UnicodeError:
        pass
    # A newline written after the cut would split what is left of the last character in two.
    like_ascii = BLANKS.encode("ascii").decode(codec, "replace") == BLANKS
    body = raw.rstrip(BLANKS.encode("ascii")) if like_ascii else raw
    tail = raw[len(body) :].decode("ascii")
    text = body.decode(codec, "replace")
    replaced = text.count("\ufffd") - body.decode(codec, "ignore").count("\ufffd")
    return DecodedText(text + tail, codec, replaced)


def _plain(raw: bytes) -> DecodedText | None:
    """The text of a file that needs no guess, else None."""
    if raw.isascii() and b"\0" not in raw:
        return DecodedText(raw.decode("ascii"), "ascii", 0)
    for mark, codec in BOMS:
        if raw.startswith(mark):
            return _decode(raw, codec)
    if b"\0" in raw and (wide := _wide(raw)):
        return _decode(raw, wide)
    if raw.isascii():
        return DecodedText(raw.decode("ascii"), "ascii", 0)
    result = _decode(raw, "utf-8")
    at_end = result.replaced == 1 and result.text.rstrip(BLANKS).endswith("\ufffd")
    if result.replaced and not at_end:
        return None
    different = set("".join(NON_ASCII.findall(result.text))) - {"\ufffd"}
    return result if len(different) >= CERTAIN else None


def _wide(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark, as chardet sees it."""
    found = chardet.detect(
        raw, compat_names=False, include_encodings=WIDE, no_match_encoding=WIDE[0]
    )
    name = found["encoding"]
    return name if name in WIDE and found["confidence"] > 0.5 else None


def _choose(raws: Sequence[bytes], sure_utf8: int) -> list[str]:
    """The codec of each file, weighed with all the others.

    A mixture model: the share of each encoding in the data set is estimated from the files, and
    each file is judged with the share among the *other* files, so that it does not vote for
    itself (the zero-order collapsed update of Asuncion et al. 2009).
    """
    if not raws:
        return []
    fits = np.array([_fits(raw) for raw in raws])  # (N, E) nats
    prior = _prior(raws)  # (E,)
    sure = np.zeros(len(CANDIDATES))
    sure[UTF8] = sure_utf8
    shares = _posterior(fits, prior)  # (N, E)
    for _ in range(ROUNDS):
        others = prior + sure + shares.sum(axis=0) - shares  # (N, E)
        shares = _posterior(fits, others)
    return [CANDIDATES[i].codec for i in shares.argmax(axis=1)]


def _posterior(fits: Doubles, weights: Doubles) -> Doubles:
    """Bayes' rule in logarithms; rows sum to 1."""
    joint = fits + np.log(np.maximum(weights, 1e-12))  # (N, E)
    odds = np.exp(joint - joint.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _prior(raws: Sequence[bytes]) -> Doubles:
    """Weights of the candidates before the files are weighed, with chardet's word on them all."""
    prior = np.array([candidate.prior for candidate in CANDIDATES])
    # Sorted, so that the order of the files does not matter.
    stretches = sorted({b" ".join(STRETCH.findall(raw[: 4 * WINDOW])) for raw in raws})
    step = 1 + sum(map(len, stretches)) // POOL
    names = {_chardet_name(candidate.codec): i for i, candidate in enumerate(CANDIDATES)}
    found = chardet.detect(
        b" ".join(stretches[::step]), compat_names=False, include_encodings=list(names)
    )
    named = names.get(found["encoding"] or "")
    if named is not None:
        prior[named] *= CHARDET_TRUST
    return np.asarray(prior / prior.sum())


def _chardet_name(codec: str) -> str:
    """chardet's name for a codec: it knows some only as their largest relative."""
    return {"cp950": "big5hkscs", "euc_jp": "euc_jis_2004"}.get(codec, codec)


def _fits(raw: bytes) -> list[float]:
    """How well each candidate reads a file: the logarithm of the text's probability, in nats."""
    first = next(i for i, byte in enumerate(raw) if byte > 0x7F)
    window = raw[max(0, first - 2) : first + WINDOW]
    return [_fit(window, candidate) for candidate in CANDIDATES]


def _fit(window: bytes, candidate: Candidate) -> float:
    text = _decode(window, candidate.codec).text.rstrip(BLANKS)
    foreign = "".join(NON_ASCII.findall(text))
    cost = ASCII_COST * (len(text) - len(foreign)) + IMPLAUSIBLE * len(ODD.findall(text))
    if "\ufffd" in foreign:
        cost += REPLACED_COST * foreign.count("\ufffd")
        cost -= (REPLACED_COST - CUT_COST) * text.endswith("\ufffd")
        foreign = foreign.replace("\ufffd", "")
    by_language = [sum(map(costs()[name].__getitem__, foreign)) for name in candidate.languages]
    return -cost - min(by_language[0], SECOND_LANGUAGE + min(by_language))
