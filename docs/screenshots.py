"""python docs/screenshots.py: takes the pictures of pages that the docs show, in Chromium, into docs/img."""

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from kmixup.experiments.playground.page import playground

IMG = Path(__file__).parent / "img"
CHROMIUM = os.environ.get("KMIXUP_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def take() -> None:
    """One picture after the other."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 850})
        file = Path(folder, "playground.html")
        file.write_text(playground(), encoding="utf-8")
        page.goto(f"{file.as_uri()}#set=two-moons&n=256&k=16&alpha=1&pick=12")
        while not page.evaluate("kmixupPlayground.state().means"):
            page.wait_for_timeout(100)
        page.screenshot(path=IMG / "playground.png")
        browser.close()


if __name__ == "__main__":
    take()
