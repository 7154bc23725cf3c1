"""python docs/screenshots.py: takes the pictures of pages that the docs show, in Chromium, into docs/img."""

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from kmixup.experiments.playground.page import playground
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.report import write_page
from kmixup.experiments.runs import RunStore
from kmixup.experiments.scorecard import make_scorecard

ROOT = Path(__file__).parents[1]
IMG = ROOT / "docs" / "img"
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
        runs = RunStore(ROOT / "no such folder", [ROOT / "results"]).all()
        write_page(make_scorecard([read_recipe("table1")], runs), Path(folder, "report.html"))
        page.goto(Path(folder, "report.html").as_uri())
        page.locator("td.cell").first.wait_for()
        page.evaluate("document.querySelector('section.grid .legend').scrollIntoView()")
        page.evaluate("scrollBy(0, -110)")
        page.screenshot(path=IMG / "report.png")
        browser.close()


if __name__ == "__main__":
    take()
