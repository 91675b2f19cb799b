"""From the release of the ratio's slider to figures that are updated in the browser (aim: 300 ms).

python -m benchmarks.slider
"""

import shutil

import numpy as np
from playwright.sync_api import sync_playwright

from benchmarks.served import QUIET, served
from benchmarks.table import publish

RATIOS = (10, 62, 35, 78, 21, 55, 88, 44, 15, 70, 30, 66, 50)

# The slider is let go of at a value; done when the achieved line and all the layers' importance are redrawn.
RELEASE = """
value => new Promise(done => {
  const range = document.querySelector('#ratio input[type=range]');
  const places = ['#achieved', '#importance'].map(name => document.querySelector(name));
  const waiting = new Set(places);
  let begun = 0;
  places.forEach(place => new MutationObserver((changes, self) => {
    if (!begun || !changes.length) return;
    self.disconnect();
    waiting.delete(place);
    if (!waiting.size) requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
  }).observe(place, {childList: true, subtree: true, attributes: true, characterData: true}));
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(range, value);
  range.dispatchEvent(new Event('input', {bubbles: true}));
  requestAnimationFrame(() => requestAnimationFrame(() => {
    begun = performance.now();
    range.dispatchEvent(new Event('change', {bubbles: true}));
  }));
})
"""


def main() -> None:
    """Each family, on emoji-sd, with scores that are already taken."""
    rows = []
    with sync_playwright() as playwright, served() as (url, _):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for label, query in (("weights, each layer", "spread=layer"), ("weights, all layers", "spread=global"),
                             ("width", "units=width")):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{url}?{query}&tab=importance")
            page.wait_for_selector("#importance .imp")
            page.wait_for_timeout(1500)
            taken = [page.evaluate(RELEASE, ratio) for ratio in RATIOS][1:]  # the first warms up
            rows.append({"units": label, "median, ms": float(np.median(taken)),
                         "slowest of 12, ms": float(max(taken))})
            page.close()
        browser.close()
    publish("slider", "python -m benchmarks.slider", rows)


if __name__ == "__main__":
    main()
