"""Makes docs/report.png: four parts of a run's report, in a real browser.

python docs/report_picture.py RUN
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

PARTS = (("body", False), ("#confidence", True), ("#confusion", False), ("#mistakes", True))  # whether dark
WIDTH, HEIGHT = 750, 570  # of a part
OUT = Path(__file__).parent / "report.png"


def main(run: Path) -> None:
    """Take a picture of each part, two by two."""
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for i, (part, dark) in enumerate(PARTS):
            scale = 1.5 if part == "body" else 1.25
            view = ViewportSize(width=int(scale * WIDTH), height=int(scale * HEIGHT))
            page = browser.new_page(viewport=view, device_scale_factor=1 / scale)
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.goto((run / "report.html").absolute().as_uri())
            page.evaluate(
                "(part) => window.scrollTo({top: document.querySelector(part).offsetTop, behavior: 'instant'})", part
            )
            picture.paste(Image.open(io.BytesIO(page.screenshot())), (i % 2 * WIDTH, i // 2 * HEIGHT))
        browser.close()
    picture.save(OUT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
