from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairfuse.config import DataConfig
from pairfuse.data import images
from pairfuse.data.images import MAX_IMAGE_BYTES, look, open_image, read_picture
from pairfuse.errors import DataError
from toys.data import picture, saved

RED, WHITE = (255, 0, 0), (255, 255, 255)


def transparent_palette() -> bytes:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, 0, 255, 0])
    return saved(image, transparency=0)


def grey_16_bit(value: int) -> bytes:
    return saved(Image.fromarray(np.full((4, 4), value, dtype=np.uint16)))


def two_frames() -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes whose header declares any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


MODES = {
    "rgb png": (saved(Image.new("RGB", (4, 4), RED)), RED),
    "rgb webp": (saved(Image.new("RGB", (4, 4), RED), "WEBP", lossless=True), RED),
    "rgba webp": (saved(Image.new("RGBA", (4, 4), (*RED, 0)), "WEBP", lossless=True), WHITE),
    "grey": (saved(Image.new("L", (4, 4), 90)), (90, 90, 90)),
    "1 bit": (saved(Image.new("1", (4, 4), 1)), WHITE),
    "palette": (saved(Image.new("RGB", (4, 4), RED).convert("P")), RED),
    "transparent palette": (transparent_palette(), WHITE),
    "transparent": (saved(Image.new("RGBA", (4, 4), (*RED, 0))), WHITE),
    "half transparent": (saved(Image.new("RGBA", (4, 4), (*RED, 128))), (255, 127, 127)),
    "grey and alpha": (saved(Image.new("LA", (4, 4), (0, 0))), WHITE),
    "colour key": (saved(Image.new("RGB", (4, 4), RED), transparency=RED), WHITE),
    "16 bit grey": (grey_16_bit(100 * 257), (100, 100, 100)),
    "16 bit grey, brightest": (grey_16_bit(65535), WHITE),
    "animated gif": (two_frames(), RED),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_on_white(name: str) -> None:
    data, colour = MODES[name]
    image = open_image(data)
    assert image.mode == "RGB"
    assert image.size == (4, 4)
    assert image.getpixel((1, 1)) == pytest.approx(colour, abs=1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_keeps_its_colours(mode: str) -> None:
    grey = saved(Image.new("RGB", (16, 16), (120, 120, 120)).convert(mode), "JPEG")
    image = open_image(grey)
    assert image.mode == "RGB"
    assert image.getpixel((5, 5)) == pytest.approx((120, 120, 120), abs=4)


def test_a_16_bit_gradient_stays_a_gradient() -> None:
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    red = np.asarray(open_image(saved(Image.fromarray(values))))[0, :, 0]
    assert red.tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (7, 3)), (6, (3, 0))])
def test_the_rotation_that_exif_tells_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (8, 4))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = open_image(saved(image, exif=exif))
    assert upright.size == ((4, 8) if orientation == 6 else (8, 4))
    assert upright.getpixel(corner) == RED


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"\0" * 9])
def test_exif_nonsense_does_not_lose_the_picture(exif: bytes) -> None:
    image = picture(0)
    assert open_image(saved(image, "JPEG", exif=exif)).size == image.size
    assert open_image(saved(image, exif=exif)).tobytes() == image.tobytes()


def test_what_pillow_warns_of_is_not_shown_in_any_process() -> None:
    data = saved(picture(0), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        Image.open(io.BytesIO(data)).getexif()
        assert "Corrupt EXIF" in str(shown.pop().message)
        open_image(data)
    assert not shown


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_file_is_an_error(file_format: str) -> None:
    data = saved(picture(0, (64, 64)), file_format)
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(DataError, match=r"cannot be decoded|not a JPEG"):
            open_image(data[: int(len(data) * share)])


NO_PICTURES = {
    "empty": (b"", "the file is empty"),
    "text": (b"a sentence, not a picture", "not a JPEG"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\n", "not a JPEG"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG"),
    "zeros": (bytes(1000), "not a JPEG"),
    "tiff": (saved(picture(0), "TIFF"), "not a JPEG"),
    "bmp": (saved(picture(0), "BMP"), "not a JPEG"),
    "eps": (saved(picture(0), "EPS"), "not a JPEG"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_of_a_known_format_is_an_error(name: str) -> None:
    data, reason = NO_PICTURES[name]
    with pytest.raises(DataError, match=reason):
        open_image(data)


@pytest.mark.parametrize("size", [(60_000, 60_000), (8_001, 8_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_over_the_bound_is_refused_before_a_pixel_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"over the bound|more pixels than"):
        open_image(bomb(*size))


def test_the_bound_can_be_lowered() -> None:
    data = saved(picture(0, (20, 10)))
    assert open_image(data, max_pixels=200).size == (20, 10)
    with pytest.raises(DataError, match="20x10 pixels are over the bound"):
        open_image(data, max_pixels=199)


def test_a_draft_is_smaller_but_no_smaller_than_asked() -> None:
    data = saved(picture(0, (640, 320)), "JPEG")
    width, height = open_image(data, draft=64).size
    assert 64 <= height < 320
    assert width == pytest.approx(2 * height, abs=2)


def test_a_draft_finds_a_truncated_file_too() -> None:
    data = saved(picture(0, (640, 320)), "JPEG")
    with pytest.raises(DataError):
        open_image(data[: len(data) * 9 // 10], draft=64)


@pytest.mark.parametrize("name", [*NO_PICTURES, "bomb", "cut"])
def test_a_look_at_bad_bytes_gives_the_reason_and_does_not_raise(name: str) -> None:
    more = {"bomb": bomb(60_000, 60_000), "cut": saved(picture(0), "JPEG")[:300]}
    data = more[name] if name in more else NO_PICTURES[name][0]
    facts = look(data)
    assert facts.error
    assert (facts.size, facts.width, facts.phash) == (len(data), 0, 0)


def test_a_look_notes_size_mode_and_format() -> None:
    facts = look(saved(Image.new("L", (30, 20), 7), "JPEG"))
    assert (facts.width, facts.height, facts.mode, facts.format) == (30, 20, "L", "JPEG")
    assert not facts.error


def test_a_flipped_byte_anywhere_makes_a_picture_or_an_error_never_a_crash() -> None:
    data = saved(picture(0), "JPEG")
    for place in range(0, len(data), 7):
        look(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])


def test_the_picture_outlives_the_bytes() -> None:
    buffer = io.BytesIO(saved(picture(3)))
    image = open_image(buffer.getvalue())
    buffer.close()
    assert image.tobytes() == picture(3).tobytes()


def test_a_file_over_the_bound_on_bytes_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(2_000_001))
    monkeypatch.setattr(images, "read_bytes", lambda _: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"over the bound of 2 MB \(2\.0 MB\)"):
        read_picture(path, max_bytes=2_000_000)


def test_the_bound_on_bytes_without_a_word_of_the_user_is_32_mb(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    with pytest.raises(DataError, match="over the bound of 32 MB"):
        read_picture(path)
    assert DataConfig().max_image_bytes == MAX_IMAGE_BYTES
