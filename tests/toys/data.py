"""Toys: tiny data sets: pictures of noise, label files, folders of pairs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image


def picture(number: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """An RGB picture of noise; another number is another picture."""
    return Image.frombytes("RGB", size, Random(number).randbytes(size[0] * size[1] * 3))


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_set(
    root: Path,
    train: Mapping[str, str],
    test: Sequence[str] = (),
) -> Path:
    """Write a data set in the guid-tag layout, each pair with its own text and picture.

    Args:
        root: The folder, made if it is not there.
        train: Guid to label; the text is `<label> text <guid>`.
        test: Guids without label; the text is `text <guid>`.
    """
    (root / "data").mkdir(parents=True, exist_ok=True)
    write_labels(root / "train.txt", train)
    if test:
        write_labels(root / "test_without_label.txt", dict.fromkeys(test, "null"))
    for number, (guid, label) in enumerate([*train.items(), *((guid, "") for guid in test)]):
        (root / "data" / f"{guid}.txt").write_text(f"{label} text {guid}".strip(), "utf-8")
        (root / "data" / f"{guid}.png").write_bytes(saved(picture(number)))
    return root


def write_labels(path: Path, labels: Mapping[str, str]) -> Path:
    """Write one label file: the header `guid,tag` and a line for each pair."""
    lines = ["guid,tag", *(f"{guid},{label}" for guid, label in labels.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
