"""Images: bytes of a file become one RGB picture, or a reason why they cannot."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pairfuse.data.pairs import ImageFacts
from pairfuse.errors import DataError
from pairfuse.files import is_files_own, read_bytes

if TYPE_CHECKING:
    from PIL import Image

#: The only formats that Pillow may try; everything else stays unread.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
#: A picture that declares more pixels than this is not decoded (decompression bomb).
MAX_PIXELS = 64_000_000
#: A picture file of more bytes is not read: half a byte for each of those pixels, which photographs
#: take at high quality. A JPEG may hold many passes over its pixels: 900 in 59 MB took 29 s.
MAX_IMAGE_BYTES = 32_000_000


def read_picture(path: Path, *, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """The bytes of a picture file; its size is looked up before anything is read.

    Raises:
        DataError: It cannot be read, or is too large.
        OSError: The system failed just now, which says nothing about the file.
    """
    try:
        size = path.stat().st_size
    except (OSError, ValueError):  # reading it says why
        size = 0
    if size > max_bytes:
        raise DataError(
            f"the file is over the bound of {max_bytes / 1e6:g} MB ({size / 1e6:.1f} MB)"
        )
    try:
        return read_bytes(path)
    except OSError as error:
        if not is_files_own(error):
            raise
        raise DataError(f"cannot be read ({error.strerror})") from error


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS, draft: int = 0) -> Image.Image:
    """Decode the first frame: EXIF rotation applied, alpha on white, 16 bit scaled, mode RGB.

    Args:
        data: The bytes of the file.
        max_pixels: Bound on width x height, checked before any pixel is decoded.
        draft: If positive, a JPEG may be decoded at a smaller scale whose shorter side is at
            least this many pixels; the whole file is read all the same.

    Raises:
        DataError: Why the picture cannot be used.
        MemoryError, OSError: The system failed just now (a damaged file's OSError has no errno).
    """
    from PIL import Image, UnidentifiedImageError

    # What Pillow warns of shows in what becomes of the picture: it is read, or has a reason.
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)
    if not data:
        raise DataError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DataError(
                    f"{width}x{height} pixels are over the bound of {max_pixels / 1e6:g} million"
                )
            if draft:
                image.draft("RGB", _draft_size(width, height, draft))
            image.load()
            return _to_rgb(_upright(image))
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError("not a JPEG, PNG, WebP or GIF picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"more pixels than the bound of {max_pixels / 1e6:g} million") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"cannot be decoded ({_reason(error)})") from error


def look(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode once and note what the file is; never raises on bad bytes, the reason is kept."""
    from PIL import Image

    from pairfuse.data.duplicates import perceptual_hash

    digest = hashlib.sha256(data).hexdigest()
    try:
        picture = open_image(data, max_pixels=max_pixels, draft=64)
    except DataError as error:
        return ImageFacts(digest, len(data), error=str(error))
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return ImageFacts(
            digest,
            len(data),
            *image.size,
            mode=image.mode,
            format=image.format or "",
            phash=perceptual_hash(picture),
        )


def _draft_size(width: int, height: int, side: int) -> tuple[int, int]:
    scale = side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF nonsense is no reason to lose the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion clips and comes out white."""
    import numpy as np
    from PIL import Image

    values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
    return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__
