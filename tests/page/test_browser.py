"""The flows a person does, in a real Chromium. Screenshots go to build/screenshots, to be looked at."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = pytest.mark.browser
SCREENSHOTS = Path("build/screenshots")

# The page's events that were sent and whose end was not told yet. A stream that tells may stay open for longer.
BUSY = """{
  const plain = window.fetch, ended = new Set();
  window.busy = new Set();
  const heard = async stream => {
    let text = '';
    for (const reader = stream.pipeThrough(new TextDecoderStream()).getReader();;) {
      const {value, done} = await reader.read();
      if (done) return;
      const lines = (text + value).split('\\n');
      text = lines.pop();
      for (const said of lines.filter(line => line.startsWith('data:')).map(line => JSON.parse(line.slice(5))))
        if (said.msg === 'process_completed' && !window.busy.delete(said.event_id)) ended.add(said.event_id);
    }
  };
  window.fetch = async (...asked) => {
    const [, what] = /queue.(join|data)/.exec(asked[0].url ?? asked[0]) ?? [], sending = Symbol();
    if (what === 'join') window.busy.add(sending);
    try {
      const answer = await plain(...asked);
      if (what === 'data') heard(answer.clone().body).catch(() => {});
      if (what === 'join') {
        const {event_id} = await answer.clone().json();
        if (event_id && !ended.delete(event_id)) window.busy.add(event_id);
      }
      return answer;
    } finally { window.busy.delete(sending); }
  };
}"""


@pytest.fixture
def open_page(browser, url):
    opened, faults = [], []

    def go(width=1280, height=800, look="light", query=""):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(30_000)
        page.add_init_script(BUSY)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(
            (url, "data:", "blob:", url.replace("http", "ws"))) else None)
        page.goto(f"{url}?__theme={look}{query}")
        page.wait_for_selector("#achieved .row", state="attached")
        opened.append(page)
        return page

    yield go
    for page in opened:
        page.close()
    assert faults == [], "the page raised an error or asked another host"


def settled(page):
    """All that was asked is answered, and so is what follows: from one event to the next it takes a frame or two."""
    page.evaluate("window.still = 0")
    page.wait_for_function("(window.still = window.busy.size ? 0 : window.still + 1) > 10", polling="raf")


def finished(page):
    page.wait_for_selector("#stage .stage:not(.running) .badge")
    page.wait_for_selector("#stop:disabled")


def draw(page):
    """Press Generate and wait for the pair. Until the drawing is asked for, the page looks like a finished one."""
    with page.expect_request(lambda request: "/queue/join" in request.url):
        page.locator("#generate").click()
    settled(page)
    finished(page)


def serious(page):
    """What axe-core finds that keeps somebody from using the page. What fades would be taken for poor contrast."""
    settled(page)
    page.wait_for_function("document.getAnimations().every(a => a.playState !== 'running' ||"
                           " a.effect.getComputedTiming().endTime === Infinity)")
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:160]} {rule['nodes'][0]['failureSummary']}"
            for rule in found if rule["impact"] in ("serious", "critical")]


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
    for view in ("Wipe", "Difference", "Steps", "Side by side"):
        page.get_by_role("button", name=view, exact=True).click()
        assert page.get_by_role("button", name=view, exact=True).get_attribute("aria-pressed") == "true"
        keep(page, f"view-{view.split()[0].lower()}")
    assert page.locator("#stage .sides").is_visible()
    assert page.locator("#stage .film figure").count() == 4
    keep(page, "pair")


def test_the_wipe_moves_with_the_keyboard(open_page):
    page = open_page()
    page.get_by_role("button", name="Wipe", exact=True).click()
    page.locator("#stage .wipe").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#stage .sides").evaluate("e => e.style.getPropertyValue('--at')") == "51%"


def test_the_pruned_picture_shows_while_f_is_held(open_page):
    page = open_page()
    pruned = page.locator("#stage .side.pruned")
    page.get_by_role("button", name="Flip", exact=True).click()
    assert not pruned.is_visible()
    page.keyboard.down("f")
    assert pruned.is_visible()
    assert not page.locator("#stage .side.dense").is_visible()
    page.keyboard.up("f")
    assert not pruned.is_visible()
    page.locator("#prompt textarea, #prompt input").first.focus()
    page.keyboard.down("f")  # somebody types
    assert not pruned.is_visible()
    page.keyboard.up("f")


def test_a_blind_vote_is_revealed_and_counted_once(open_page):
    page = open_page()
    steps(page, 2)
    page.get_by_role("button", name="Blind", exact=True).click()
    assert "will not be counted" in page.locator("#stage .says").inner_text()  # the prepared pair was seen with names
    draw(page)
    assert not page.locator("#stage .side.dense .caption").is_visible()
    assert not page.locator("#verdict").is_visible()
    alts = page.locator("#stage .side img").evaluate_all("images => images.map(image => image.alt)")
    assert alts == ["picture A", "picture B"]
    keep(page, "blind")
    page.get_by_role("button", name="A is better").click()
    first = page.locator("#stage .side").first.get_attribute("class").split()[1]
    assert f"A was {first}" in page.locator("#stage .says").inner_text()
    assert f"You chose {first}" in page.locator("#stage .says").inner_text()
    assert "Votes so far, 1:" in page.locator("#stage .tally").inner_text()
    assert page.locator("#stage .side.dense .caption").is_visible()
    assert page.get_by_role("button", name="A is better").is_disabled()
    page.get_by_role("button", name="Side by side").click()
    assert page.locator("#stage .side img").first.get_attribute("alt").startswith("dense")


def test_while_dragging_the_figures_follow_and_on_release_they_are_exact(open_page):
    page = open_page()
    page.get_by_role("tab", name="Importance").click()
    page.wait_for_function("location.search.includes('tab=importance')")
    settled(page)
    calls = []
    page.on("request", lambda request: calls.append(request.url) if "/queue/join" in request.url else None)
    page.locator("#ratio input[type=range]").scroll_into_view_if_needed()
    box = page.locator("#ratio input[type=range]").bounding_box()
    at = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.32, at)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, at, steps=8)
    page.wait_for_function("parseFloat(document.querySelector('#achieved [data-name=asked] .figure').innerText) > 50")
    dragged = achieved(page, "zeros")
    row = page.locator("#importance .imp:not(.left)").first
    assert dragged > 40
    assert float(row.locator(".figure").inner_text().split()[0]) > 50
    assert calls == []
    page.mouse.up()
    page.wait_for_function("location.search.includes('ratio=')")
    assert calls
    assert achieved(page, "zeros") == pytest.approx(dragged, abs=1)


def test_a_layer_picked_in_importance_opens_in_masks(open_page):
    page = open_page()
    page.get_by_role("tab", name="Importance").click()
    page.get_by_role("button", name="Largest first").click()
    sizes = page.locator("#importance .imp").evaluate_all("rows => rows.map(row => +row.dataset.size)")
    assert sizes == sorted(sizes, reverse=True)
    first = page.locator("#importance .imp").first
    first.focus()
    page.keyboard.press("ArrowDown")
    name = page.evaluate("document.activeElement.dataset.site")
    assert name != first.get_attribute("data-site")
    keep(page, "importance")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail img.tiles")
    assert page.get_by_role("tab", name="Masks").get_attribute("aria-selected") == "true"
    assert page.locator(f"#layers [data-site='{name}']").get_attribute("aria-pressed") == "true"


def test_a_link_brings_everything_back(open_page):
    page = open_page()
    steps(page, 3)
    pick(page, "family", "Width")
    page.wait_for_function("location.search.includes('units=width')")
    page.locator("#prompt textarea, #prompt input").first.fill("pizza on a teal background")
    page.get_by_role("tab", name="Importance").click()
    page.wait_for_function("location.search.includes('tab=importance') && location.search.includes('pizza')")
    page.locator("#importance .imp").nth(2).click()
    page.wait_for_function("location.search.includes('layer=') && location.search.includes('tab=masks')")
    settled(page)
    query = page.evaluate("location.search").replace("?", "&").replace("&__theme=light", "")
    assert "ratio=" not in query
    other = open_page(query=f"&ratio=0.3{query}")  # which needs no saying: the page writes the address anew, without
    other.wait_for_function("!location.search.includes('ratio=')")
    other.wait_for_selector("#detail .strip")
    assert other.get_by_role("tab", name="Masks").get_attribute("aria-selected") == "true"
    assert other.locator("#family input:checked").get_attribute("value") == "width"
    assert other.locator("#prompt textarea, #prompt input").first.input_value() == "pizza on a teal background"
    settled(other)
    assert other.locator("#unknown mark").count() == 0
    assert other.evaluate("location.search").replace("?", "&").replace("&__theme=light", "") == query


def test_undo_and_the_history_lose_nothing(open_page):
    page = open_page()
    steps(page, 2)
    assert page.locator("#undo").is_disabled()
    pick(page, "family", "Width")
    page.wait_for_function("document.querySelector('#achieved').innerText.includes('params')")
    page.wait_for_selector("#undo:enabled")
    page.keyboard.press("Control+z")
    page.wait_for_function("document.querySelector('#family input:checked').value === 'weight'")
    page.wait_for_selector("#undo:disabled")
    pick(page, "family", "N:M")
    page.wait_for_selector("#stale p")
    draw(page)
    page.wait_for_selector("#history button")
    assert "2:4" in page.locator("#history button").first.inner_text()
    keep(page, "history")
    page.locator("#history button").nth(1).click()
    page.wait_for_function("document.querySelector('#family input:checked').value === 'weight'")
    page.wait_for_function("document.querySelector('#stage').innerText.includes('Prepared')")
    page.wait_for_selector("#stale p", state="detached")


def test_measuring_fills_bars_verdict_and_cards(open_page):
    page = open_page()
    steps(page, 2)
    draw(page)
    assert "not measured yet" in page.locator("#verdict").inner_text()
    page.locator("#offer").click()
    page.wait_for_selector("#timing .note")
    page.wait_for_selector("#stop:enabled")
    page.locator("#stop").click()
    page.wait_for_function("document.querySelector('#timing').innerText.includes('nothing was measured')")
    page.wait_for_selector("#stop:disabled")
    page.get_by_role("tab", name="Speed").click()
    page.locator("#measure").click()
    page.wait_for_selector("#progress .note")
    page.wait_for_selector("#speed table", timeout=120_000)  # twenty-two runs
    page.wait_for_selector("#stop-measure:disabled")
    assert "not measured yet" not in page.locator("#verdict").inner_text()
    assert not page.locator("#offer").is_visible()
    keep(page, "speed")
    page.get_by_role("tab", name="Compare").click()
    assert "not measured yet" not in page.locator("#cards").inner_text()


def test_the_report_has_the_card_and_the_texts(open_page):
    page = open_page()
    page.get_by_role("tab", name="Report").click()
    page.wait_for_selector("#card img")
    assert page.locator("#card img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1600, 900]
    assert page.locator("#texts h3").all_inner_texts() == ["Python", "Command line", "Link", "JSON"]
    with page.expect_download() as download:
        page.locator("#card a").click()
    assert download.value.suggested_filename == "prunescope-card.png"
    keep(page, "report")


def test_present_is_an_address_and_escape_ends_it(open_page):
    page = open_page(query="&present=1&tab=masks")
    page.wait_for_selector("#setup", state="hidden")
    page.wait_for_selector("#stage .sides")
    assert page.locator("#verdict").is_visible()
    assert page.locator("#stage .sides").is_visible()
    keep(page, "present")
    page.keyboard.press("Escape")
    assert page.locator("#setup").is_visible()
    assert "present" not in page.evaluate("location.search")
    page.get_by_role("button", name="Present").click()
    assert not page.locator("#setup").is_visible()
    assert "present=1" in page.evaluate("location.search")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_tab(open_page, look):
    page = open_page(look=look)
    for name in ("Compare", "Importance", "Masks", "Speed", "Report"):
        page.get_by_role("tab", name=name).click()
        if name == "Masks":
            pick(page, "family", "N:M")
            page.locator("#layers .layer", has_text="conv1").first.click()
            page.wait_for_selector("#detail .micro")
            page.wait_for_selector("#histogram .plotly")
        if name == "Report":
            page.wait_for_selector("#card img")
        assert serious(page) == [], name


def test_the_slider_says_what_is_achieved_and_marks_the_pair_as_old(open_page):
    page = open_page()
    steps(page, 2)
    draw(page)
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
    draw(page)
    page.wait_for_selector("#stale p", state="detached")


def test_an_emptied_ratio_is_a_sentence_and_the_page_goes_on(open_page):
    page = open_page()
    page.locator("#ratio input[type=number]").fill("")
    page.wait_for_selector("#setup-problem .alert")
    assert "The ratio is missing" in page.locator("#setup-problem").inner_text()
    settled(page)
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
    page.locator("#layers .layer", has_text="channels").first.wait_for(state="attached")
    settled(page)
    assert page.locator("#layers .filter").input_value() == "attn1 to_q"  # a new plan does not lose it
    page.locator("#layers .filter").fill("")
    page.locator("#layers .layer", has_text="channels").first.click()
    page.wait_for_selector("#detail .strip")
    assert "norm groups" in page.locator("#detail").inner_text()
    keep(page, "masks-width")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_cell_of_a_group_names_its_layer_and_leads_to_another_group(open_page, look):
    stream, hidden = "down_blocks.0.resnets.0.conv2#stream", "down_blocks.0.resnets.0#channels"
    page = open_page(look=look, query=f"&units=channel&tab=masks&layer={stream.replace('#', '%23')}")
    cell = page.locator("#detail .map .cell[title^='down 0 · resnet 0 · conv1']")
    cell.hover()
    said = page.locator("#detail .named")
    assert said.inner_text() == ("down 0 · resnet 0 · conv1: reads inputs 0–63 of 64. Press it for down 0 · resnet 0 · "
                                 "channels.")
    page.locator("#detail .map .cell[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert said.inner_text().startswith("down 0 · resnet 0 · norm1: normalises channels 0–63 of 64")
    assert page.locator("#detail .map .cell[tabindex='0']").count() == 1
    keep(page, f"masks-group-{look}")
    assert serious(page) == []
    cell.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#detail h2').innerText.endsWith('channels')")
    settled(page)
    assert page.evaluate("document.activeElement.title") == "down 0 · resnet 0 · conv1: writes outputs 0–63 of 64"
    assert page.locator(f"#layers [data-site='{hidden}']").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")  # and back again
    page.wait_for_function("document.querySelector('#detail h2').innerText.endsWith('stream')")


def test_stop_brings_back_the_last_pair(open_page):
    page = open_page()
    before = page.locator("#stage .side img").first.get_attribute("src")
    page.locator("#generate").click()
    page.wait_for_selector("#stage .stage.running")
    page.locator("#stop").click()
    page.wait_for_function("document.querySelector('#problem').innerText.includes('Stopped')")
    page.wait_for_selector("#stage .stage:not(.running)")
    assert page.locator("#stage .side img").first.get_attribute("src") == before
    steps(page, 2)
    draw(page)


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


def test_a_method_that_sees_data_is_looked_at_and_shows_when_layers_matter(open_page):
    page = open_page(query="&tab=importance")
    page.get_by_role("radio", name="Wanda").check(force=True)
    page.wait_for_selector("#importance .steps")
    assert page.locator("#importance .steps").count() > 100
    page.wait_for_function("() => location.search.includes('method=wanda')")
    page.wait_for_function("document.querySelector('#looking').innerText.trim() === ''")
    page.get_by_text("Samples to look at").wait_for()
    keep(page, "wanda")


def test_single_layers_get_ratios_of_their_own(open_page):
    page = open_page(query="&tab=importance")
    page.get_by_role("button", name="Own ratios").click()
    page.get_by_role("button", name="Pick all layers of Middle block").click()
    assert page.locator("#importance .count").inner_text().endswith("picked")
    slider = page.locator("#importance .editor input")
    slider.focus()
    before = float(slider.input_value())
    for _ in range(5):
        slider.press("ArrowRight")
    page.wait_for_function("""share => {
        const rows = [...document.querySelectorAll('#importance .imp.chosen')];
        return rows.length && rows.every(
            row => row.querySelector('.own-ratio') && Math.abs(row.dataset.share - share) < 0.01);
    }""", arg=(before + 5) / 100)  # what the server says; the figures alone are painted at once
    share = page.locator("#importance .imp.chosen .figure").first.inner_text()
    assert float(share.removesuffix(" %")) == pytest.approx(before + 5, abs=1)
    marked = page.locator("#importance .own-ratio").count()
    assert marked == page.locator("#importance .imp.chosen").count() > 10
    keep(page, "own-ratios")
    page.get_by_role("button", name=f"Clear all {marked}").click()
    page.wait_for_selector("#importance .own-ratio", state="detached")


def test_suggesting_can_be_stopped_and_everything_stays(open_page):
    page = open_page(query="&tab=importance")
    figure = page.locator("#achieved .row[data-name=units] .figure").inner_text()
    page.get_by_role("button", name="Suggest ratios").click()
    page.wait_for_selector("#looking progress")
    page.locator("#stop-looking").click()
    page.wait_for_selector("#stop-looking", state="hidden")
    page.get_by_text("Stopped; nothing was changed.").wait_for()
    settled(page)
    assert page.locator("#importance .own-ratio").count() == 0
    assert page.locator("#achieved .row[data-name=units] .figure").inner_text() == figure


def test_whether_methods_agree_is_one_click_away(open_page):
    page = open_page(query="&tab=importance")
    page.get_by_text("Do methods agree?").click()
    page.get_by_role("button", name="Compare their masks").click()
    page.wait_for_selector("#agreement .row")
    assert "random choices of these sizes would share" in page.locator("#agreement").inner_text()
    keep(page, "agreement")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_new_views_have_no_serious_findings_either(open_page, look):
    page = open_page(look=look, query="&tab=importance&method=wanda")
    page.wait_for_selector("#importance .steps")
    page.get_by_role("button", name="Own ratios").click()
    page.get_by_text("Do methods agree?").click()
    pick(page, "rival", "Magnitude")
    page.get_by_role("button", name="Compare their masks").click()
    page.wait_for_selector("#agreement .row")
    assert serious(page) == []
    keep(page, f"importance-{look}")


def test_the_new_views_fit_a_phone(open_page):
    page = open_page(390, 844, query="&tab=importance&method=wanda")
    page.wait_for_selector("#importance .steps", state="attached")
    page.get_by_role("button", name="Own ratios").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep(page, "importance-phone")


# Without a prompt: channels by Diff-Pruning, and what stays is trained.


def channels(page):
    """``emoji-ddpm`` with its channels to be pruned."""
    pick(page, "model", "emoji-ddpm")
    page.wait_for_function("document.querySelector('#head').innerText.includes('emoji-ddpm')")
    settled(page)
    pick(page, "family", "Width")
    settled(page)
    pick(page, "inner", "Channels")
    settled(page)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_diff_pruning_shows_which_timesteps_it_listens_to(open_page, look):
    page = open_page(look=look)
    channels(page)
    assert not page.locator("#prompt").is_visible()
    assert not page.locator("#chips").is_visible()
    pick(page, "method", "Diff-Pruning")
    page.get_by_role("tab", name="Importance").click()
    page.wait_for_function("document.querySelector('#achieved').innerText.includes('params')", timeout=120_000)
    settled(page)
    assert "timesteps that were listened to" in page.inner_text("#heard")
    page.wait_for_selector("#curve .plotly")
    assert page.locator("#curve .scatterlayer .trace").count() == 3
    assert serious(page) == []
    keep(page, f"diff-pruning-{look}")
    page.locator("#option-diff-pruning-threshold input[type=number]").fill("0")
    page.locator("#option-diff-pruning-threshold input[type=number]").press("Tab")
    page.wait_for_function("document.querySelector('#heard').innerText.includes('With a threshold of 0')")
    pick(page, "model", "emoji-sd")
    page.wait_for_selector("#prompt", state="visible")


def test_a_training_stops_goes_on_and_shows_pictures_before_and_after(open_page):
    page = open_page()
    channels(page)
    page.get_by_role("tab", name="Recover").click()
    for name, value in (("steps", "20"), ("batch", "2")):
        page.locator(f"#train-{name} input[type=number]").fill(value)
        page.locator(f"#train-{name} input[type=number]").press("Tab")
    page.locator("#train").click()
    page.wait_for_selector("#training:has-text('Training, ')", timeout=120_000)
    page.locator("#stop-train").click()
    page.wait_for_selector("#training:has-text('Stopped after')")
    settled(page)
    page.locator("#train").click()
    page.wait_for_selector("#before-after figure:nth-of-type(3)", timeout=120_000)
    page.wait_for_selector("#stop-train:disabled")
    settled(page)
    assert page.locator("#train-curve circle").count() == 20
    assert "Fine-tuned for 20 steps" in page.inner_text("#before-after")
    assert "fine-tuned for 20 steps" in page.inner_text("#verdict")
    assert page.locator("#use-trained input").is_checked()
    assert serious(page) == []
    keep(page, "recover")
    page.get_by_role("tab", name="Compare").click()
    assert page.locator("#history button").count() == 3  # the prepared pair, before, after
    draw(page)
    assert "fine-tuned 20 steps" in page.locator("#history button").first.inner_text()


def test_recover_fits_a_phone(open_page):
    page = open_page(width=390, height=844, look="dark", query="&tab=recover")
    settled(page)
    assert page.locator("#train").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious(page) == []
    keep(page, "recover-phone")
