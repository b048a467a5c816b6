"""Alphabets: how likely a character is in each language, for judging how a text was decoded."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from functools import cache

# The characters that a language writes most, most frequent first.
HANS = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应新今爱吃快乐"
    "真谢喜欢吗吧呢啊哈给让走女朋友美照片早晚月太再见水话风"
)
HANT = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡"
    "用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實"
    "日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應新今愛吃快樂"
    "真謝喜歡嗎吧呢啊哈給讓走女朋友美照片早晚月太再見水話風"
)
KANA = (
    "のいしたにはとてがなでんをるもれさかっすうらこくりまよけどだつそきえあわおせちみめろねばやじゃ"
)
KATAKANA = "ーンスルトリアイラドロクシジッテマフコメタカレキサ"
KANJI = "日一人年大十二本中出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女天私新"
HANGUL = (
    "이다는에의가을하고지한기로어사도서나그대를인해자리정일시라아있은들수것전게보부만여으구주상원스않없적제"
    "안과와동모비등오때되화미면무관우연장선경성생공신내세조중소개말요네너진좋늘오람날음했습니까친"
)
CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"
ACCENTED = "éáíóñãçüöäèàêúôßâîëåøæ"
MARKS = "“”‘’…—–·、。，！？"
OWN, SHARED, FOREIGN = 0.8, 0.15, 0.05  # of a text's characters: its language, marks, any other


class Costs(dict[str, float]):
    """Nats per non-ASCII character of one language, worked out when a character is first met."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, character: str) -> float:
        shares = {name: table.get(character, 0.0) for name, table in _tables().items()}
        share = (
            OWN * shares[self._language]
            + SHARED * shares["marks"]
            + FOREIGN * sum(shares.values()) / len(shares)
            + (1e-9 if unicodedata.category(character) == "Cc" else 1e-7)
        )
        self[character] = cost = -math.log(share)
        return cost


@cache
def costs() -> dict[str, Costs]:
    """The cost table of each language."""
    return {language: Costs(language) for language in _tables()}


@cache
def _tables() -> dict[str, dict[str, float]]:
    """Probability of each character in each language.

    A few characters make up most of a text, the national standard's first level most of the
    rest: each group has a share, which its characters divide evenly.
    """
    kana = KANA + _span(0x3041, 0x3093)
    capitals = CYRILLIC.upper()
    return {
        "hans": _table(
            {HANS[:50]: 0.3, HANS[50:]: 0.25, _rows("gb2312", 0xB0, 0xD7): 0.42}
            | {_rows("gb2312", 0xD8, 0xF7): 0.02, _rows("gb2312", 0xA1, 0xA3): 0.005}
        ),
        "hant": _table(
            {HANT[:50]: 0.3, HANT[50:]: 0.25, _rows("big5", 0xA4, 0xC6): 0.42}
            | {_rows("big5", 0xC9, 0xF9): 0.02, _rows("big5", 0xA1, 0xA3): 0.005}
        ),
        "ja": _table(
            {kana: 0.5, KATAKANA: 0.12, _span(0x30A1, 0x30F6): 0.05, KANJI: 0.12}
            | {_rows("euc_jp", 0xB0, 0xCF): 0.2, _rows("euc_jp", 0xD0, 0xF4): 0.005}
            | {_rows("euc_jp", 0xA1, 0xA3): 0.01, _span(0xFF61, 0xFF9F): 0.002}
        ),
        "ko": _table(
            {HANGUL[:50]: 0.45, HANGUL[50:]: 0.3, _rows("euc_kr", 0xB0, 0xC8): 0.22}
            | {"ㅋㅎㅠㅜ": 0.02, _span(0x3131, 0x3163): 0.005, _span(0xAC00, 0xD7A3): 0.002}
            | {_rows("euc_kr", 0xCA, 0xFD): 0.002, _rows("euc_kr", 0xA1, 0xA3): 0.005}
        ),
        "ru": _table(
            {CYRILLIC[:12]: 0.6, CYRILLIC[12:]: 0.32, capitals: 0.06, "«»№": 0.015}
            | {_span(0x400, 0x45F): 0.005}
        ),
        "west": _table(
            {ACCENTED[:8]: 0.55, ACCENTED[8:]: 0.3, "¡¿°£€«»": 0.05, ACCENTED.upper(): 0.03}
            | {_span(0xC0, 0xFF): 0.02, _span(0xA0, 0xBF): 0.005}
        ),
        "marks": _table({MARKS[:7]: 0.75, MARKS[7:]: 0.2, "•€™®©°´~～「」（）【】♥♡★☆♪": 0.05}),
        "world": _table(
            {_span(0x1F300, 0x1FAFF): 0.4, _span(0x2600, 0x27BF): 0.15, _span(0x100, 0x17F): 0.1}
            | {_span(0x370, 0x3FF): 0.1, _span(0x590, 0x6FF): 0.1, _span(0x900, 0xE7F): 0.1}
            | {_span(0x2000, 0x25FF): 0.03, "\u200d\ufe0f": 0.02}
        ),
    }


def _table(groups: Mapping[str, float]) -> dict[str, float]:
    """Each group's share divided evenly over its characters."""
    shares: dict[str, float] = {}
    for characters, share in groups.items():
        for character in characters:
            shares[character] = shares.get(character, 0.0) + share / len(characters)
    return shares


def _rows(codec: str, first: int, last: int) -> str:
    """The characters of a double-byte set whose lead bytes lie in a range."""
    pairs = (bytes((lead, trail)) for lead in range(first, last + 1) for trail in range(0x40, 0xFF))
    decoded = (pair.decode(codec, "ignore") for pair in pairs)
    return "".join(text for text in decoded if len(text) == 1 and not text.isascii())


def _span(first: int, last: int) -> str:
    """The characters of a range of code points."""
    return "".join(map(chr, range(first, last + 1)))
