"""Drawings of the demo set: cheerful, gloomy, everyday and undecided scenes, no two alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Scene = Callable[[ImageDraw.ImageDraw, Random, int, int], None]


def draw_scene(kind: str, random: Random) -> Image.Image:
    """Draw one scene of a kind of `SCENES`; sides of 240 to 400 pixels."""
    width, height = random.randint(240, 400), random.randint(240, 400)
    image = Image.new("RGB", (width, height), _near((128, 128, 128), random, 90))
    random.choice(SCENES[kind])(ImageDraw.Draw(image), random, width, height)
    # Shadows and film grain: no two drawings are near images, none is as flat as no photograph is.
    shadows = _noise(random, 6, image.size, Image.Resampling.BICUBIC)
    grain = _noise(random, 64, image.size, Image.Resampling.BILINEAR)
    shaded = Image.blend(Image.blend(image, shadows, 0.25), grain, 0.08)
    return shaded.filter(ImageFilter.GaussianBlur(0.6))


def _noise(
    random: Random, cells: int, size: tuple[int, int], smooth: Image.Resampling
) -> Image.Image:
    """Grey noise of `cells` by `cells` spots, stretched to a size."""
    spots = Image.frombytes("L", (cells, cells), random.randbytes(cells * cells))
    return spots.resize(size, smooth).convert("RGB")


def _near(colour: Colour, random: Random, spread: int = 25) -> Colour:
    red, green, blue = (min(255, max(0, c + random.randint(-spread, spread))) for c in colour)
    return red, green, blue


def _disc(d: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Colour) -> None:
    d.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _sky(d: ImageDraw.ImageDraw, w: int, h: int, top: Colour, bottom: Colour) -> None:
    for y in range(h):
        mix = [int(a + (b - a) * y / h) for a, b in zip(top, bottom, strict=True)]
        d.line((0, y, w, y), fill=(mix[0], mix[1], mix[2]))


def _flower(d: ImageDraw.ImageDraw, r: Random, x: float, y: float, size: float) -> None:
    petal = _near(r.choice([(240, 90, 140), (250, 180, 40), (235, 60, 60), (180, 90, 230)]), r)
    d.line((x, y, x + r.uniform(-5, 5), y + 3 * size), fill=(40, 130, 50), width=3)
    for k in range(6):
        turn = k * math.pi / 3
        _disc(d, x + size * math.cos(turn), y + size * math.sin(turn), size * 0.55, petal)
    _disc(d, x, y, size * 0.5, (250, 220, 80))


def _meadow(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((80, 160, 245), r), _near((200, 230, 255), r))
    _disc(d, r.uniform(0.1, 0.9) * w, r.uniform(0.1, 0.3) * h, r.uniform(20, 40), (255, 225, 70))
    for _ in range(3):
        x, y = r.uniform(-0.2, 0.8) * w, r.uniform(0.45, 0.7) * h
        d.ellipse((x - w / 2, y, x + w, y + h), fill=_near((90, 190, 70), r))
    for _ in range(r.randint(4, 12)):
        _flower(d, r, r.uniform(0, w), r.uniform(0.7, 0.95) * h, r.uniform(4, 9))


def _beach(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((60, 150, 240), r), _near((170, 225, 250), r))
    shore = r.uniform(0.6, 0.75) * h
    d.rectangle((0, r.uniform(0.4, 0.5) * h, w, shore), fill=_near((30, 150, 190), r))
    d.rectangle((0, shore, w, h), fill=_near((245, 220, 150), r))
    x, top, size = r.uniform(0.2, 0.8) * w, r.uniform(0.35, 0.5) * h, r.uniform(40, 80)
    d.line((x, top, x + 8, shore + 40), fill=(120, 80, 50), width=5)
    d.pieslice((x - size, top - size, x + size, top + size), 180, 360, fill=_near((235, 60, 70), r))
    _disc(d, r.uniform(0.1, 0.9) * w, r.uniform(0.1, 0.25) * h, r.uniform(18, 34), (255, 225, 70))


def _balloons(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((250, 220, 240), r), _near((255, 245, 200), r))
    for _ in range(r.randint(5, 11)):
        x, y, size = r.uniform(0.1, 0.9) * w, r.uniform(0.1, 0.6) * h, r.uniform(18, 38)
        d.line((x, y, w / 2, h), fill=(120, 120, 120), width=2)
        vivid = [(240, 60, 70), (70, 130, 240), (250, 200, 50), (90, 200, 100), (230, 90, 200)]
        d.ellipse(
            (x - size, y - 1.2 * size, x + size, y + 1.2 * size), fill=_near(r.choice(vivid), r)
        )
        _disc(d, x - size / 3, y - size / 2, size / 5, (255, 255, 255))


def _bouquet(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((240, 250, 230), r, 15), _near((190, 230, 170), r))
    for _ in range(r.randint(5, 10)):
        _flower(d, r, r.uniform(0.1, 0.9) * w, r.uniform(0.1, 0.7) * h, r.uniform(14, 30))


def _face(d: ImageDraw.ImageDraw, r: Random, w: int, h: int, *, happy: bool) -> None:
    x, y, size = r.uniform(0.4, 0.6) * w, r.uniform(0.4, 0.6) * h, r.uniform(0.28, 0.4) * min(w, h)
    d.rectangle((0, 0, w, h), fill=_near((250, 200, 160) if happy else (70, 80, 110), r))
    _disc(d, x, y, size, _near((255, 215, 60) if happy else (150, 170, 190), r, 15))
    for side in (-1, 1):
        _disc(d, x + side * size * 0.35, y - size * 0.25, size * 0.12, (30, 30, 30))
    lip = (x - size * 0.5, y - size * 0.3, x + size * 0.5, y + size * 0.6)
    if happy:
        d.chord(lip, 10, 170, fill=(120, 30, 30))
        return
    d.arc((lip[0], y + size * 0.25, lip[2], y + size), 200, 340, fill=(30, 30, 30), width=6)
    d.ellipse((x - size * 0.45, y, x - size * 0.27, y + size * 0.35), fill=(90, 150, 230))


def _happy(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _face(d, r, w, h, happy=True)


def _sad(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _face(d, r, w, h, happy=False)


def _rain(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((60, 65, 80), r, 15), _near((110, 115, 125), r, 15))
    for _ in range(r.randint(8, 14)):
        x, y, size = r.uniform(0, w), r.uniform(0, 0.25) * h, r.uniform(20, 45)
        _disc(d, x, y, size, _near((50, 55, 65), r, 15))
    slant = r.uniform(-12, 12)
    for _ in range(r.randint(60, 140)):
        x, y = r.uniform(0, w), r.uniform(0.2, 1) * h
        d.line((x, y, x + slant, y + 18), fill=(150, 170, 200), width=2)


def _storm(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _rain(d, r, w, h)
    x, y = r.uniform(0.2, 0.8) * w, 0.15 * h
    while y < 0.85 * h:
        step, down = r.uniform(-30, 30), r.uniform(15, 40)
        d.line((x, y, x + step, y + down), fill=(255, 250, 190), width=4)
        x, y = x + step, y + down


def _fire(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((25, 15, 20), r, 12), _near((90, 30, 15), r, 15))
    for _ in range(r.randint(18, 35)):
        x, size, tall = r.uniform(0, w), r.uniform(10, 30), r.uniform(0.2, 0.65) * h
        flame = _near(r.choice([(250, 120, 20), (240, 70, 20), (255, 190, 50)]), r)
        d.polygon([(x - size, h), (x + r.uniform(-15, 15), h - tall), (x + size, h)], fill=flame)


def _ruins(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _sky(d, w, h, _near((100, 90, 85), r, 15), _near((150, 135, 120), r, 15))
    for _ in range(r.randint(4, 7)):
        x, top, wide = r.uniform(-0.1, 0.9) * w, r.uniform(0.3, 0.7) * h, r.uniform(40, 90)
        broken = [(x + k * wide / 4, top + r.uniform(-30, 30)) for k in range(5)]
        d.polygon([(x, h), *broken, (x + wide, h)], fill=_near((75, 68, 64), r, 18))
    for _ in range(30):
        x, y, size = r.uniform(0, w), r.uniform(0.8, 1) * h, r.uniform(4, 12)
        d.polygon([(x, y), (x + size, y - 5), (x + 5, y + size)], fill=_near((60, 55, 52), r, 20))


def _street(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    d.rectangle((0, 0, w, h), fill=_near((205, 210, 215), r, 12))
    x = 0.0
    while x < w:
        wide, top = r.uniform(45, 90), r.uniform(0.15, 0.5) * h
        d.rectangle((x, top, x + wide, 0.8 * h), fill=_near((165, 155, 150), r, 20))
        for wx in range(int(x) + 8, int(x + wide) - 12, 18):
            for wy in range(int(top) + 10, int(0.75 * h), 24):
                d.rectangle((wx, wy, wx + 9, wy + 13), fill=_near((100, 115, 130), r, 15))
        x += wide + r.uniform(0, 8)
    d.rectangle((0, 0.8 * h, w, h), fill=_near((95, 95, 98), r, 12))
    for dash in range(r.randint(0, 30), w, 50):
        d.rectangle((dash, 0.89 * h, dash + 25, 0.91 * h), fill=(230, 230, 220))


def _axes(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    d.rectangle((0, 0, w, h), fill=_near((250, 250, 250), r, 5))
    for y in range(int(0.1 * h), int(0.9 * h), r.randint(22, 40)):
        d.line((0.1 * w, y, 0.95 * w, y), fill=(215, 215, 215))
    d.line((0.1 * w, 0.08 * h, 0.1 * w, 0.9 * h, 0.95 * w, 0.9 * h), fill=(40, 40, 40), width=2)


def _bars(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _axes(d, r, w, h)
    count, ink = r.randint(4, 9), _near((80, 120, 170), r, 40)
    for k in range(count):
        x = (0.13 + 0.8 * k / count) * w
        d.rectangle((x, r.uniform(0.15, 0.8) * h, x + 0.55 * w / count, 0.9 * h - 2), fill=ink)


def _lines(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    _axes(d, r, w, h)
    for _ in range(r.randint(1, 3)):
        y = r.uniform(0.3, 0.7)
        points: list[tuple[float, float]] = []
        for k in range(16):
            y = min(0.85, max(0.12, y + r.uniform(-0.08, 0.08)))
            points.append(((0.12 + 0.05 * k) * w, y * h))
        d.line(points, fill=_near((90, 110, 140), r, 60), width=3)


def _stripes(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    inks, step, slant = (
        [_near((140, 130, 130), r, 80) for _ in range(3)],
        r.randint(15, 40),
        r.random(),
    )
    for k, x in enumerate(range(-h, w + h, step)):
        d.line((x, 0, x + slant * h, h), fill=inks[k % 3], width=step)


def _cup(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    d.rectangle((0, 0, w, h), fill=_near((165, 130, 100), r, 35))
    x, y, size = r.uniform(0.35, 0.65) * w, r.uniform(0.35, 0.65) * h, r.uniform(45, 80)
    _disc(d, x, y, 1.4 * size, _near((225, 220, 210), r, 20))
    d.ellipse((x + 0.7 * size, y - 15, x + 1.5 * size, y + 15), outline=(240, 240, 235), width=8)
    _disc(d, x, y, size, (245, 242, 235))
    _disc(d, x, y, 0.82 * size, _near((95, 60, 35), r, 20))


def _room(d: ImageDraw.ImageDraw, r: Random, w: int, h: int) -> None:
    d.rectangle((0, 0, w, h), fill=_near((190, 175, 160), r, 35))
    d.rectangle((0, 0.75 * h, w, h), fill=_near((130, 100, 75), r, 25))
    x, y = r.uniform(0.1, 0.5) * w, r.uniform(0.1, 0.3) * h
    d.rectangle((x, y, x + 0.35 * w, y + 0.35 * h), fill=_near((110, 130, 150), r, 40))
    x = r.uniform(0.1, 0.6) * w
    d.rectangle((x, 0.6 * h, x + 0.3 * w, 0.68 * h), fill=_near((90, 70, 60), r, 25))
    for leg in (x + 5, x + 0.3 * w - 12):
        d.rectangle((leg, 0.68 * h, leg + 7, 0.88 * h), fill=(70, 55, 45))


SCENES: dict[str, tuple[Scene, ...]] = {
    "positive": (_meadow, _beach, _balloons, _bouquet, _happy),
    "negative": (_rain, _storm, _fire, _ruins, _sad),
    "neutral": (_street, _bars, _lines),
    "undecided": (_stripes, _cup, _room),
}
