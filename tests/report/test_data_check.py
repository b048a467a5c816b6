from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pairfuse.data.pairs import Dataset, Decoding, ImageFacts, Pair, Problem
from pairfuse.data.profile import profile
from pairfuse.report import data_check
from pairfuse.report.canvas import save_png
from pairfuse.report.data_check import plot_data_check


def toy(count: int, *, label: str = "positive") -> Dataset:
    guids = [str(n) for n in range(count)]
    pairs = tuple(Pair(g, "word " * (int(g) % 9 + 1), Path(g), label, "train") for g in guids)
    images = {g: ImageFacts(g, 9, 200 + int(g), 300 - int(g), "RGB", "JPEG", int(g)) for g in guids}
    problems = tuple(Problem(g, "image", f"reason {g}") for g in guids[:20])
    decodings = {g: Decoding("ascii", 0) for g in guids}
    return Dataset(Path("toy"), pairs, (label,), problems, decodings, images)


def drawn(dataset: Dataset, path: Path) -> Image.Image:
    save_png(plot_data_check(profile(dataset), dataset), path)
    with Image.open(path) as image:
        image.load()
        return image.convert("L")


def test_the_data_check_is_one_large_png_with_ink_in_all_quarters(tmp_path: Path) -> None:
    image = drawn(toy(40), tmp_path / "check.png")
    width, height = image.size
    assert width > 1000
    for x, y in ((0, 0), (width // 2, 0), (0, height // 2), (width // 2, height // 2)):
        quarter = image.crop((x, y, x + width // 2, y + height // 2))
        assert sum(quarter.histogram()[:180]) > 2000


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    drawn(toy(10), tmp_path / "one.png")
    drawn(toy(10), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_an_empty_data_set_is_drawn(tmp_path: Path) -> None:
    assert drawn(toy(0), tmp_path / "check.png").size[0] > 1000


def test_a_label_that_looks_like_a_formula_is_drawn(tmp_path: Path) -> None:
    assert drawn(toy(3, label=r"$\frac$ 情感"), tmp_path / "check.png").size[0] > 1000


def test_many_images_are_drawn_as_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = drawn(toy(30), tmp_path / "few.png")
    monkeypatch.setattr(data_check, "MANY_IMAGES", 5)
    assert drawn(toy(30), tmp_path / "many.png").tobytes() != few.tobytes()


def test_importing_it_imports_neither_matplotlib_nor_torch() -> None:
    code = (
        "import sys, pairfuse.report.data_check; "
        "sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
