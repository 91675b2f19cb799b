"""From ``python app.py`` to a page that one can use, in a real Chromium (aim: 8 seconds).

python -m benchmarks.start
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from benchmarks.table import publish

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
REPEATS = 3


def once(browser) -> tuple[float, float, float]:
    """Seconds until the server answers, until the prepared pair is there, until the setup answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = time.perf_counter()
    server = subprocess.Popen([sys.executable, "app.py"], env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}", timeout=1)
                break
            except (URLError, OSError):
                time.sleep(0.05)
        answered = time.perf_counter() - before
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_selector("#stage img")
        painted = time.perf_counter() - before
        page.wait_for_selector("#achieved .row")
        usable = time.perf_counter() - before
        page.close()
        return answered, painted, usable
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """The middle of a few starts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        taken = sorted((once(browser) for _ in range(REPEATS)), key=lambda times: times[2])
        browser.close()
    answered, painted, usable = taken[len(taken) // 2]
    publish("start", "python -m benchmarks.start", [
        {"server answers, s": answered, "prepared pair shown, s": painted, "setup answers, s": usable}])


if __name__ == "__main__":
    main()
