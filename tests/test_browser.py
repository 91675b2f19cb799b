"""The flows a person does, in a real Chromium. Screenshots go to build/screenshots, to be looked at."""

import os
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.start import QUIET

pytestmark = pytest.mark.browser
SCREENSHOTS = Path("build/screenshots")


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, url):
    opened, faults = [], []

    def go(width=1280, height=800, look="light"):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(
            (url, "data:", "blob:", url.replace("http", "ws"))) else None)
        page.goto(f"{url}?__theme={look}")
        page.wait_for_selector("#achieved .row")
        opened.append(page)
        return page

    yield go
    for page in opened:
        page.close()
    assert faults == [], "the page raised an error or asked another host"


def finished(page):
    page.wait_for_selector("#stage .stage:not(.running) .badge")
    page.wait_for_selector("#stop:disabled")


def keep(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def pick(page, group, words):
    page.locator(f"#{group} label", has_text=words).first.click()


def achieved(page, name):
    row = page.locator("#achieved .row", has=page.locator(".name", has_text=re.compile(rf"^{name}$")))
    return float(row.locator(".figure").inner_text().split(" %")[0])


def steps(page, count):
    page.locator("text=Drawing: steps").click()
    page.locator("#steps input[type=number]").fill(str(count))
    page.keyboard.press("Tab")


def test_from_the_first_paint_to_a_pair(open_page):
    page = open_page()
    assert "Prepared" in page.locator("#stage").inner_text()
    assert page.locator("#stage .side img").count() == 2
    keep(page, "first-paint")
    steps(page, 4)
    page.locator("#prompt textarea, #prompt input").first.fill("pizza on a teal background")
    page.locator("#generate").click()
    page.wait_for_selector("#stage .stage.running .clock")
    finished(page)
    assert "Really pruned" in page.locator("#stage .badge").inner_text()
    assert "not measured yet" in page.locator("#cards").inner_text()
    for view in ("Wipe", "Difference", "Side by side"):
        page.get_by_role("button", name=view).click()
        assert page.get_by_role("button", name=view).get_attribute("aria-pressed") == "true"
    assert page.locator("#stage .sides").is_visible()
    keep(page, "pair")


def test_the_slider_says_what_is_achieved_and_marks_the_pair_as_old(open_page):
    page = open_page()
    steps(page, 2)
    page.locator("#generate").click()
    finished(page)
    assert achieved(page, "units") == pytest.approx(30, abs=0.1)
    page.locator("#ratio input[type=number]").fill("60")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#achieved').innerText.includes('60.0 %')")
    assert achieved(page, "units") == pytest.approx(60, abs=0.1)
    assert achieved(page, "params") == achieved(page, "disk") == 0
    page.wait_for_selector("#stale p")
    assert "earlier plan" in page.locator("#stale").inner_text()
    page.locator("#ratio input[type=number]").fill("30")
    page.keyboard.press("Tab")
    page.wait_for_selector("#stale p", state="detached")
    page.locator("#ratio input[type=number]").fill("70")
    page.keyboard.press("Tab")
    page.wait_for_selector("#stale p")
    page.locator("#generate").click()
    page.wait_for_selector("#stale p", state="detached")


def test_an_emptied_ratio_is_a_sentence_and_the_page_goes_on(open_page):
    page = open_page()
    page.locator("#ratio input[type=number]").fill("")
    page.wait_for_selector("#setup-problem .alert")
    assert "The ratio is missing" in page.locator("#setup-problem").inner_text()
    assert not page.locator("#stale p").is_visible()
    page.locator("#ratio input[type=number]").fill("40")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#achieved').innerText.includes('40.0 %')")


def test_width_snaps_and_greys_out_what_cannot_work(open_page):
    page = open_page()
    pick(page, "family", "Width")
    pick(page, "inner", "Heads")
    page.locator("#ratio input[type=number]").fill("5")
    page.keyboard.press("Tab")
    page.wait_for_selector("#setup-problem .alert")
    assert "12.5%" in page.locator("#setup-problem").inner_text()
    pick(page, "component", "VAE decoder")
    page.wait_for_function("document.querySelector('#inner').innerText.includes('single head')")
    assert page.locator("#inner input[value=head]").is_disabled()
    keep(page, "greyed-out")


def test_masks_of_every_family(open_page):
    page = open_page()
    page.get_by_role("tab", name="Masks").click()
    page.locator("#layers .filter").fill("attn1 to_q")
    visible = page.locator("#layers .layer:visible")
    assert 0 < visible.count() < 30
    visible.nth(2).click()
    page.wait_for_selector("#detail img.tiles")
    page.wait_for_selector("#histogram .plotly")
    before = page.locator("#detail figure img").nth(1).get_attribute("src")
    page.locator("#detail img.tiles").click(position={"x": 5, "y": 5})
    page.wait_for_function("before => document.querySelectorAll('#detail figure img')[1].src !== before", arg=before)
    corner = page.locator("#detail figure img").nth(1).get_attribute("src")
    page.locator("#detail img.tiles").click()  # in the middle, where there is room to move
    page.wait_for_function("before => document.querySelectorAll('#detail figure img')[1].src !== before", arg=corner)
    page.locator("#detail button.look").focus()
    before = page.locator("#detail figure img").nth(1).get_attribute("src")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("before => document.querySelectorAll('#detail figure img')[1].src !== before", arg=before)
    assert float(page.locator("#detail button.look").get_attribute("data-y")) == pytest.approx(0.5 + 1 / 16, abs=0.01)
    visible.nth(1).click()
    page.wait_for_selector("#detail button.look[data-y='0.5']")  # another layer begins in the middle
    keep(page, "masks-weights")
    pick(page, "family", "N:M")
    page.wait_for_selector("#detail .group")
    assert "weights stay" in page.locator("#detail").inner_text()
    keep(page, "masks-nm")
    pick(page, "family", "Width")
    assert page.locator("#layers .filter").input_value() == "attn1 to_q"  # a new plan does not lose it
    page.locator("#layers .filter").fill("")
    page.locator("#layers .layer", has_text="channels").first.click()
    page.wait_for_selector("#detail .strip")
    assert "norm groups" in page.locator("#detail").inner_text()
    keep(page, "masks-width")


def test_stop_brings_back_the_last_pair(open_page):
    page = open_page()
    before = page.locator("#stage .side img").first.get_attribute("src")
    page.locator("#generate").click()
    page.wait_for_selector("#stage .stage.running")
    page.locator("#stop").click()
    page.wait_for_selector("#stage .stage:not(.running)")
    assert "Stopped" in page.locator("#problem").inner_text()
    assert page.locator("#stage .side img").first.get_attribute("src") == before
    steps(page, 2)
    page.locator("#generate").click()
    finished(page)


def test_unknown_words_are_marked_with_names_one_click_away(open_page):
    page = open_page()
    page.locator("#prompt textarea, #prompt input").first.fill("rokcet on a blue background")
    page.wait_for_selector("#unknown mark")
    assert page.locator("#unknown mark").inner_text() == "rokcet"
    page.locator("#unknown button", has_text="rocket").first.click()
    page.wait_for_function(
        "(document.querySelector('#prompt textarea') || document.querySelector('#prompt input')).value"
        ".startsWith('rocket on')")
    page.wait_for_function("!document.querySelector('#unknown mark')")


def test_radios_are_reached_by_keyboard(open_page):
    page = open_page()
    page.locator("#family input:checked").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#family input:checked').value === 'nm'")
    page.wait_for_function("document.activeElement.closest('#family') !== null")


def test_another_model_is_refused_with_a_sentence(open_page):
    page = open_page()
    pick(page, "model", "Other")
    page.locator("#named input, #named textarea").first.fill("/no/such/folder")
    page.locator("#load").click()
    page.wait_for_selector("#load-problem .alert")
    assert "no folder" in page.locator("#load-problem").inner_text()
    assert "emoji-sd" in page.locator("#head").inner_text()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_narrow_window_does_not_scroll_sideways(open_page, look):
    page = open_page(390, 844, look)
    wide = page.evaluate("document.documentElement.scrollWidth")
    keep(page, f"narrow-{look}")
    assert wide <= 392


def test_dark(open_page):
    page = open_page(look="dark")
    keep(page, "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 24)"
