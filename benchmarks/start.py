"""From ``python app.py`` to a page that one can use, in a real Chromium (aim: 8 seconds), and what travels for it.

python -m benchmarks.start
"""

import shutil
import time

from playwright.sync_api import sync_playwright

from benchmarks.served import QUIET, served
from benchmarks.table import publish

REPEATS = 3


def once(browser) -> dict[str, float]:
    """Seconds until the server answers, the prepared pair is there, the setup answers; and the page's weight."""
    before = time.perf_counter()
    with served() as (url, _):
        answered = time.perf_counter() - before
        page = browser.new_page()
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        weight: list[float] = []
        session.on("Network.loadingFinished", lambda event: weight.append(event["encodedDataLength"]))
        page.goto(url)
        page.wait_for_selector("#stage img")
        painted = time.perf_counter() - before
        page.wait_for_selector("#achieved .row")
        usable = time.perf_counter() - before
        page.close()
    return {"server answers, s": answered, "prepared pair shown, s": painted, "setup answers, s": usable,
            "page weight, MB": sum(weight) / 1e6, "requests": len(weight)}


def main() -> None:
    """The middle of a few starts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        taken = sorted((once(browser) for _ in range(REPEATS)), key=lambda row: row["setup answers, s"])
        browser.close()
    publish("start", "python -m benchmarks.start", [taken[len(taken) // 2]])


if __name__ == "__main__":
    main()
