"""Takes the picture of a page of a report that the README shows. It needs Chromium, and the Python package playwright.

    python recipes/quickstart/report_picture.py report/recordings/episode.html recipes/quickstart/report.png
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT, COLOURS = 1100, 820, 256


def main(page: Path, out: Path) -> None:
    """Write a picture of the page to `out`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector("#charts canvas")
        tab.wait_for_timeout(500)
        image = Image.open(io.BytesIO(tab.screenshot()))
        browser.close()
    # few colours, so that the file is small
    image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
