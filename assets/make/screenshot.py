"""Make the README's picture: start the page, draw a pair, photograph it in Chromium.

python -m assets.make.screenshot
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

import app
from benchmarks.served import QUIET
from ui.theme import CSS, theme

OUT = Path(__file__).resolve().parents[1] / "pictures" / "page.png"


def main() -> None:
    """Half of the inner width goes, a face is drawn."""
    _, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True, theme=theme(), css=CSS, ssr_mode=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}?__theme=light")
        page.wait_for_selector("#achieved .row")
        page.locator("#family label", has_text="Width").click()
        page.wait_for_selector("#inner:visible")
        page.locator("#generate").click()
        page.wait_for_selector("#stage .stage.running")
        page.wait_for_selector("#stage .stage:not(.running) .badge", timeout=120_000)
        page.wait_for_timeout(500)
        OUT.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=OUT)
        browser.close()
    app.demo.close()


if __name__ == "__main__":
    main()
