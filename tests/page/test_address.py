"""Links: what is written comes back, what was not written by us is refused in a sentence or passed over."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import parse_qs, parse_qsl

import pytest
from conftest import Knobs
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from pruning.criteria import METHODS
from pruning.errors import Refused
from pruning.planning.request import pattern_ratio
from pruning.registry import knob, knobs
from pruning.spreads import SPREADS
from pruning.spreads.amount import OF
from pruning.types import Calibration, Recipe, Shot
from ui import links
from ui.links import MOST, PATTERNS, SEEDS, START, TABS, Address, query, read

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
GLOB = st.text(st.characters(codec="utf-8", exclude_characters=","), max_size=12).map(str.strip).filter(bool)
RATIO = st.one_of(st.integers(0, 99).map(lambda percent: percent / 100), st.floats(0, 1, exclude_max=True))

CALIBRATIONS = st.none() | st.builds(
    Calibration, st.lists(WORDS, max_size=2).map(tuple), st.integers(1, 64), st.lists(st.integers(0, 999)).map(tuple),
    st.floats(0, 10), st.integers(0, 99), st.sampled_from(("generated", "noise")))


def options(method):
    """One value for each knob of a method, as the registry checks them."""
    return st.tuples(*(st.tuples(st.just(f.name), st.sampled_from(f.metadata["choices"] or (f.default,)))
                       for f in knobs(METHODS[method])))


@st.composite
def addresses(draw):
    method, pattern = draw(st.sampled_from(sorted(METHODS))), draw(st.none() | st.sampled_from(PATTERNS))
    units = "nm" if pattern else draw(st.sampled_from(("weight", "width", "head", "neuron", "channel")))
    recipe = Recipe(
        draw(st.just("emoji-sd") | WORDS), draw(st.sampled_from(("unet", "vae.decoder", "text_encoder", ""))), method,
        draw(options(method)), units, pattern, pattern_ratio(pattern, None) if pattern else draw(RATIO),
        draw(st.sampled_from(tuple(OF))), draw(st.sampled_from(SPREADS.ordered()[:-1])),
        draw(st.just(START.recipe.protect) | st.lists(GLOB, max_size=3).map(tuple)),
        draw(st.lists(GLOB, max_size=3).map(tuple)), draw(st.lists(st.tuples(GLOB, RATIO), max_size=2).map(tuple)),
        draw(CALIBRATIONS), draw(st.integers(0, SEEDS)), draw(st.floats(0.05, 1)), draw(st.booleans()))
    shot = Shot(draw(WORDS), draw(WORDS), draw(st.integers(0, SEEDS)), draw(st.integers(1, MOST["steps"])),
                draw(st.floats(1, MOST["guidance"])), draw(st.sampled_from(("ddim", "dpm++", "euler", "unipc"))),
                draw(st.integers(1, MOST["images"])))
    return Address(recipe, shot, draw(st.sampled_from(TABS)), draw(WORDS), draw(st.booleans()))


def link(there):
    return query(there.recipe, there.shot, tab=there.tab, layer=there.layer, present=there.present)


def opened(text):
    return read(dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))))


@given(addresses())
def test_what_is_written_comes_back(there):
    told = link(there)
    assert opened(told) == there
    assert read(QueryParams(told)) == there  # as Gradio hands it on
    assert {key: len(found) for key, found in parse_qs(told, keep_blank_values=True).items() if len(found) > 1} == {}
    assert told.isascii()
    assert not set(told) & set("\"'<>`\\ \n#!$()")  # stays one word in a mail, a shell and an attribute


def test_the_first_paint_needs_no_words():
    assert link(START) == ""
    assert read({}) == START


def test_the_first_paint_is_the_pages_own():
    import gradio as gr

    from ui import device
    from ui.setup import request as setup
    from ui.setup import row
    from ui.widgets import places

    with gr.Blocks():
        asked, pair = setup.build(), row.build(places.build())
    source, request = asked.asked([part.value for part in asked.inputs])
    assert device.recipe(source, **request) == START.recipe
    assert row.shot([part.value for part in pair.inputs]) == START.shot
    assert row.MOST == MOST
    assert [row["value"] for row in setup.PATTERN_OPTIONS] == list(PATTERNS)


def test_a_link_is_short_and_in_one_order():
    recipe = Recipe("emoji-sd", "vae.decoder", "magnitude", (("norm", "l2"),), "nm", "2:4", 0.5, spread="global",
                    protect=(), only=("up_blocks.*", "mid*"), overrides=(("mid*", 0.25),), seed=3)
    shot = Shot("cat & dog", "blur", 8, 25, 3.5, "dpm++", 2)
    assert query(recipe, shot, tab="masks", layer="conv_in", present=True) == (
        "component=vae.decoder&units=nm&pattern=2:4&option.norm=l2&spread=global&protect=&only=up_blocks.*,mid*"
        "&overrides=mid*=0.25&prune-seed=3&prompt=cat+%26+dog&negative=blur&seed=8&steps=25&guidance=3.5"
        "&sampler=dpm%2B%2B&images=2&tab=masks&layer=conv_in&present=1")
    moved = replace(START.recipe, ratio=0.5, method="random", options=())
    assert query(moved, START.shot) == "method=random&ratio=0.5"
    assert query(replace(moved, model="a/b"), START.shot) == "model=a/b&method=random&ratio=0.5"


def test_the_two_seeds_do_not_mix():
    found = opened("seed=1&prune-seed=2")
    assert (found.shot.seed, found.recipe.seed) == (1, 2)


def test_a_pattern_says_the_units_and_the_ratio():
    recipe = opened("pattern=1:4").recipe
    assert (recipe.units, recipe.pattern, recipe.ratio) == ("nm", "1:4", 0.75)
    assert opened("units=nm&pattern=1:4&ratio=0.75").recipe == recipe


def test_strange_keys_are_passed_over():
    assert opened("utm_source=mail&fbclid=1&__theme=dark&Ratio=9&ratio=0.5").recipe.ratio == 0.5


@pytest.mark.parametrize(("told", "key", "remedy"), [
    ("ratio=abc", "ratio cannot be 'abc'", "such as 0.3"), ("ratio=nan", "ratio cannot be 'nan'", "such as 0.3"),
    ("ratio=", "ratio cannot be ''", "such as 0.3"), ("ratio=1", "ratio cannot be '1'", "up to but not including 1"),
    ("steps=9999", "steps cannot be '9999'", "a whole number from 1 to 50"),
    ("steps=3.5", "steps cannot be '3.5'", "a whole number"), ("images=5", "images cannot be '5'", "from 1 to 4"),
    ("guidance=inf", "guidance cannot be 'inf'", "from 1 to 10"), ("seed=-1", "seed cannot be '-1'", "from 0"),
    ("prune-seed=x", "prune-seed cannot be 'x'", "a whole number"),
    ("seed=" + "9" * 5000, "seed cannot be '9999", "from 0"),
    ("tab=admin", "tab cannot be 'admin'", "compare, importance, masks"),
    ("method=magic", "method cannot be 'magic'", "There are activation, diff-pruning, fisher, gauss-newton, lamp"),
    ("units=atoms", "units cannot be 'atoms'", "Choose one of weight"),
    ("units=nm", "units=nm needs a pattern", "Add pattern=2:4"),
    ("pattern=3:5", "pattern cannot be '3:5'", "Choose one of 2:4, 1:4, 4:8"),
    ("units=head&pattern=2:4", "both units=head and pattern=2:4", "goes with units=nm"),
    ("pattern=2:4&ratio=0.3", "2:4 removes 0.5, not 0.3", "Leave the ratio out"),
    ("sampler=pen", "sampler cannot be 'pen'", "Choose one of ddim"), ("spread=", "spread cannot be ''", "layer"),
    ("option.norm=l9", "option.norm cannot be 'l9'", "Choose one of l1, l2"),
    ("option.nrom=l1", "magnitude has no such option", "It has: option.norm"),
    ("method=random&option.norm=l1", "random has no such option", "It has: none"),
    ("overrides=0.3", "overrides cannot be '0.3'", "GLOB=RATIO"),
    ("overrides=a=2", "overrides cannot be 'a=2'", "GLOB=RATIO"),
    ("calibration=x", "calibration cannot be 'x'", '{"samples": 8}'),
    ('calibration={"source": "/etc"}', "calibration cannot be", '{"samples": 8}'),
    ('calibration={"folder": 1}', "calibration cannot be", '{"samples": 8}'),
    ("of=ms", "of cannot be 'ms'", "units, params, macs"), ("most=0", "most cannot be '0'", "from 0.05 to 1"),
    ("present=yes", "present cannot be 'yes'", "Choose 0 or 1")])
def test_what_cannot_be_is_refused_with_what_can(told, key, remedy):
    with pytest.raises(Refused) as caught:
        opened(told)
    assert key in caught.value.message
    assert remedy in caught.value.remedy
    assert len(str(caught.value)) < 200


@given(st.dictionaries(st.sampled_from([*links.KEYS, "option.norm"]), WORDS, max_size=4))
def test_whatever_a_link_says_it_is_read_or_refused(found):
    with suppress(Refused):
        there = read(found)
        assert opened(link(there)) == there


@dataclass(frozen=True)
class Powers(Knobs):
    """One with a fraction, too."""

    units: ClassVar = ("weight",)
    power: float = knob(0.5, "how much")


def test_options_of_every_kind_travel(monkeypatch):
    monkeypatch.setitem(METHODS, "some", Powers)
    usual = tuple((f.name, f.default) for f in knobs(Powers))
    assert query(replace(START.recipe, method="some", options=usual), START.shot) == "method=some"
    other = (("norm", "l2"), ("exact", False), ("names", "é=&"), ("buckets", 16), ("power", 1 / 3))
    there = replace(START, recipe=replace(START.recipe, method="some", options=other))
    assert opened(link(there)) == there
    assert opened("method=some&option.exact=false").recipe.options[1] == ("exact", False)
    for bad in ("buckets=17", "buckets=inf", "exact=maybe", "power=nan", "power=-inf"):
        with pytest.raises(Refused, match="cannot be"):
            opened(f"method=some&option.{bad}")


def test_half_a_character_in_the_name_of_a_layer_does_not_break_the_link():
    assert opened(query(START.recipe, START.shot, layer="a \ud83d b")).layer == "a ? b"
