"""Makes docs/page.png: the web page of a served model, in a real browser.

python docs/page_picture.py [MODEL]
"""

import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.models import DEFAULT_MODEL, find_model
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.settings import ServerSettings

TEXT = "After the long night shift I was so grateful to the driver who waited for me in the rain."
OUT = Path(__file__).parent / "page.png"


def main(model: str) -> None:
    """Serve the model, write the text, take the picture."""
    folder = find_model(model)
    name = folder.parent.name if folder.name == "model" else folder.name
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(ServedModel(FusionClassifier.from_pretrained(folder), name), ServerSettings())
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1240, "height": 960}, reduced_motion="reduce")
        page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}")
        page.locator("#text").fill(TEXT)
        page.locator("#go").click()
        page.locator("#reading mark").first.wait_for()
        page.mouse.click(5, 5)  # the focus elsewhere
        page.screenshot(path=OUT)
        browser.close()
    server.should_exit = True
    thread.join()
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_MODEL)
