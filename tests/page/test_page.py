"""The running page through its API: what one visitor gets, and that a second visitor does not change it."""

import gc
import json
import re
import shutil
import threading
import weakref
from dataclasses import replace

import gradio as gr
import pytest
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from gradio_client import Client
from hub_stub import HubStub

import app
import pruning
from pruning.cache import Cache
from pruning.criteria import METHODS
from pruning.errors import Refused
from pruning.recovery import Recovery, options
from pruning.registry import knobs
from pruning.types import Calibration, Plan, Shot
from ui import device, page
from ui.setup import looking, model, row, shell
from ui.setup import request as setup
from ui.state import History, Pair
from ui.tabs import importance, recover, report, speed
from ui.views import drawing, pairs, tuned
from ui.widgets import places

SHOT = {"prompt": "red heart on a blue background", "negative": "", "seed": 7, "steps": 3, "guidance": 3,
        "sampler": "ddim", "images": 1}
SETUP = {"component": "unet", "family": "weight", "inner": "width", "method": "magnitude", "pattern": "2:4",
         "ratio": 30, "spread": "layer", "protect": "conv_in, conv_out, *embed*", "only": "", "seed": 0, "of": "units",
         "most": 100, "update": False, "rounding": "nearest", "multiple": "1", "samples-from": "", "samples": 16,
         "prompts": "", "timesteps": "", "guidance-of": 0, "seed-of": 0,
         **{f"{name}.{knob.name}": knob.default for name, part in sorted(METHODS.items())
            for knob in knobs(part)}}


def asked(**changes):
    """The values that the page's own events get: what no visitor sends, states, among them."""
    read = SETUP | changes
    own = {"own": changes.get("own", ())}
    at = [*SETUP].index("samples-from")
    values = [*read.items()]
    return ["emoji-sd", *dict([*values[:at], *own.items(), *values[at:]]).values()]


SHOWN = ("stage", "cards", "verdict", "earlier", "stale", "panel", "problem")


def generate(client, shot=None, **changes):
    """What the page shows in the end, by place."""
    values = [True, *({**SHOT, **(shot or {})}).values(), *({**SETUP, **changes}).values()]
    return {name: value(shown) for name, shown in zip(SHOWN, client.predict(*values, api_name="/generate"),
                                                     strict=True)}


def pictures(stage):
    return re.findall(r'src="(data:image/png[^"]+)"', stage)


def value(shown):
    return shown.get("value") if isinstance(shown, dict) else shown


def test_a_visitor_draws_a_pair(url):
    seen = generate(Client(url, verbose=False))
    dense, pruned = pictures(seen["stage"])[:2]
    assert dense != pruned
    assert "Really pruned" in seen["stage"]
    assert "not measured yet" in seen["cards"]
    assert "Removing 30.0 % of the weights" in seen["verdict"]
    assert "SSIM" in seen["cards"]
    assert seen["problem"] == ""


def test_nothing_removed_is_said_and_gives_equal_pictures(url):
    seen = generate(Client(url, verbose=False), ratio=0)
    dense, pruned = pictures(seen["stage"])[:2]
    assert dense == pruned
    assert "Nothing removed" in seen["stage"]
    assert "Nothing" in seen["verdict"]


def test_width_really_shrinks(url):
    assert "parameters are gone" in generate(Client(url, verbose=False), family="width", ratio=50)["stage"]


@pytest.mark.parametrize("component", ["vae.decoder", "text_encoder"])
def test_the_other_components_draw_pairs_too(url, component):
    dense, pruned = pictures(generate(Client(url, verbose=False), component=component, ratio=60)["stage"])[:2]
    assert dense != pruned


def test_a_refusal_is_a_sentence_and_the_page_goes_on(url):
    client = Client(url, verbose=False)
    assert "single head" in generate(client, component="vae.decoder", family="width", inner="head")["problem"]
    assert "There are ddim" in generate(client, {"sampler": "nonsense"})["problem"]
    assert generate(client)["problem"] == ""


def test_two_visitors_at_once_get_what_a_lone_visitor_gets(url):
    asked = [({"seed": 3}, {"ratio": 50}), ({"seed": 4}, {"family": "width", "ratio": 25})]
    alone = [pictures(generate(Client(url, verbose=False), shot, **changes)["stage"])[:2] for shot, changes in asked]
    together: list = [None, None]

    def visit(i):
        seen = generate(Client(url, verbose=False), asked[i][0], **asked[i][1])
        together[i] = pictures(seen["stage"])[:2]

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(2)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert together == alone


def test_the_dense_pipeline_is_as_it_was_after_all_that(url):
    from pruning.network.fingerprint import fingerprint
    from pruning.network.subject import subject

    before = fingerprint(subject(device.pipeline("emoji-sd")).net)
    generate(Client(url, verbose=False), ratio=80)
    device_net = subject(device.pipeline("emoji-sd")).net
    assert fingerprint(device_net) == before
    import pruning

    assert fingerprint(subject(pruning.load("emoji-sd")).net) == before


def test_drawing_has_one_queue_for_everyone():
    by_name = {fn.api_name: fn for fn in app.demo.fns.values()}
    assert (by_name["generate"].concurrency_id, by_name["generate"].concurrency_limit) == ("model", 1)
    assert by_name["load"].concurrency_id != "model"


def test_two_drawings_in_turn_give_what_each_gives_alone():
    shots = (device.recipe("emoji-sd", ratio=0.5), Shot("pizza", steps=3, seed=1)), (
        device.recipe("emoji-sd", ratio=0.25, units="width"), Shot("rocket", steps=3, seed=2))
    alone = [list(drawing.pair(*shot))[-1] for shot in shots]
    both = [drawing.pair(*shot) for shot in shots]
    frames = list(zip(*both, strict=True))[-1]
    for one, other in zip(alone, frames, strict=True):
        assert (one.dense.pictures, one.pruned.pictures) == (other.dense.pictures, other.pruned.pictures)


def test_a_pair_knows_the_plan_that_drew_it():
    wanted, shot = device.recipe("emoji-sd", ratio=0.5), Shot("pizza", steps=1)
    *_, drawn = drawing.pair(wanted, shot)
    assert (drawn.recipe, drawn.shot) == (wanted, shot)
    assert places.shown(History((drawn,)))[-2].props["pair"] == wanted.digest
    assert len(drawn.quality["steps"]) == len(drawn.film) == 1


def test_the_first_paint_is_not_empty():
    config = app.demo.get_config_file()
    stage = next(c for c in config["components"] if c["props"].get("elem_id") == "stage")
    assert "Prepared" in stage["props"]["value"]
    assert stage["props"]["value"].count("data:image/png") >= 4


def test_what_a_component_cannot_lose_is_greyed_out_with_the_reason():
    reasons = device.obstacles("emoji-sd", "vae.decoder")
    assert reasons["weight"] is None
    assert "single head" in (reasons["head"] or "")
    rows = {row["value"]: row["off"] for row in setup.inner_options(reasons)}
    assert rows["channel"] == ""
    assert "single head" in rows["head"]


def test_bounded_caches_forget_the_oldest():
    kept = Cache("of a test", 100)
    for name in "abc":
        kept.get_or(name, lambda name=name: (name.upper(), 40))
    assert list(kept) == ["b", "c"]
    assert kept.get_or("b", lambda: ("never", 0)) == "B"
    kept.get_or("d", lambda: ("D", 1000))
    assert kept.look("b") is None
    assert list(kept) == ["d"]


def test_the_bundled_model_without_a_prompt_is_looked_at_pruned_and_drawn():
    *_, (source, problem) = model.load_model("emoji-ddpm", "emoji-sd")
    assert (source, problem) == ("emoji-ddpm", "")
    wanted = device.recipe(source, ratio=0.3, units="channel", method="diff-pruning", rounding="paper",
                           every=250, calibration=Calibration(samples=4))
    assert wanted.calibration.source == "bundled"
    *_, drawn = drawing.pair(wanted, Shot("", steps=2, seed=3))
    assert (drawn.quality["alignment"], drawn.quality["proxy"]) == (None, "")
    assert pairs.said(drawn).startswith("Removing")


@pytest.mark.parametrize(("named", "sentence"), [
    ("", "No model is named"), ("emoji-clip", "cannot draw"), ("no-such-thing", "owner/name"),
    ("/no/such/folder", "no folder"), ("emoji-flux", "not part of this version")])
def test_a_model_that_cannot_be_had_leaves_the_one_in_use(named, sentence):
    *_, (source, problem) = model.load_model(named, "emoji-sd")
    assert source == "emoji-sd"
    assert sentence in problem


def test_a_public_page_loads_listed_models_only(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "PUBLIC", True)
    *_, (source, problem) = model.load_model(str(tmp_path), "emoji-sd")
    assert source == "emoji-sd"
    assert "public page" in problem
    assert device.open_model("emoji-sd").source == "emoji-sd"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubStub() as stub:
        for name, value in stub.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield stub
    for source in [source for source in device.PIPES if source.startswith("some/")]:
        device.PIPES.drop(lambda key, source=source: key == source)
        device.forget(source)


def test_a_model_from_the_hub_is_loaded_pruned_and_drawn(hub, tiny_folder):
    hub.add("some/good", tiny_folder)
    *_, (source, problem) = model.load_model("some/good", "emoji-sd")
    assert (source, problem) == ("some/good", "")
    wanted = device.recipe(source, ratio=0.5, units="width")
    assert 0.3 < device.outlook(wanted).totals.units < 0.6
    *_, last = drawing.pair(wanted, Shot("a b", steps=2))
    assert last.quality["alignment"] is None  # nobody here can judge its pictures
    assert last.dense.fingerprint != last.pruned.fingerprint


@pytest.mark.parametrize(("fault", "sentence"), [
    ({"gated": "secret"}, "HF_TOKEN"), ({"announce": {"unet/diffusion_pytorch_model.safetensors": 90 << 30}}, "GB"),
    ({"cut": {"unet/diffusion_pytorch_model.safetensors": 1000}}, "again")])
def test_a_hub_refusal_leaves_the_model_in_use(hub, tiny_folder, fault, sentence):
    hub.add("some/bad", tiny_folder, **fault)
    *_, (source, problem) = model.load_model("some/bad", "emoji-sd")
    assert source == "emoji-sd"
    assert sentence in problem
    assert "some/bad" not in device.PIPES


@pytest.fixture
def parts():
    """A page of its own, not served: what its events do can be called."""
    return page.build()


PREPARED = History((pairs.prepared(),))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_running_out_of_memory_is_a_sentence(monkeypatch, parts, error):
    def full(*_):
        raise error
        yield

    monkeypatch.setattr(drawing, "pair", full)
    frames = list(parts.compare.generated(PREPARED, True, *SHOT.values(), *asked()))
    assert "not enough memory" in frames[-1][-3]
    assert frames[-1][0] == pairs.stage(PREPARED.shown)
    assert frames[-1][-1] is False


def test_four_images_a_side(url):
    stage = generate(Client(url, verbose=False), {"images": 4, "steps": 2})["stage"]
    assert len(set(pictures(stage))) >= 8
    assert "picture 4 of 4" in stage


def lock_is_free():
    """Whether another visitor gets the lock; a lock knows its thread."""
    got = []

    def visit():
        got.append(device.LOCK.acquire(timeout=5))
        if got[0]:
            device.LOCK.release()

    visitor = threading.Thread(target=visit)
    visitor.start()
    visitor.join()
    return got[0]


def test_a_pipeline_that_cannot_be_drawn_is_refused_with_a_sentence(tmp_path):
    net = UNet2DModel(sample_size=16, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    DDIMPipeline(net, DDIMScheduler()).save_pretrained(tmp_path / "ddpm")
    wanted = device.recipe(str(tmp_path / "ddpm"), ratio=0.5)
    with pytest.raises(Refused, match="DDIMPipeline"):
        list(drawing.pair(wanted, Shot("", steps=1)))


def test_a_fault_of_ours_brings_the_last_pair_back_and_is_shown(monkeypatch, parts):
    monkeypatch.setattr(drawing, "pair", lambda *_: {}["no such part"])
    frames = parts.compare.generated(PREPARED, True, *SHOT.values(), *asked())
    assert next(frames)[-1] is True
    last = next(frames)
    assert (last[0], last[-1]) == (pairs.stage(PREPARED.shown), False)
    with pytest.raises(KeyError):
        next(frames)


def test_only_a_stopped_drawing_is_called_stopped(parts):
    *shown, _, note, drawing = parts.compare.ended(PREPARED, True)
    assert (shown[0], "Stopped" in note, drawing) == (pairs.stage(PREPARED.shown), True, False)
    assert "Stopped" not in str(parts.compare.ended(PREPARED, False))


def test_undo_goes_back_one_request_and_keeps_prompt_and_pair(parts):
    first, second = (device.recipe("emoji-sd", ratio=ratio) for ratio in (0.3, 0.6))
    *values, trail = parts.shell.undone((first, second))
    assert trail == (first,)
    at = parts.shell.parts.index(parts.shell.asked.ratio)
    assert values[at] == 30
    assert values[parts.shell.parts.index(parts.shell.row.prompt)] == gr.skip()
    *_, trail = parts.shell.undone((first, None))  # what could not be asked is undone, too
    assert trail == (first,)
    *values, trail = parts.shell.undone((first,))
    assert all(value == gr.skip() for value in values)


def test_a_change_of_the_ratio_alone_sends_no_new_table(parts):
    trail, sent = (), None
    for ratio, table in ((30, True), (40, False)):
        values = parts.board.refreshed(trail, sent, "", *asked(ratio=ratio))
        trail, sent = values[-5:-3]
        assert ("table" in values[0].props) is table
    assert [recipe.ratio for recipe in trail] == [0.3, 0.4]
    assert values[-3].interactive is True


def test_a_request_that_cannot_be_leaves_no_figures_and_one_step_to_undo(parts):
    known = device.recipe("emoji-sd", ratio=0.3)
    values = parts.board.refreshed((known,), None, "", *asked(ratio=None))
    assert values[0] == ""
    assert "The ratio is missing" in values[1]
    assert values[-5] == (known, None)
    again = parts.board.refreshed((known, None), None, "", *asked(ratio=None))
    assert again[-5] == (known, None)


def test_an_earlier_pair_comes_back_with_the_setup_that_made_it(parts):
    old = PREPARED.shown
    *_, new = drawing.pair(device.recipe("emoji-sd", ratio=0.5, units="width"), Shot("pizza", steps=1, seed=3))
    both = PREPARED.added(new)
    assert both.shown == new
    event = gr.EventData(None, {"said": "1"})
    *values, history = parts.compare.back(both, event)
    assert history.shown is old
    named = dict(zip(parts.shell.parts, values, strict=False))
    assert named[parts.shell.asked.family] == "weight"
    assert named[parts.shell.row.prompt] == old.shot.prompts[0]
    assert pairs.stage(old) in values


class Link:
    """What Gradio hands on of an address."""

    def __init__(self, **given):
        self.query_params = given


def test_a_link_restores_setup_prompt_tab_and_layer(parts):
    *values, tabs, tab, layer, problem = parts.shell.from_link(Link(
        units="nm", pattern="1:4", prompt="pizza on a teal background", steps="5", tab="masks", layer="conv",
        __theme="dark"))
    named = dict(zip(parts.shell.parts, values, strict=True))
    assert (named[parts.shell.asked.family], named[parts.shell.asked.pattern]) == ("nm", "1:4")
    assert (named[parts.shell.row.prompt], named[parts.shell.row.steps]) == ("pizza on a teal background", 5)
    assert (tab, layer, problem) == ("masks", "conv", "")


def test_an_address_without_anything_of_ours_changes_nothing(parts):
    assert all(value == gr.skip() for value in parts.shell.from_link(Link(__theme="dark")))


def test_a_link_that_cannot_be_is_one_sentence(parts):
    *_, problem = parts.shell.from_link(Link(ratio="abc"))
    assert "abc" in problem


def test_a_link_to_another_model_waits_for_load(parts):
    *values, _, _, _, problem = parts.shell.from_link(Link(model="some/where", ratio="0.5"))
    named = dict(zip(parts.shell.parts, values, strict=True))
    assert named[parts.shell.asked.source] == "emoji-sd"
    assert named[parts.shell.asked.named] == "some/where"
    assert "Press Load" in problem


def test_measuring_changes_the_verdict_and_the_history(parts):
    *_, drawn = drawing.pair(device.recipe("emoji-sd", ratio=0.5, units="width"), Shot("pizza", steps=2))
    history = PREPARED.added(drawn)
    frames = list(speed.measured(history, 6))
    assert "run 0 of 14." in frames[0][0]
    assert "run 14 of 14" in frames[-2][0]
    gone_back = history.showing(1)  # somebody looked at another pair meanwhile
    shown = speed.timed(gone_back, frames[-1][-1], "")
    changed = shown[len(parts.shell.places.all)]
    assert changed.shown is PREPARED.shown
    assert changed.pairs[0].measured["repeats"] == 6
    assert changed.pairs[0].measured["state"] != "too few"
    assert changed.pairs[0].measured["steps"] == 2
    verdict = speed.timed(history, frames[-1][-1], "")[parts.shell.places.all.index(parts.shell.places.verdict)]
    assert "not measured yet" not in verdict


@pytest.mark.parametrize("repeats", [None, 1, 5, 100])
def test_a_measurement_is_bounded_and_its_refusal_stays(parts, repeats):
    ((note, _, found),) = speed.measured(PREPARED, repeats)
    assert "They go from 6 to 20; fewer cannot tell a difference from chance." in note
    assert found is None
    assert speed.timed(PREPARED, None, note)[-1] == note
    assert "Stopped" in speed.timed(PREPARED, None, "")[-1]


def test_a_measurement_that_is_closed_leaves_the_lock_free():
    frames = speed.measured(PREPARED, 6)
    next(frames)
    next(frames)
    frames.close()
    assert lock_is_free()


def test_a_pipeline_that_is_dropped_takes_its_scores_along(tmp_path, tiny_folder, monkeypatch):
    for name in "ab":
        shutil.copytree(tiny_folder, tmp_path / name)
    monkeypatch.setattr(device.PIPES, "limit", 1)
    device.outlook(device.recipe(str(tmp_path / "a"), ratio=0.5))
    first = weakref.ref(device.pipeline(str(tmp_path / "a")).unet)
    device.outlook(device.recipe(str(tmp_path / "b"), ratio=0.5))
    gc.collect()
    assert first() is None
    assert str(tmp_path / "a") not in {key.model for key in (*device.SCORES, *device.PLANS)}


def test_a_seed_counts_for_methods_that_draw():
    one, other = (app_setup().asked(asked(seed=5, method=method))[1]["seed"] for method in ("magnitude", "random"))
    assert (one, other) == (0, 5)


def app_setup():
    """The setup's components, on a page of their own."""
    with gr.Blocks():
        return setup.build()


def test_an_empty_ratio_is_a_sentence(url):
    assert "The ratio is missing" in generate(Client(url, verbose=False), ratio=None)["problem"]
    assert "It runs from 1 to 50" in generate(Client(url, verbose=False), {"steps": 51})["problem"]


def test_closing_a_drawing_halfway_leaves_the_engine_as_it_was():
    wanted = device.recipe("emoji-sd", ratio=0.4)
    events = drawing.pair(wanted, Shot("red heart", steps=5))
    next(events)
    assert lock_is_free()  # never held across a wait
    events.close()
    assert lock_is_free()
    *_, last = drawing.pair(wanted, Shot("red heart", steps=2))
    assert isinstance(last, Pair)


# Methods that look at data, ratios of single layers, and whether methods agree.


@pytest.fixture
def small(tiny_folder, tmp_path):
    """A tiny model in the page's cache, under the path of its folder."""
    source = str(shutil.copytree(tiny_folder, tmp_path / "small"))
    yield source
    device.PIPES.drop(lambda key: key == source)
    device.forget(source)


def on(source, **changes):
    return [source, *asked(**changes)[1:]]


LOOKS = {"method": "wanda", "samples": 2, "samples-from": "generated"}


def test_a_method_that_sees_data_says_how_far_it_is_and_then_shows_when_layers_matter(parts, small):
    values = parts.board.refreshed((), None, "", *on(small, **LOOKS))
    wanted = values[-2]
    assert (wanted.method, wanted.ratio) == ("wanda", 0.0)
    assert values[0] == ""  # no figures of another request
    notes = [frame[0] for frame in looking.Looking(parts.shell.asked).looking(wanted, *on(small, **LOOKS))]
    assert notes[-1] == ""
    assert any("<progress" in note for note in notes)
    values = parts.board.refreshed((), None, "", *on(small, **LOOKS))
    assert values[-2] is None
    assert 'class="steps"' in values[3]
    assert "By timestep, from little noise to much: " in values[3]
    again = parts.board.refreshed((), None, "", *on(small, **LOOKS, ratio=60))
    assert again[-2] is None  # other ratios need no other look


def test_looking_that_is_stopped_leaves_nothing_and_can_be_begun_again(parts, small):
    wanted = parts.board.refreshed((), None, "", *on(small, **LOOKS))[-2]
    frames = looking.Looking(parts.shell.asked).looking(wanted, *on(small, **LOOKS))
    note = next(frames)[0]
    frames.close()
    assert lock_is_free()
    assert not device.quick(device.recipe(small, method="wanda", ratio=0.3))
    said, halt, again = looking.looked_at(note)
    assert "Stopped" in said
    assert (halt.visible, again.visible) == (False, True)


def test_what_cannot_be_looked_at_is_greyed_out_and_refused(parts, small):
    reasons = device.obstacles(small, "text_encoder")
    assert "no denoiser" in reasons["gradients"]
    rows = {row["value"]: row["off"] for row in setup.method_options("weight", reasons)}
    assert rows["taylor"] == reasons["gradients"]
    assert rows["wanda"] == rows["magnitude"] == ""
    problem = parts.board.refreshed((), None, "", *on(small, method="taylor", component="text_encoder"))[1]
    assert "no denoiser" in problem
    problem = parts.board.refreshed((), None, "", *on(small, method="wanda", timesteps="soon"))[1]
    assert "A timestep of a calibration cannot be" in problem


def test_every_part_of_a_recipe_comes_back_from_the_setup(small):
    made = app_setup()
    wanted = device.recipe(small, method="wanda", ratio=0.45, of="macs", spread="isomorphic", most=0.8, update=True,
                           overrides={"mid_block.*": 0.1}, buckets=2, over="max", only=("mid*", "up*"),
                           calibration=Calibration(("a cat",), 3, (5, 70), 2.0, 4, "generated"))
    here = [value if not isinstance(value, dict) else part.value
            for value, part in zip(setup.restored(made, wanted), made.inputs, strict=True)]
    source, request = made.asked(here)
    assert device.recipe(source, **request) == wanted


def test_samples_come_from_where_the_model_has_some(small):
    looks = Calibration(samples=2, source="")
    assert device.recipe(small, method="wanda", ratio=0.5, calibration=looks).calibration.source == "generated"
    assert device.recipe("emoji-sd", method="wanda", ratio=0.5, calibration=looks).calibration.source == "bundled"
    own = Calibration(("a cat",), 2, source="")
    assert device.recipe("emoji-sd", method="wanda", ratio=0.5, calibration=own).calibration.source == "generated"


def edited(globs, ratio):
    return gr.EventData(None, {"globs": globs, "ratio": ratio})


def test_ratios_of_single_layers_are_set_and_taken_back():
    own = importance.overridden((), edited(["up.0.a", "up.0.b", "mid"], 0.4))
    assert own == (("mid", 0.4), ("up.0.a", 0.4), ("up.0.b", 0.4))
    own = importance.overridden(own, edited(["up.0.a"], 0.7))
    assert dict(own)["up.0.a"] == 0.7
    assert importance.overridden(own, edited(["up.0.*"], None)) == (("mid", 0.4),)
    assert importance.overridden(own, edited(["*"], None)) == ()


def test_a_layer_with_a_ratio_of_its_own_says_so(parts, small):
    own = (("mid_block.resnets.0.conv1", 0.75),)
    values = parts.board.refreshed((), None, "", *on(small, own=own))
    assert values[3].count("own-ratio") == 1
    assert "Clear all 1" in values[3]
    shares = dict(re.findall(r'data-site="([^"]+)"[^>]*data-share="([\d.]+)"', values[3]))
    assert float(shares["mid_block.resnets.0.conv1"]) == pytest.approx(0.75, abs=0.01)


def test_suggested_ratios_meet_the_request_and_stay_editable(parts, small):
    looks = {"samples": 2, "samples-from": "generated"}
    *_, (note, _, spread, trouble) = parts.importance.suggesting(*on(small, **looks))
    assert (note, spread, trouble) == ("", "sensitivity", "")
    for ratio in (0.3, 0.6):  # other ratios follow without another look
        own = {"mid_block.resnets.0.conv1": 0.75}
        recipe = device.recipe(small, ratio=ratio, overrides=own, spread=spread, protect=SETUP["protect"].split(", "),
                               calibration=Calibration(samples=2, source="generated"))
        assert device.quick(recipe)
        seen = device.outlook(recipe)
        free = [row for row in seen.layers if row.own is None and row.reason not in ("protected",)]
        assert sum(row.gone for row in free) / sum(row.units for row in free) == pytest.approx(ratio, abs=0.005)
        assert len({round(row.gone / row.units, 2) for row in free}) > 3
        assert [row.gone / row.units for row in seen.layers if row.own] == [pytest.approx(0.75, abs=0.01)]
        assert device.plan(recipe).recipe == device.settled(recipe)
    again = list(parts.importance.suggesting(*on(small, **looks, ratio=60)))
    assert len(again) == 1  # nothing is tried again, whoever asks
    assert device.outlook(recipe) == seen
    *_, (_, _, _, trouble) = parts.importance.suggesting(*on(small, family="nm"))
    assert "same share everywhere" in trouble


@pytest.mark.parametrize("changes", [{}, {"family": "width"}, {"family": "nm"}])
def test_whether_methods_agree_is_said_layer_by_layer(parts, small, changes):
    *_, (note, _, shown) = parts.importance.agreeing("random", *on(small, **changes))
    assert note == ""
    assert "random choices of these sizes would share" in shown
    assert shown.count('class="row"') > 10
    *_, (note, _, shown) = parts.importance.agreeing("magnitude", *on(small, **changes))
    assert "magnitude agrees with itself. Choose another method" in shown
    *_, (_, _, shown) = parts.importance.agreeing("random", *on(small, ratio=None))
    assert "The ratio is missing" in shown


def test_an_architecture_is_opened_and_scored():
    source = "ddpm-cifar10"
    *_, (opened, problem) = model.load_model(source, "emoji-sd")
    assert (opened, problem) == (source, "")
    assert device.open_model(source).components == (("unet", "U-Net"),)
    assert device.outlook(device.recipe(source, ratio=0.5)).totals.units == pytest.approx(0.5, abs=1e-3)
    device.PIPES.drop(lambda key: key == source)
    device.forget(source)


@pytest.mark.parametrize(("looks", "words"), [
    (Calibration(source="/etc"), "its own samples"), (Calibration(samples=65, source=""), "It takes 64 at most")])
def test_a_public_page_looks_at_no_folder_and_not_for_long(monkeypatch, looks, words):
    monkeypatch.setattr(device, "PUBLIC", True)
    with pytest.raises(Refused, match=words):
        device.recipe("emoji-sd", method="wanda", ratio=0.5, calibration=looks)


@pytest.mark.parametrize("order", [(0.3, 0.6), (0.6, 0.3)])
def test_a_recipe_means_the_same_whoever_asked_before_and_on_the_page_as_in_python(small, order):
    looks = Calibration(samples=2, source="generated")
    asked = {"spread": "sensitivity", "calibration": looks, "only": ("mid_block*",),
             "overrides": {"mid_block.resnets.0.conv1": 0.75}}
    own = {ratio: pruning.plan(pruning.load(small), ratio=ratio, **asked) for ratio in order}
    for ratio in order:  # the first visitor tries the layers, with a limit of its own; the second finds them tried
        first = device.recipe(small, ratio=ratio, **asked | {"overrides": {}}, most=0.9)
        list(device.looking(first))
        device.plan(first)
        wanted = device.recipe(small, ratio=ratio, **asked)
        assert device.plan(wanted).digest == replace_source(own[ratio], small).digest


def replace_source(plan, source):
    """The plan as it reads where the pipeline is called by a name."""
    return Plan(tuple(replace(step, recipe=replace(step.recipe, model=source)) for step in plan.steps))


def test_what_is_known_does_not_wait_for_what_somebody_else_computes():
    wanted, found = device.recipe("emoji-sd", ratio=0.3), []
    device.plan(wanted)
    with device.LOCK:  # as long work of another visitor holds it
        other = threading.Thread(target=lambda: found.extend(
            [device.plan(wanted), device.outlook(replace(wanted, ratio=0.6))]), daemon=True)
        other.start()
        other.join(30)
        assert len(found) == 2
    assert found[1].totals.units == pytest.approx(0.6, abs=0.001)


def test_a_link_leaves_out_more_ratios_of_layers_than_it_can_hold(parts, monkeypatch):
    """All else stays in it."""
    own = (("mid_block.resnets.0.conv1", 0.5), ("mid_block.resnets.0.conv2", 0.7))
    ask = ("importance", "", *SHOT.values(), *on("emoji-sd", own=own, ratio=40))
    whole = parts.shell.query(*ask)
    monkeypatch.setattr(shell, "LINKED", 1)
    shorter = parts.shell.query(*ask)
    assert all(name in whole and name not in shorter for name, _ in own)
    assert "ratio=0.4" in shorter
    assert "tab=importance" in shorter


@pytest.mark.parametrize(("component", "inner", "site", "words"), [
    ("unet", "channel", "down_blocks.0.resnets.0.conv2#stream", "35 tensors in 23 layers lose the same 16 of 64"),
    ("unet", "head", "mid_block.attentions.0.transformer_blocks.0.attn1#heads", "4 tensors in 4 layers lose the same"),
    ("unet", "neuron", "mid_block.attentions.0.transformer_blocks.0.ff#neurons", "3 tensors in 2 layers lose the same"),
    ("unet", "channel", "time_embedding.linear_2#stream", "24 tensors in 23 layers share the same 256 channels"),
    ("vae.decoder", "channel", "mid_block.resnets.0.conv2#stream", "30 tensors in 19 layers lose the same 32 of 96"),
    ("text_encoder", "head", "encoder.layers.0.self_attn#heads", "7 tensors in 4 layers lose the same")])
def test_a_larger_unit_is_shown_with_all_that_goes_with_it(parts, component, inner, site, words):
    shown, histogram = parts.masks.looked(site, None, *asked(component=component, family="width", inner=inner))
    assert "What goes together" in shown
    assert words in shown
    assert 'class="cell lit' in shown
    assert histogram.visible is False


def test_single_weights_go_alone(parts):
    shown, _ = parts.masks.looked("down_blocks.0.resnets.0.conv2", None, *asked())
    assert "What goes together" not in shown


# Recovery.


TRAIN = (10, 2, 1e-3, False)  # steps, batch, rate, bfloat16


@pytest.fixture
def trained(parts, small, monkeypatch):
    """What a training of some steps showed, frame by frame, and the values that the page asked with."""
    monkeypatch.setattr(recover, "EVERY", 0)
    monkeypatch.setattr(options, "DRAWN", 4)
    width = on(small, family="width", inner="channel", ratio=50)

    def go(history=PREPARED, steps=10, until="never"):
        shot = {**SHOT, "prompt": "a", "steps": 2}
        work, seen = parts.recover.recovered(history, steps, *TRAIN[1:], *shot.values(), *width), []
        for frame in work:
            seen.append(frame)
            if until in str(frame[0]):
                break
        work.close()
        return seen
    return go, width


def test_a_training_shows_its_curve_and_pictures_before_and_after(trained, parts):
    go, width = trained
    frames = go()
    note, _, _, use, history, busy = frames[-1]
    curve, pictures = frames[-2][1:3]
    assert (note, busy, use.value, use.visible) == ("", False, True, True)
    assert curve.count("<circle") == 10
    assert curve.count('class="held"') == 3  # before, after, and in the legend
    assert pictures.count("<img") == 3
    assert "Fine-tuned for 10 steps" in pictures
    after, before, first = history.pairs
    assert first == PREPARED.shown
    assert (before.recovery, after.recovery.steps) == (None, 10)
    assert before.pruned.params == after.pruned.params
    assert before.pruned.fingerprint != after.pruned.fingerprint
    assert before.dense.pictures == after.dense.pictures
    assert any("Training" in frame[0] and "<progress" in frame[0] for frame in frames if isinstance(frame[0], str))
    off, note, *_ = parts.recover.rested(history, False, *TRAIN, *width)[len(parts.shell.places.all):]
    assert off.interactive is False


def test_what_was_drawn_before_is_not_drawn_again(trained):
    go, _ = trained
    history = go()[-1][4]
    again = go(history, steps=20)
    assert len(again[-1][4].pairs) == len(history.pairs) + 1
    assert again[-2][1].count("<circle") == 20  # the first ten steps had been taken


def test_fewer_steps_than_were_taken_begin_anew(trained):
    go, _ = trained
    whole = go(steps=20)
    fewer = go(whole[-1][4], steps=10)
    assert fewer[-2][1].count("<circle") == 10
    assert fewer[-1][4].pairs[0].recovery.steps == 10
    assert fewer[-1][4].pairs[0].pruned.fingerprint != whole[-1][4].pairs[0].pruned.fingerprint


def test_a_stopped_training_goes_on(trained, parts):
    go, width = trained
    assert "Training" in go(until="Training, ")[-1][0]
    recipe = device.recipe(width[0], **parts.shell.asked.asked(width)[1])
    state = tuned.reached(recipe, Recovery(10, *TRAIN[1:3]))
    reached = state.step
    assert 0 < reached < 10
    values = parts.recover.rested(PREPARED, True, *TRAIN, *width)
    assert f"Stopped after {reached} steps" in values[-2]
    frames = go()
    assert state.step == 10
    assert frames[-1][4].trained(recipe) == Recovery(10, *TRAIN[1:3])
    assert PREPARED.trained(recipe) is None
    emptied = (None, *TRAIN[1:])  # the number of steps, meanwhile
    changed = parts.recover.rested(PREPARED, True, *emptied, *width)
    assert "Stopped." in changed[-2]


def test_one_draws_with_the_fine_tuned_weights_or_without(trained, parts):
    go, width = trained
    shots = ({**SHOT, "prompt": "b", "steps": 2}).values()
    history = go()[-1][4]
    drawn = {use: list(parts.compare.generated(history, use, *shots, *width))[-1][-2].shown for use in (True, False)}
    stranger = list(parts.compare.generated(PREPARED, True, *shots, *width))[-1][-2].shown
    assert stranger.recovery is None  # who has trained nothing does not get what somebody else has trained
    made = history.pairs[0]
    assert drawn[True].pruned.fingerprint == made.pruned.fingerprint
    assert (drawn[True].recovery, drawn[False].recovery) == (made.recovery, None)
    assert "fine-tuned 10 steps" in pairs.brief(drawn[True].recipe, drawn[True].recovery)


def test_a_fine_tuned_model_that_is_gone_is_asked_for_again(trained):
    go, _ = trained
    tuned = go()[-1][4].pairs[0]
    device.TRAINED.drop(lambda key: True)
    with pytest.raises(Refused, match="not kept any more"):
        list(drawing.measured(tuned, 6))


@pytest.mark.parametrize(("values", "words"), [
    ((None, 2, 1e-3, False), "steps is empty"), ((10, 0, 1e-3, False), "batch cannot be 0"),
    ((10, 2, -1.0, False), "rate cannot be -1"), ((4000, 2, 1e-3, False), "It runs up to 2000")])
def test_trainings_that_cannot_be(parts, small, values, words):
    frames = list(parts.recover.recovered(PREPARED, *values, *SHOT.values(), *on(small)))
    assert words in frames[-1][0]
    assert frames[-1][-1] is False


def test_a_public_page_trains_for_a_while_only(monkeypatch, small):
    monkeypatch.setattr(device, "PUBLIC", True)
    with pytest.raises(Refused, match="200 steps of 16 samples at most"):
        next(tuned.training(device.recipe("emoji-sd", ratio=0.5), Recovery(steps=201)))


def test_a_pair_says_how_its_model_was_trained(trained):
    go, _ = trained
    pair = go()[-1][4].pairs[0]
    assert Pair.from_dict(json.loads(json.dumps(pair.to_dict()))).recovery == pair.recovery
    made = report.texts(pair)
    assert "pruning.recover(smaller, pipe, steps=10, batch=2, rate=0.001)" in made
    assert "python -m pruning recover" in made


# A method's own ways.


def test_another_method_brings_its_ways_where_nobody_chose_others():
    usual = "conv_in, conv_out, proj_out, *embed*, *label_emb*"
    spread, protect, rounding = setup.ways("diff-pruning", "layer", usual, "nearest")
    assert (spread, protect, rounding) == ("layer", "conv_out", "paper")
    assert setup.ways("magnitude", "layer", "conv_out", "paper") == ("layer", usual, "nearest")
    kept = setup.ways("diff-pruning", "global", "mid_block*", "newer")
    assert kept == (gr.skip(), gr.skip(), gr.skip())


def test_a_model_without_prompts_has_no_row_for_one(tmp_path):
    net = UNet2DModel(sample_size=16, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    shown = model.opened(str(tmp_path / "ddpm"), "unet")
    assert [part.visible for part in shown[3:-1]] == [False] * 4
    assert shown[-1] is False
    assert row.help_with("zebra", "emoji-sd", False) == ""
    wanted = device.recipe(str(tmp_path / "ddpm"), ratio=0.5)
    *_, pair = drawing.pair(wanted, Shot("a cat", "a dog", steps=2))
    assert (pair.shot.prompts, pair.shot.negative) == (("",), "")
    assert pair.quality["alignment"] is None
    *_, clocked = drawing.measured(pair, 5)
    assert set(clocked.measured["parts"]) == {"step", "denoiser", "picture"}
    assert model.opened("emoji-sd", "unet")[3].visible is True


def test_widths_in_multiples_say_what_they_cost(parts):
    wanted = device.recipe("emoji-sd", units="channel", ratio=0.3, multiple=32)
    (_, note) = device.outlook(wanted).notes
    assert note.startswith("Widths in multiples of 32: ")
    free = device.outlook(replace(wanted, multiple=1))
    assert f"{free.totals.macs:.1%} would".replace("%", " %") in note
    assert len(free.notes) == 1
