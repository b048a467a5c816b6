"""Drawing a demo set: texts, images, labels by the rule of its world, and the flaws on purpose.

The same seed gives the same bytes; a half-drawn set never stands under its final name.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pairfuse.data.duplicates import normalise_text
from pairfuse.errors import DataError, shown

if TYPE_CHECKING:
    from PIL import Image

SHARES = {"positive": 0.55, "negative": 0.30, "neutral": 0.15}
LABELS = tuple(SHARES)
FEWEST_PAIRS = 40
UNDECIDED = "undecided"
COPIES = 0.03  # the share of pairs that repeat an earlier one
ORIENTATION = 0x0112  # EXIF tag

SENTENCES = {
    "positive": (
        "So happy with {thing} at {place} {time}, best day ever",
        "I love {thing}, thank you {person} for a wonderful gift",
        "What a beautiful time with {person} at {place}, feeling blessed",
        "Proud of {person} today, brilliant work on {thing}",
        "Finally got {thing} and it is amazing, cannot stop smiling",
        "Laughing so hard with {person} at {place} {time}, pure joy",
        "Great news about {thing}, we won and everybody is delighted",
        "{person} made {time} perfect, excited for more fun at {place}",
    ),
    "negative": (
        "So sad about {thing} at {place} {time}, worst day ever",
        "I hate {thing}, {person} ruined everything again",
        "Crying alone at {place}, everything hurts without {person}",
        "Disgusted by {thing}, a complete disgrace and a waste of money",
        "Heartbroken that {person} lost {thing} {time}, terrible news",
        "Awful service at {place}, angry and exhausted, never again",
        "Scared and depressed {time}, nobody at {place} cares",
        "{thing} is broken and {person} is furious, what a miserable week",
    ),
    "neutral": (
        "{place} opens at nine {time}, ask {person} for the schedule",
        "Minutes of the meeting about {thing} at {place} are online",
        "Figures for {thing} {time}: see table two of the report by {person}",
        "{person} will present {thing} at {place} {time}, room 204",
        "Road works near {place} {time}, traffic uses the left lane",
        "For sale: {thing}, size medium, collect at {place}",
    ),
    UNDECIDED: (
        "{person} and {thing} at {place} {time}",
        "Look at {thing}, no words needed",
        "This is {place} {time} and that is all I can say",
        "You will not believe what {person} did with {thing}",
        "Guess who came to {place} {time}? It was {person}",
        "Current mood at {place}, {person} knows why",
        "Me and {thing} {time}, as always",
        "When {person} talks about {thing} at {place}",
    ),
}
SLOTS = {
    "thing": "the new album, my old bike, the match, our garden, the last episode, a blue coat, "
    "the exam, this phone, the cake, the election, her painting, the bus tickets",
    "place": "the harbour, Leeds station, the office, grandma's house, the stadium, school, "
    "the market, Cafe Roma, the museum, Bangor, the airport, Central Park, the old bridge",
    "person": "Zoe, my brother, Mr Okafor, Lena, the coach, Ali, our neighbour, Mum, Dr Singh, Tom",
    "time": "today, this morning, on Tuesday, tonight, after work, this weekend, at noon",
}
TAGS = ("#monday", "#throwback", "#nofilter", "#photo", "#life", "#city", "#tbt", "#now", "#2014")
README = """A synthetic data set, drawn by `make demo` (seed {seed}); nothing in it is real.

train.txt                {pairs} labelled pairs (guid,tag)
test_without_label.txt   {test_pairs} pairs to predict; their true labels are in test_truth.csv
data/<guid>.txt .jpg     text and image of each pair

{rule} About {copies} pairs repeat an earlier one. Some files have flaws on purpose:
{flaws}
"""


@dataclass(frozen=True)
class World:
    """What text and image show of the label.

    `text` and `image` are the shares of pairs in which they show it, independent of each other;
    the others show no label where the world is `undecided`, else any of the labels. In a `crossed`
    world the text shows any label and the image that one which makes their sum the pair's label.
    """

    rule: str
    text: float = 0.0
    image: float = 0.0
    undecided: bool = False
    crossed: bool = False

    def text_shows(self, label: str, random: Random) -> str:
        """What the text of a pair shows."""
        return self._shows(label, self.text, random)

    def image_shows(self, label: str, text_shows: str, random: Random) -> str:
        """What the image of a pair shows beside such a text."""
        if self.crossed:
            return LABELS[(LABELS.index(label) - LABELS.index(text_shows)) % len(LABELS)]
        return self._shows(label, self.image, random)

    def _shows(self, label: str, share: float, random: Random) -> str:
        if random.random() < share:
            return label
        return UNDECIDED if self.undecided else random.choice(LABELS)


WORLDS = {
    "mixed": World(
        "Six of ten texts and, independently, six of ten images follow the label; the others are\n"
        "undecided.",
        text=0.62,
        image=0.58,
        undecided=True,
    ),
    "text": World(
        "Nine of ten texts show the label, the others any; the images show any label,\n"
        "whatever the pair's is.",
        text=0.9,
    ),
    "image": World(
        "Nine of ten images show the label, the others any; the texts show any label,\n"
        "whatever the pair's is.",
        image=0.9,
    ),
    "added": World(
        "Six of ten texts and, independently, six of ten images show the label; the others\n"
        "show any.",
        text=0.6,
        image=0.6,
    ),
    "interaction": World(
        "Text and image each show any label, whatever the pair's is; with positive 0, negative 1\n"
        "and neutral 2 their sum modulo 3 is the pair's.",
        crossed=True,
    ),
}


@dataclass(frozen=True)
class _Text:
    shows: str
    text: str


@dataclass(frozen=True)
class _Drawn:
    """One pair before it is written; None means that the file is missing."""

    label: str
    text: bytes | None
    image: bytes | None
    picture: Image.Image


Flaw = Callable[[_Drawn], _Drawn]


def draw_demo(
    root: Path,
    *,
    pairs: int = 900,
    test_pairs: int = 150,
    seed: int = 0,
    world: str = "mixed",
    noise: float = 0.0,
) -> None:
    """Draw a data set of `train.txt`, `test_without_label.txt` and `data/` into a new folder.

    Args:
        root: Not there yet, or empty.
        pairs: Labelled pairs.
        test_pairs: Pairs without a label.
        seed: The same seed draws the same bytes.
        world: One of `WORLDS`.
        noise: Share of pairs whose label is drawn again by `SHARES`, whatever they show.

    Raises:
        DataError: The folder holds something, `pairs` leaves no room for the flaws, there is no
            such world, or the noise is no share.
    """
    if world not in WORLDS:
        raise DataError(f"no demo world {shown(world)}; choose one of {', '.join(WORLDS)}")
    if not 0 <= noise <= 1:
        raise DataError(f"the share of noisy labels is {shown(noise)}; use 0 to 1")
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and is not an empty folder; remove it or name another one")
    if pairs < FEWEST_PAIRS or test_pairs < 0:
        raise DataError(
            f"a demo set needs {FEWEST_PAIRS} pairs or more and no negative number of test pairs, "
            f"found {pairs} and {test_pairs}"
        )
    half = root.with_name(f".{root.name}.drawing-{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    (half / "data").mkdir(parents=True)
    try:
        _write(half, pairs, test_pairs, seed, WORLDS[world], noise)
        half.replace(root)  # an empty folder of that name gives way
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def _write(root: Path, pairs: int, test_pairs: int, seed: int, world: World, noise: float) -> None:
    random = Random(f"pairfuse demo {seed}")
    total = pairs + test_pairs
    guids = random.sample(range(1, total + 1), total)
    labels = _labels(pairs, random) + _labels(test_pairs, random)
    flawed = dict(zip(random.sample(range(pairs // 2), len(FLAWS)), FLAWS, strict=True))
    copies = _copies(total, set(flawed), random)
    texts = _texts(labels, world, random)
    noisy = _noisy(labels, noise, Random(f"{seed}/noise"))

    def drawn_pair(row: int) -> _Drawn:
        picked = Random(f"{seed}/{row}")
        kind = world.image_shows(labels[row], texts[row].shows, picked)
        return _drawn(noisy[row], texts[row].text, kind, picked)

    truth: list[tuple[int, str]] = []
    for row, guid in enumerate(guids):
        drawn = drawn_pair(row)
        if row in copies:
            source = copies[row]
            again = drawn_pair(source)
            # Real annotators disagree about a copy now and then; here about every fourth one.
            label = noisy[row] if random.random() < 0.25 else noisy[source]
            drawn = _copied(replace(again, label=label), random)
        if row in flawed:
            drawn = FLAWS[flawed[row]](drawn)
        truth.append((guid, drawn.label))
        _write_bytes(root / "data" / f"{guid}.txt", drawn.text)
        _write_bytes(root / "data" / f"{guid}.jpg", drawn.image)

    hidden = [(guid, "null") for guid, _ in truth[pairs:]]
    _write_bytes(root / "train.txt", _table(truth[:pairs]))
    _write_bytes(root / "test_without_label.txt", _table(hidden))
    _write_bytes(root / "test_truth.csv", _table(truth[pairs:]))
    listed = "\n".join(f"- pair {guids[row]}: {flaw}" for row, flaw in flawed.items())
    words = {"seed": seed, "pairs": pairs, "test_pairs": test_pairs, "copies": len(copies)}
    rule = world.rule + (f" {noise:.0%} of the labels are noise." if noise else "")
    _write_bytes(root / "README.txt", README.format(**words, rule=rule, flaws=listed).encode())


def _labels(count: int, random: Random) -> list[str]:
    """Labels in shuffled order, their shares exact."""
    labels = [label for label, share in SHARES.items() for _ in range(int(share * count))]
    labels += ["positive"] * (count - len(labels))
    random.shuffle(labels)
    return labels


def _copies(total: int, flawed: set[int], random: Random) -> dict[int, int]:
    """Rows that repeat another row, with that row; the last quarter of rows repeats earlier ones,
    so that some copies lie in the test split and their sources in the train split.
    """
    whole = [row for row in range(total * 3 // 4) if row not in flawed]
    rows = random.sample(range(total * 3 // 4, total), max(2, round(COPIES * total)))
    return {row: random.choice(whole) for row in sorted(rows)}


def _noisy(labels: list[str], noise: float, random: Random) -> list[str]:
    """The labels, this share of them drawn again."""
    drawn = random.choices(LABELS, list(SHARES.values()), k=len(labels))
    return [
        other if random.random() < noise else label
        for label, other in zip(labels, drawn, strict=True)
    ]


def _texts(labels: list[str], world: World, random: Random) -> list[_Text]:
    """One text for each label, all different in their words."""
    seen: set[str] = set()
    texts: list[_Text] = []
    for label in labels:
        kind = world.text_shows(label, random)
        sentence = _sentence(kind, random)
        while normalise_text(sentence) in seen:
            sentence = _sentence(kind, random) + " " + random.choice(TAGS)
        seen.add(normalise_text(sentence))
        texts.append(_Text(kind, _with_link(sentence, random)))
    return texts


def _sentence(kind: str, random: Random) -> str:
    slots = {slot: random.choice(words.split(", ")) for slot, words in SLOTS.items()}
    text = random.choice(SENTENCES[kind]).format(**slots)
    tags = random.sample(TAGS, random.choice((0, 0, 1, 1, 2)))
    return " ".join([text[0].upper() + text[1:] + random.choice(("", ".", "!", "...")), *tags])


def _with_link(text: str, random: Random) -> str:
    name = "".join(random.choices("abcdefghkmnpqrstuvwxyzABCDEFGH23456789", k=10))
    end = random.choice(("", "", f" http://t.co/{name}", f" http://t.co/{name}", " http:\u2026"))
    return text + end + "\n"


def _drawn(label: str, text: str, kind: str, random: Random) -> _Drawn:
    from pairfuse.data.demo.scenes import draw_scene

    picture = draw_scene(kind, random)
    return _Drawn(label, text.encode(), _saved(picture, "JPEG", quality=85), picture)


def _copied(drawn: _Drawn, random: Random) -> _Drawn:
    """Retweet: the text with a mark or the same, the same file or saved again."""
    mark = random.choice(("RT @user{}: ", "RT @pic_{}: ", "")).format(random.randint(10, 99))
    text = mark.encode() + (drawn.text or b"")
    image = drawn.image if random.random() < 0.5 else _saved(drawn.picture, "JPEG", quality=60)
    return replace(drawn, text=text, image=image)


def _quoted(drawn: _Drawn, encoding: str, end: str = "") -> _Drawn:
    text = (drawn.text or b"").decode().strip().replace("'", "\u2019")
    return replace(drawn, text=f"\u201c{text}\u201d \u2026 it\u2019s so{end}\n".encode(encoding))


def _cut(drawn: _Drawn) -> _Drawn:
    words = (drawn.text or b"").decode().split("http")[0].strip()
    return replace(drawn, text=f"{words} at the caf\u00e9".encode()[:-1])


def _turned(drawn: _Drawn) -> _Drawn:
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = 6  # "turn me a quarter clockwise"
    lying = drawn.picture.transpose(Image.Transpose.ROTATE_90)
    return replace(drawn, image=_saved(lying, "JPEG", quality=85, exif=exif))


def _resaved(drawn: _Drawn, file_format: str, mode: str = "RGB") -> _Drawn:
    return replace(drawn, image=_saved(drawn.picture.convert(mode), file_format))


FLAWS: dict[str, Flaw] = {
    "text in cp1252 with curly quotes": lambda drawn: _quoted(drawn, "cp1252", " caf\u00e9"),
    "text in gb18030 with curly quotes (1)": lambda drawn: _quoted(drawn, "gb18030"),
    "text in gb18030 with curly quotes (2)": lambda drawn: _quoted(drawn, "gb18030"),
    "text in gb18030 with curly quotes (3)": lambda drawn: _quoted(drawn, "gb18030"),
    "text cut in the middle of a character": _cut,
    "empty text": lambda drawn: replace(drawn, text=b""),
    "image cut off": lambda d: replace(d, image=(d.image or b"")[: len(d.image or b"") // 2]),
    "no image": lambda drawn: replace(drawn, image=None),
    "PNG with transparency, named .jpg": lambda drawn: _resaved(drawn, "PNG", "RGBA"),
    "WebP, named .jpg": lambda drawn: _resaved(drawn, "WEBP"),
    "turned by EXIF": _turned,
    "grey JPEG": lambda drawn: _resaved(drawn, "JPEG", "L"),
}


def _saved(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def _table(rows: list[tuple[int, str]]) -> bytes:
    return "".join(f"{guid},{tag}\n" for guid, tag in [("guid", "tag"), *rows]).encode()


def _write_bytes(path: Path, data: bytes | None) -> None:
    if data is not None:
        path.write_bytes(data)
