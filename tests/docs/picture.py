"""The picture in the README: the head of the demo run's report, as a browser shows it.

python tests/docs/picture.py [REPORT] [PNG]
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "cache" / "runs" / "demo" / "report.html"
PICTURE = ROOT / "pipeline" / "pairfuse" / "guides" / "report.png"
#: The verdict and its four numbers; at twice the size the picture is sharp on every screen.
WIDTH, HEIGHT, SCALE = 1180, 650, 2
#: A page of few colours: a palette of 128 is a third of the size and looks the same.
COLOURS = 128


def draw(report: Path, picture: Path) -> None:
    """Draw the head of a report into a PNG."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = {"width": WIDTH, "height": HEIGHT}
        page = browser.new_page(viewport=view, device_scale_factor=SCALE)  # type: ignore[arg-type]
        page.goto(report.resolve().as_uri())
        shot = page.screenshot()
        browser.close()
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS)
    image.save(picture, optimize=True)


def main(report: str = str(REPORT), picture: str = str(PICTURE)) -> None:
    """Say what was drawn, or what is missing."""
    if not Path(report).is_file():
        raise SystemExit(f"error: no report at {report}; run `make run` first")
    draw(Path(report), Path(picture))
    print(f"drew {picture} ({Path(picture).stat().st_size / 1000:.0f} KB)")


if __name__ == "__main__":
    main(*sys.argv[1:])
