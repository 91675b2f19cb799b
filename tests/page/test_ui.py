"""The page's pure parts: words, markup, figures, the request that the setup makes. No browser, no server."""

import json
import re
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np
import pytest
from conftest import Knobs
from PIL import Image

from pruning.errors import Refused
from pruning.planning.overlap import Overlap
from pruning.progress import Looked
from pruning.reports.speed import speed as on_the_clock
from pruning.timing import intervals
from pruning.types import Decision, PlanStep, Recipe
from ui import door, state
from ui.plots import agreement, cards, importance, layers, markup, mask, pair, speed
from ui.setup import row
from ui.tabs import report
from ui.values import Layer, Moment, Side
from ui.views import pairs, words
from ui.widgets import controls
from ui.widgets.progress import kept_in, paced

VOCABULARY = [{"name": "red heart", "tags": ["heart", "love"]}, {"name": "cat face", "tags": ["cat", "pet"]},
              {"name": "rocket", "tags": ["space"]}, {"name": "pizza", "tags": ["cheese", "slice"]}]


def test_unknown_words_are_found_in_order_and_once():
    assert words.unknown("a red unicorn cat on a blue background with unicorn dust", VOCABULARY) == ["unicorn", "dust"]
    for known in ("red heart on a teal background", "'red heart' on a blue background", "red heart - blue background"):
        assert words.unknown(known, VOCABULARY) == []
    assert words.unknown("a heart-shaped 'unicorn'", VOCABULARY) == ["heart-shaped", "unicorn"]


def test_nearest_names_and_their_place_in_the_prompt():
    assert words.nearest("hart", VOCABULARY, 1) == ["red heart"]
    assert words.nearest("rokcet", VOCABULARY, 1) == ["rocket"]
    assert words.replaced("a rokcet on a blue background", "rokcet", "rocket") == "a rocket on a blue background"
    assert words.replaced("a 'rokcet' here", "rokcet", "rocket") == "a 'rocket' here"


def test_help_marks_the_word_and_offers_whole_prompts(monkeypatch):
    monkeypatch.setattr(row, "vocabulary", lambda source: VOCABULARY)
    shown = row.help_with("rokcet on a blue background", "emoji-sd")
    assert "<mark>rokcet</mark>" in shown
    assert 'data-say="rocket on a blue background"' in shown
    assert row.help_with("rocket", "emoji-sd") == ""


@pytest.mark.parametrize(("value", "shown"), [(0.02684, "0.0268"), (46.31, "46.3"), (1234.6, "1,235"), (0, "0"),
                                              (0.999, "0.999"), (7, "7.00")])
def test_three_significant_digits(value, shown):
    assert markup.three(value) == shown


def test_counts_shares_and_bytes():
    assert markup.counted(22_287_172) == "22.3 M"
    assert markup.counted(401.6e9) == "402 G"
    assert markup.percent(0.3) == "30.0 %"
    assert markup.bytes_(44_600_000) == "44.6 MB"


def test_markup_escapes_what_comes_from_outside():
    side = Side(("data:image/png;base64,AA",), 1.0, 1, 1, 1, 0, "f")
    shown = pair.stage(side, side, ("data:x",), (), (), described='<script>alert("x")</script>')
    assert "<script>" not in shown


def test_badge_says_what_was_counted():
    dense = Side(("a",), 10.0, 20, 20, 1000, 5, "aaaa-x")
    zeroed = Side(("a",), 10.0, 20, 20, 1000, 305, "bbbb-x")
    cut = Side(("a",), 10.0, 20, 20, 800, 5, "cccc-x")
    assert "300 more weights are zero (30.0 %" in pair.badge(dense, zeroed)
    assert "200 of 1.00 k parameters are gone (20.0 %" in pair.badge(dense, cut)
    assert "Nothing removed" in pair.badge(dense, dense)
    assert "Really pruned" not in pair.badge(dense, dense)


def test_difference_is_blue_where_dense_is_brighter_and_orange_where_pruned_is():
    dark, light = Image.new("RGB", (2, 2), (0, 0, 0)), Image.new("RGB", (2, 2), (255, 255, 255))
    assert pair.difference(light, dark).getpixel((0, 0)) == (75, 145, 245)
    assert pair.difference(dark, light).getpixel((0, 0)) == (240, 140, 50)
    assert pair.difference(dark, dark).getpixel((0, 0)) == (24, 26, 32)


REPORT = {"params": {"dense": 1000, "pruned": 700, "nonzero": 690}, "bytes": {"dense": 4000, "pruned": 2800,
          "dtype": "float32"}, "macs": {"dense": 5000, "pruned": 4000, "nonzero": 4000,
          "counted_at": {"latent": 24, "tokens": 32, "batch": 1}},
          "speed": {"theory": 1.25, "reachable": 1.2, "measured": None, "why": "The layers are smaller."}}
QUALITY = {"psnr": 20.0, "ssim": 0.9, "latents": 0.25, "steps": [0.1, 0.25], "alignment": [0.8, 0.7],
           "retrieval": [1, 0], "ranks": [[1, 4]], "candidates": 200, "proxy": "emoji-clip"}


def measured(ratio):
    """A measurement in which each step took 50 and 20 ms, and what its pairs of runs say of their ratio."""
    part = {"dense": [50.0, 49.0, 51.0], "pruned": [20.0, 19.0, 21.0], "ratio": ratio, "state": intervals.state(ratio),
            "speedup": ratio[0] if intervals.differs(ratio) else None}
    return REPORT | {"speed": REPORT["speed"] | {"measured": part | {
        "repeats": 10, "taken_on": "a clock", "kernels": 0.8, "between": 0.1, "steps": 8,
        "parts": {"step": part, "vae.decoder": part}}}}


def shown_cards(report, quality=QUALITY):
    return {figure.label: figure for figure in cards.figures(report, quality, (50.0, 20.0), "unet")}


def test_cards_never_show_a_speed_up_before_measuring():
    shown = cards.cards(list(shown_cards(REPORT).values()))
    assert "not measured yet" in shown
    assert "2.5" not in re.sub(r"data:[^\"]*", "", shown)  # 50 / 20
    assert "−30.0 %" in shown
    assert "ms per step, live" in shown


# What pairs of runs can tell, as the card, the bars, the table, the report and the verdict say it.
CLOCKED = (((2.5, 2.4, 2.6), "2.50× (2.40 to 2.60)", "faster"), ((0.8, 0.75, 0.85), "0.80× (0.75 to 0.85)", "slower"),
           ((1.01, 0.99, 1.03), "no difference larger than 3 %", "no difference"),
           ((1.01, 0.8, 1.2), "too noisy to tell (0.80× to 1.20×)", "too noisy"),
           (None, "too few runs to tell", "too few"))


@pytest.mark.parametrize(("ratio", "words", "state"), CLOCKED)
def test_the_clock_is_put_in_the_same_words_everywhere(ratio, words, state):
    report, differs = measured(ratio), state in ("faster", "slower")
    assert intervals.state(ratio) == state
    figure = shown_cards(report)["speed-up"]
    assert (figure.pruned, figure.known) == (words, differs)
    assert figure.note == (f"measured: {state}" if differs else "measured")
    assert "50.0 (49.0 to 51.0) ms" in figure.how
    panel = speed.speed(report, "unet", "a plan")
    assert panel.count(words) == 3  # beside the bars, and in the table's rows of both parts
    assert (f"the stopwatch: {state}, {words}" in panel) == differs
    assert f'aria-label="speed-up: {words}"' in cards.card(figure)
    step = PlanStep(Recipe(), "", "", Decision("keep", {}))
    why = on_the_clock(step, {"dense": 100, "pruned": 50, "nonzero": 50}, report["speed"]["measured"])["why"]
    assert f"Measured: {words}" in why


def test_measurements_of_older_versions_are_shown():
    """They know both sides' intervals, and a speed-up where these did not meet."""
    report = measured((2.5, 2.4, 2.6))
    for part in report["speed"]["measured"]["parts"].values():
        part.pop("ratio", None)
    assert shown_cards(report)["speed-up"].pruned == "2.50× (2.33 to 2.68)"
    assert "faster, 2.50× (2.33 to 2.68)" in speed.speed(report, "unet", "a plan")


def test_quality_is_shown_and_proxies_say_so():
    shown = shown_cards(REPORT)
    assert shown["SSIM"].pruned == "0.900"
    assert shown["latents apart"].pruned == "25.0 %"
    assert (shown["prompt's place, proxy"].dense, shown["prompt's place, proxy"].pruned) == ("1.", "4.")
    blind = QUALITY | {"alignment": None, "ranks": [None], "psnr": None, "latents": None}
    shown = shown_cards(REPORT, blind)
    assert (shown["PSNR"].pruned, shown["latents apart"].pruned) == ("equal", "not a number")
    assert not [label for label in shown if "proxy" in label]


def test_three_bars_with_their_reason():
    panel = speed.speed(REPORT, "unet", "a plan")
    assert "1.25×" in panel
    assert "1.20×" in panel
    assert "not measured yet" in panel
    assert "The layers are smaller." in panel
    assert '"figure">2.50×<' in speed.speed(measured((2.5, 2.4, 2.6)), "unet", "a plan")
    noisy = speed.speed(measured((1.0, 0.8, 1.2)), "unet", "a plan")
    assert "50.0 (49.0 to 51.0)" in noisy
    assert "10 pairs of runs of 8 steps" in noisy
    assert "80 % of a dense step" in noisy


def test_a_film_shows_when_the_two_part():
    moments = [Moment(1, "data:a", "data:b"), Moment(2, "data:c", "data:d")]
    shown = pair.filmstrip(moments, [0.1, 0.4])
    assert "half of that is reached by step 2 of 2" in shown
    assert "height:25.0%" in shown
    assert "no number" in pair.filmstrip(moments, [0.1, None])
    assert pair.kept_steps(3) == {1, 2, 3}
    assert len(pair.kept_steps(50)) == 10
    assert 50 in pair.kept_steps(50)


ROWS = [Layer("conv_in", "weight", 10, 0, "protected", (0.1, 0.2, 0.3)),
        Layer("down_blocks.0.resnets.0.conv1", "weight", 200, 50, None, (0.0, 0.5, 1.0)),
        Layer("down_blocks.0.attn#heads", "head", 4, 2, None, (1.0, 2.0, 3.0, 4.0))]


def test_importance_has_a_strip_for_every_layer_by_block():
    shown = importance.importance(ROWS, "conv_in")
    assert shown.count("data-site=") == 3
    assert shown.count('class="block"') == 2
    assert "Outside the blocks" in shown
    assert "Down block 0" in shown
    assert shown.count('class="cut"') == 2  # nothing of a protected layer is cut
    assert "--gone:25.00%" in shown
    assert "200 weights, scores 0 to 1.00, middle 0.500. Opens in Masks. Removed: " in shown
    assert 'class="cut"' not in importance.importance(ROWS, cut=False)
    assert "No scores" in importance.importance(())


def test_strips_are_coloured_by_the_logarithm_of_the_score():
    low, middle, high = importance.colours([0.001, 0.1, 10.0], 0.001, 10.0)
    assert (low, high) == ("#440154", "#fde725")
    assert middle == importance.colours([0.5], 0.025, 10.0)[0]
    assert importance.colours([0.0], 0.001, 10.0) == [low]
    assert importance.gradient(["#000000", "#ffffff"], 2).count("%") == 4  # two units, two fields
    assert importance.gradient(["#000000", "#ffffff"], 9) == "linear-gradient(90deg,#000000,#ffffff)"


def test_a_history_keeps_the_newest_and_changes_one_pair_in_place():
    first = pairs.prepared()
    others = [replace(first, note=str(i)) for i in range(state.MOST)]
    history = state.History((first,))
    for other in others:
        history = history.added(other)
    assert len(history.pairs) == state.MOST
    assert history.shown is others[-1]
    assert history.showing(99).shown is others[0]
    assert history.changed(others[3], first).pairs.count(first) == 1
    assert history.changed(others[3], first).shown is others[-1]


def test_a_pair_travels_as_json():
    first = pairs.prepared()
    again = state.Pair.from_dict(json.loads(json.dumps(first.to_dict())))
    assert (again.recipe, again.shot, again.dense, again.film) == (first.recipe, first.shot, first.dense, first.film)


def test_the_card_is_a_picture_with_both_sides():
    made = report.card(pairs.prepared())
    address = re.search(r'src="(data:image/png[^"]+)"', made)
    assert address is not None
    assert markup.picture(address[1]).size == (1600, 900)
    assert 'download="prunescope-card.png"' in made


def test_what_was_adjusted_is_said_on_the_page():
    first = pairs.prepared()
    said = "What stays was adjusted in 3 of 4 layers."
    pair = replace(first, recipe=replace(first.recipe, update=True), report=first.report | {"adjusted": {"said": said}})
    assert pairs.told(pair).endswith(f" {said}</p>")
    assert said not in pairs.told(first)
    assert said in report.texts(pair)
    assert pairs.said(pair) == pairs.said(first)  # a card has no room for it
    assert "adjusted" in pairs.brief(pair.recipe)
    assert "adjusted" not in pairs.brief(first.recipe)


def test_the_report_says_the_same_in_python_shell_and_json():
    made = report.texts(pairs.prepared())
    for part in ("pruning.plan(pipe", "python -m pruning prune emoji-sd", "&quot;recipe&quot;", "drawn_on"):
        assert part in made


def test_layers_carry_their_share_and_reason():
    rows = [Layer("down_blocks.0.resnets.0.conv1", "weight", 200, 50), layers.Layer("conv_in", "weight", 10, 0,
                                                                                           "protected")]
    shown = layers.layers(rows, "conv_in")
    assert "25.0 %" in shown
    assert "protected" in shown
    assert shown.count('aria-pressed="true"') == 1
    assert layers.short("down_blocks.0.resnets.0.conv1") == "down 0 · resnet 0 · conv1"


def test_tiles_show_the_kept_share():
    keep = np.ones((4, 4), dtype=bool)
    keep[:2, :2] = False
    keep[2, 2] = False
    picture, pooled = mask.tiles(keep, most=2)
    assert pooled == (2, 2)
    assert picture.size == (2, 2)
    assert picture.getpixel((0, 0)) == mask.GONE
    assert picture.getpixel((1, 0)) == mask.KEPT
    third = picture.getpixel((1, 1))
    assert mask.KEPT != third != mask.GONE
    one_each, pooled = mask.tiles(keep)
    assert pooled == (1, 1)
    assert [[one_each.getpixel((c, r)) == mask.KEPT for c in range(4)] for r in range(4)] == keep.tolist()


def test_zoom_shows_single_weights_at_the_chosen_place():
    keep = np.ones((100, 200), dtype=bool)
    keep[60, 130] = False
    near = mask.zoom(keep, 60, 130)
    colours = {colour for _, colour in near.getcolors(1 << 20)}
    assert mask.GONE in colours
    assert mask.GONE not in {colour for _, colour in mask.zoom(keep, 10, 10).getcolors(1 << 20)}
    assert mask.zoom(keep, 60, 130, m=4).size == near.size


def test_histogram_divides_at_the_threshold():
    figure = mask.histogram([0.1, 0.2, 0.4, 0.8], [3, 5, 7], 0.3)
    removed, kept = figure.data
    assert sum(removed.y) == 8
    assert sum(kept.y) == 7
    assert figure.layout.shapes[0].x0 == 0.3
    assert removed.marker.pattern.shape == "/"


def test_the_histogram_is_told_in_words():
    told = mask.in_words([0.1, 0.2, 0.4, 0.8], [3, 5, 7], 0.3)
    assert told == ("Histogram of scores: half lie below about 0.400, the highest at 0.800. What is below the "
                    "threshold of 0.300 goes.")
    assert "threshold" not in mask.in_words([0.1, 0.2], [3], None)


def test_groups_and_strips_say_in_words_what_they_show():
    shown = mask.groups(np.array([1.0, -2.0, 3.0, -4.0]), np.array([False, False, True, True]), 4)
    assert "2 of 4 weights stay" in shown
    assert shown.count('class="w gone"') == 2
    strip = mask.strip([1.0, 2.0, 3.0, 4.0], [False, True, False, True], quota=2)
    assert "2 of 4 units go, 1 from each of 2 norm groups" in strip
    assert 'class="strip many"' in mask.strip([1.0] * 101, [True] * 101)  # these wrap
    assert 'class="strip"' in mask.strip([1.0] * 200, [True] * 200, quota=2)


def test_a_shot_of_the_page_is_bounded():
    shot = row.shot(["a", None, None, 50, 3, "ddim", 4])
    assert (shot.prompts, shot.seed, shot.steps, shot.images) == (("a",), 0, 50, 4)
    for steps, images, sentence in ((0, 1, "from 1 to 50"), (5000, 1, "from 1 to 50"), (20, 60, "from 1 to 4"),
                                    (None, 1, "steps is empty. Drag its slider or type a number")):
        with pytest.raises(Refused, match=sentence):
            row.shot(["a", "", 0, steps, 3, "ddim", images])


def test_recipes_travel_as_plain_values():
    recipe = Recipe("emoji-sd", "unet", options=(("norm", "l2"),), overrides=(("up*", 0.1),), only=("a", "b"))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(Refused, match="unknown parts"):
        Recipe.from_dict({"surprise": 1})


@dataclass(frozen=True)
class Plain:
    """None at all."""


def test_every_knob_becomes_a_control():
    with gr.Blocks():
        groups, made = controls.of_methods({"some": Knobs, "plain": Plain})
    assert list(groups) == ["some"]
    norm, exact, names, buckets = (made["some", name] for name in ("norm", "exact", "names", "buckets"))
    assert isinstance(norm, gr.Radio)
    assert [value for _, value in norm.choices] == ["l1", "l2"]
    assert isinstance(exact, gr.Checkbox)
    assert exact.value is True
    assert isinstance(names, gr.Textbox)
    assert names.value == "a, b"
    assert isinstance(buckets, gr.Slider)
    assert (buckets.minimum, buckets.maximum, buckets.step, buckets.value, buckets.info) == (1, 16, 1, 4, "how many")
    assert door.entry(buckets, None) is None  # an empty box reaches our own check


def test_a_layer_without_a_threshold_has_a_plain_histogram():
    figure = mask.histogram([0.1, 0.2, 0.4], [3, 5], None)
    assert [trace.name for trace in figure.data] == ["weights"]


def test_progress_is_told_at_once_and_to_the_end_but_not_at_every_step():
    steps = [Looked(i, 1000, "looking at inputs") for i in range(1, 1001)]
    notes = list(paced(iter(steps)))
    assert "Looking at inputs, 1 of 1000" in notes[0]
    assert "1000 of 1000" in notes[-1]
    assert len(notes) < 100
    assert '<progress value="1000" max="1000"' in notes[-1]


def test_what_work_returns_is_kept_beside_its_progress():
    def work():
        yield Looked(1, 1)
        return "found"

    kept = []
    assert [event.done for event in kept_in(kept, work())] == [1]
    assert kept == ["found"]


def test_agreement_says_what_chance_would_give():
    shown = agreement.agreement({"a": Overlap(100, 50, 50, 50), "b": Overlap(100, 0, 0, 0)}, "wanda", "random", "30%")
    assert "100.0 % is the choice of both" in shown
    assert "would share 14.3 %" in shown  # 50 and 50 of 200: 12.5 of 87.5
    assert shown.count('class="row"') == 1  # nothing goes of b
    assert "Neither" in agreement.agreement({"b": Overlap(100, 0, 0, 0)}, "wanda", "random", "0%")


def test_a_layer_shows_at_which_noise_it_matters():
    row = Layer("mid_block.a", "weight", 10, 3, None, (0.1, 0.2, 0.3), (0.5, 1.0), 0.3)
    shown = importance.importance([row])
    assert "By timestep, from little noise to much: 50%, 100%" in shown
    assert 'class="own-ratio"' in shown
    assert "Until the plan is made" not in shown
    assert "known to within 0.20 points" in importance.importance([row], unsure=0.002)
    assert "data-own" not in importance.importance([row], cut=False)  # N:M has no ratios of single layers
