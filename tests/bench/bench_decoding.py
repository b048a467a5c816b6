"""Share of texts decoded exactly, per data set, beside one guess per file.

python tests/bench/bench_decoding.py [--mvsa FOLDER] [--seeds 3]
"""

from __future__ import annotations

import argparse
import codecs
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import chardet
from charset_normalizer import from_bytes

from pairfuse.data.decoding import decode_texts

Case = tuple[bytes, str]  # the file, and its text; a character cut in two is one U+FFFD

SENTENCES = {
    "hans": (
        "今天的天气真好，我们一起去公园散步吧！",
        "昨晚看了一部很感人的电影，哭得稀里哗啦……",
        "这家餐厅的麻辣火锅味道不错，下次还要来。",
        "妈妈做的红烧肉永远是最好吃的",
        "周末加班，心情有点糟糕，谁来安慰我？",
        "猫咪睡在键盘上，我没法工作了",
        "恭喜你考上大学，前程似锦！",
        "地铁又晚点，迟到二十分钟",
        "新买的手机屏幕碎了，欲哭无泪",
        "夕阳下的海边，浪漫极了",
        "他说：“明天见”，然后再也没有出现",
        "北京的秋天短暂而美丽",
        "凌晨三点，失眠，听着窗外的雨声",
        "祝大家中秋节快乐，团团圆圆",
        "这个价格180€，太贵了吧",
        "孩子们在雪地里堆雪人，笑声传遍整个村庄",
    ),
    "hant": (
        "今天的天氣真好，我們一起去陽明山看櫻花吧！",
        "昨晚看了一部很感人的電影，哭得亂七八糟……",
        "這家餐廳的牛肉麵味道不錯，下次還要來。",
        "媽媽做的滷肉飯永遠是最好吃的",
        "週末加班，心情有點糟糕，誰來安慰我？",
        "貓咪睡在鍵盤上，我沒辦法工作了",
        "恭喜你考上大學，前程似錦！",
        "捷運又誤點，遲到二十分鐘",
        "新買的手機螢幕碎了，欲哭無淚",
        "夕陽下的海邊，浪漫極了",
        "他說：「明天見」，然後再也沒有出現",
        "臺北的冬天潮濕而寒冷",
        "凌晨三點，失眠，聽著窗外的雨聲",
        "祝大家中秋節快樂，團團圓圓",
        "夜市人山人海，珍珠奶茶排隊一小時",
        "孩子們在溪邊抓魚，笑聲傳遍整個村莊",
    ),
    "ja": (
        "今日はとても天気がいいので、公園を散歩しました。",
        "昨日の夜、感動的な映画を見て泣いてしまった…",
        "このラーメン屋さん、スープが最高に美味しい！",
        "週末も仕事で疲れた。誰か慰めてください",
        "猫がキーボードの上で寝ていて仕事にならない",
        "合格おめでとうございます！",
        "電車が遅れて遅刻しそう",
        "新しいスマホの画面が割れた(泣)",
        "夕焼けの海がきれいでした",
        "「また明日ね」と言って彼は去った",
        "京都の紅葉は今が見頃です",
        "眠れない夜、窓の外の雨音を聞いている",
        "ライブのチケット当たった！嬉しすぎる～",
        "お誕生日おめでとう、素敵な一年になりますように",
        "ありがとう",
        "子どもたちが雪だるまを作って遊んでいた",
    ),
    "ko": (
        "오늘 날씨가 정말 좋아서 공원에서 산책했어요.",
        "어젯밤에 감동적인 영화를 보고 울었다…",
        "이 식당 김치찌개 진짜 맛있어요!",
        "엄마가 해 주신 불고기가 제일 맛있다",
        "주말에도 일하느라 너무 피곤해 ㅠㅠ",
        "고양이가 키보드 위에서 자고 있어서 일을 못 한다 ㅋㅋㅋ",
        "대학 합격을 축하합니다!",
        "지하철이 또 늦어서 지각했다",
        "새로 산 휴대폰 액정이 깨졌다",
        "노을 진 바닷가가 아름답다",
        "“내일 봐요” 하고 그는 떠났다",
        "서울의 가을은 짧고 예쁘다",
        "새벽 세 시, 잠이 안 온다",
        "즐거운 추석 보내세요",
        "콘서트 표를 구해서 너무 기뻐요",
        "아이들이 눈사람을 만들며 웃었다",
    ),
    "ru": (
        "Сегодня прекрасная погода, пойдём гулять в парк!",
        "Вчера смотрели грустный фильм, плакали весь вечер…",
        "Борщ у бабушки самый вкусный на свете",
        "Опять работаю в выходные, настроение ужасное",
        "Кот спит на клавиатуре и не даёт работать",
        "Поздравляю с поступлением в университет!",
        "Поезд снова опоздал на двадцать минут",
        "Разбил экран нового телефона(((",
        "Закат на море — это так красиво",
        "Он сказал: «До завтра» и ушёл",
        "Осень в Петербурге короткая и дождливая",
        "Три часа ночи, не могу уснуть",
        "С Новым годом, друзья!",
        "Ура, купили билеты на концерт",
        "Спасибо",
        "Дети лепили снеговика и громко смеялись",
    ),
    "es": (
        "Hoy hace un día precioso, ¡vamos a pasear por el parque!",
        "Anoche lloré viendo una película muy triste…",
        "La paella de mi abuela está riquísima",
        "¿Quién más está trabajando este sábado?",
        "El niño soñó con un dragón y despertó feliz",
        "¡Enhorabuena por aprobar el examen!",
        "El tren llegó tarde otra vez, qué vergüenza",
        "Se rompió la pantalla del teléfono",
        "Mañana será otro día",
        "Qué atardecer más bonito en Cádiz",
        "Él dijo: «hasta mañana» y se fue",
        "El otoño aquí es corto pero mágico",
        "Son las tres y no puedo dormir, sólo oigo la lluvia",
        "¡Feliz cumpleaños, Begoña!",
        "El café está a 2 € en la estación",
        "Los niños jugaban con la nieve",
    ),
    "en": (
        "It’s a beautiful day, let’s go for a walk ☀️",
        "She said “see you tomorrow” and never came back",
        "Can’t sleep, it’s 3am…",
        "My cat is asleep on the keyboard 😂😂",
        "Dinner at the café was £45 — worth it",
        "Don’t forget: doors open at 7",
        "“Stay hungry, stay foolish”",
        "So proud of you!! 🎉❤️",
        "We’re lost again…",
        "Sunset on the beach – no filter 🌅",
        "Beyoncé’s new album is fire 🔥🔥🔥",
        "I’m so tired 😴",
        "Happy birthday to the best mum ever 🎂💕",
        "Rain rain rain… again",
        "That’s what friends are for",
        "He’s naïve, but we love him",
    ),
}
LEGACY = {
    "hans": ("gb18030",),
    "hant": ("big5", "gb18030"),
    "ja": ("cp932", "euc_jp", "gb18030"),
    "ko": ("cp949",),
    "ru": ("cp1251", "gb18030"),
    "es": ("cp1252", "latin-1", "gb18030"),
    "en": ("cp1252", "gb18030"),
}
MIXED = {
    "hans utf-8 + gb18030": (("hans", "utf-8"), ("hans", "gb18030")),
    "ja utf-8 + cp932": (("ja", "utf-8"), ("ja", "cp932")),
    "es utf-8 + cp1252": (("es", "utf-8"), ("es", "cp1252")),
    "en utf-8 + ru cp1251": (("en", "utf-8"), ("ru", "cp1251")),
    "en, es, ja, ru in gb18030": tuple((name, "gb18030") for name in ("en", "es", "ja", "ru")),
    "hans gb18030 + hant big5": (("hans", "gb18030"), ("hant", "big5")),
    "ko cp949 + en utf-8": (("ko", "cp949"), ("en", "utf-8")),
    "ja cp932 + ja euc_jp": (("ja", "cp932"), ("ja", "euc_jp")),
}


def make_case(language: str, codec: str, rng: random.Random) -> Case:
    """One file with at least one byte that is not ASCII; a third are cut at a random byte."""
    while True:
        text = rng.choice(SENTENCES[language])
        if rng.random() < 0.5:
            text = text + " " + rng.choice(SENTENCES[language])
        if rng.random() < 0.3:
            start = rng.randrange(len(text))
            text = text[start : start + rng.randint(5, 20)]
        if rng.random() < 0.4:
            text = f"RT @user{rng.randrange(999)}: {text} #photo http://t.co/{rng.randrange(10**6)}"
        raw = text[:140].encode(codec, "ignore")
        if rng.random() < 0.33 and len(raw) > 5:
            raw = raw[: rng.randint(5, len(raw))]
        whole = codecs.getincrementaldecoder(codec)().decode(raw)
        cut = "\ufffd" if whole.encode(codec) != raw else ""
        newline = "\n" if rng.random() < 0.3 else ""
        if len(whole) >= 5 and not raw.isascii():
            return raw + newline.encode(), whole + cut + newline


def by_pairfuse(raws: Sequence[bytes]) -> list[str]:
    return [result.text for result in decode_texts(raws)]


def by_chardet(raws: Sequence[bytes]) -> list[str]:
    return [
        raw.decode(chardet.detect(raw, compat_names=False)["encoding"] or "latin-1", "replace")
        for raw in raws
    ]


def by_charset_normalizer(raws: Sequence[bytes]) -> list[str]:
    best = (from_bytes(raw).best() for raw in raws)
    return [
        raw.decode(match.encoding if match else "latin-1", "replace")
        for raw, match in zip(raws, best, strict=True)
    ]


def by_fixed_list(raws: Sequence[bytes]) -> list[str]:
    return [_first(raw) for raw in raws]


def _first(raw: bytes) -> str:
    for codec in ("utf-8", "gbk"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


METHODS: dict[str, Callable[[Sequence[bytes]], list[str]]] = {
    "pairfuse": by_pairfuse,
    "chardet": by_chardet,
    "normalizer": by_charset_normalizer,
    "fixed list": by_fixed_list,
}


def exact_share(name: str, files: Sequence[Case]) -> float:
    texts = METHODS[name]([raw for raw, _ in files])
    return sum(text == case[1] for text, case in zip(texts, files, strict=True)) / len(files)


def data_sets() -> dict[str, tuple[tuple[str, str], ...]]:
    alone = {
        f"{language} {codec}": ((language, codec),)
        for language, legacy in LEGACY.items()
        for codec in ("utf-8", *legacy)
    }
    return alone | MIXED


def print_table(seeds: int) -> None:
    sizes = (1, 10, 50, 200)
    print("share of texts decoded exactly (non-ASCII files; pairfuse by number of files)")
    print(f"{'data set':28}" + "".join(f"{size:>7}" for size in sizes) + "  chardet  norm.  fixed")
    sums: Counter[str] = Counter()
    for title, sources in data_sets().items():
        row = []
        rng = random.Random(title)
        files = [make_case(*sources[i % len(sources)], rng) for i in range(200 * seeds)]
        for size in sizes:
            # The same files in each column, taken as data sets of this size.
            chunks = [files[i : i + size] for i in range(0, min(len(files), 60 * size), size)]
            row.append(sum(exact_share("pairfuse", chunk) for chunk in chunks) / len(chunks))
        row += [exact_share(name, files[:200]) for name in METHODS if name != "pairfuse"]
        print(
            f"{title:28}"
            + "".join(f"{100 * v:7.1f}" for v in row[:4])
            + "".join(f"{100 * v:8.1f}" for v in row[4:])
        )
        sums.update({str(i): value for i, value in enumerate(row)})
    count = len(data_sets())
    print(f"{'mean':28}" + "".join(f"{100 * sums[str(i)] / count:7.1f}" for i in range(7)))


def print_speed() -> None:
    ascii_files = [
        b"a plain text of about sixty characters, as in a tweet %d" % i for i in range(10**6)
    ]
    start = time.perf_counter()
    decode_texts(ascii_files)
    print(f"1,000,000 ASCII files: {time.perf_counter() - start:.2f} s")
    rng = random.Random(0)
    files = [make_case("ja", "cp932", rng)[0] for _ in range(5000)]
    start = time.perf_counter()
    decode_texts(files)
    print(f"5,000 cp932 files: {time.perf_counter() - start:.2f} s")


def print_mvsa(folder: Path) -> None:
    """Every text of MVSA-Single that is not ASCII is GB18030."""
    paths = sorted(folder.glob("*.txt"), key=lambda path: int(path.stem))
    raws = [path.read_bytes() for path in paths]
    for name, method in METHODS.items():
        start = time.perf_counter()
        texts = method(raws)
        seconds = time.perf_counter() - start
        right = sum(
            text == raw.decode("gb18030", "replace")
            for text, raw in zip(texts, raws, strict=True)
            if not raw.isascii()
        )
        total = sum(not raw.isascii() for raw in raws)
        print(f"mvsa, {name:12} {right} of {total} right, {seconds:.2f} s")
    print("mvsa, encodings found:", Counter(r.encoding for r in decode_texts(raws)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mvsa", type=Path, help="folder with the texts of MVSA-Single")
    parser.add_argument("--seeds", type=int, default=3, help="200 files each per data set")
    options = parser.parse_args()
    print_table(options.seeds)
    print_speed()
    if options.mvsa:
        print_mvsa(options.mvsa)


if __name__ == "__main__":
    main()
