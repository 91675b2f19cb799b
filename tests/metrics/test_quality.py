"""How far pruned pictures are from dense ones: distances by hand, and what the bundled emoji-clip reads in them."""

import base64
import io
import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pruning
from assets.make import glyphs
from pruning.drawing.images import Drawn, Origin, Stepped, draw_pair
from pruning.metrics.judge import CANDIDATES, COLOURS, Judge, judge_for, place
from pruning.metrics.latents import Divergence, apart
from pruning.metrics.pictures import likeness
from pruning.metrics.quality import compared

ROOT = Path(__file__).parents[2]
ORIGIN = Origin("0" * 16, 1, 0)
HEART = "red heart on a blue background"
FLAT = 6.5025 / 106.5025  # SSIM of flat 0 and flat 10: c1 / (10 ** 2 + c1), where c1 is (0.01 * 255) ** 2


def flat(value, side=16):
    return Image.new("RGB", (side, side), (value,) * 3)


def drawn(*pictures, latents=None, side="dense"):
    return Drawn(side, pictures, (1.0,), ORIGIN, torch.ones(len(pictures), 1, 2, 2) if latents is None else latents)


def stepped(side, index, *values):
    """A step with one flat latent for each value."""
    return Stepped(side, index, 3, 1.0, torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2).clone())


@pytest.fixture(scope="module")
def heart():
    """The dense picture of the page's first pair, drawn by ``emoji-sd``."""
    kept = json.loads((ROOT / "assets" / "prepared" / "pair.json").read_text(encoding="utf-8"))
    assert kept["shot"]["prompts"] == [HEART]
    return Image.open(io.BytesIO(base64.b64decode(kept["dense"]["pictures"][0].partition(",")[2])))


@pytest.fixture(scope="module")
def judge():
    return judge_for("emoji-sd")


def test_likeness_by_hand():
    psnr, ssim = likeness([flat(0)], [flat(10)])
    assert psnr == pytest.approx(28.1308, abs=1e-4)  # 20 log10(255 / 10)
    assert ssim == pytest.approx(FLAT, rel=1e-4)


def test_equal_pictures_have_no_psnr():
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    bright = Image.new("RGB", noisy.size, (250, 140, 30))
    assert likeness([noisy, bright], [noisy, bright]) == (None, 1)


def test_equal_pictures_do_not_make_the_mean_infinite():
    psnr, ssim = likeness([flat(0), flat(3)], [flat(10), flat(3)])
    assert psnr == pytest.approx(28.1308, abs=1e-4)
    assert ssim == pytest.approx((FLAT + 1) / 2, rel=1e-4)


@pytest.mark.parametrize("side", [1, 4, 10])
def test_pictures_below_the_window_of_ssim(side):
    assert likeness([flat(0, side)], [flat(10, side)])[1] == pytest.approx(FLAT, rel=1e-4)
    assert likeness([flat(9, side)], [flat(9, side)]) == (None, 1)


def gaussian():
    """SSIM's window as published: 11 x 11, a standard deviation of 1.5, summing to one."""
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    return (line[:, None] * line / line.sum() ** 2).flatten()


def ssim_as_published(one, other):
    """Wang et al. 2004, equation 13: the mean over all windows that lie whole inside of the picture, by channel."""
    window, found = gaussian(), []
    for a, b in zip(*(torch.tensor(np.array(image)).double().movedim(-1, 0) for image in (one, other)), strict=True):
        x, y = (channel.unfold(0, 11, 1).unfold(1, 11, 1).flatten(2) for channel in (a, b))
        mean_x, mean_y = x @ window, y @ window
        var_x, var_y = (x * x) @ window - mean_x**2, (y * y) @ window - mean_y**2
        both = (x * y) @ window - mean_x * mean_y
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        found.append((2 * mean_x * mean_y + c1) * (2 * both + c2)
                     / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("side", [11, 32, 57])
def test_ssim_is_the_published_one(side):
    """At 32 px more than half of all windows reach past the border; a mirrored picture there is not the picture."""
    rng = np.random.default_rng(side)
    one = rng.integers(0, 256, (side, side, 3), np.uint8)
    one[: side // 2] = 128
    other = np.clip(one.astype(int) + rng.integers(-60, 60, one.shape), 0, 255).astype(np.uint8)
    pair = [Image.fromarray(picture) for picture in (one, other)]
    assert likeness(pair[:1], pair[1:])[1] == pytest.approx(ssim_as_published(*pair), abs=1e-4)


def test_the_distance_of_latents_is_relative_and_a_mean_over_pictures():
    dense = torch.tensor([3.0, 4.0, 1.0, 0.0]).view(2, 1, 1, 2)
    pruned = torch.tensor([3.0, 6.0, 1.0, 1.0]).view(2, 1, 1, 2)
    assert apart(dense, pruned) == pytest.approx((2 / 5 + 1) / 2)
    assert apart(pruned, dense) != apart(dense, pruned)
    assert apart(dense.half(), dense.half()) == 0


def test_divergence_whichever_side_goes_first():
    divergence = Divergence()
    for event in (stepped("dense", 0, 2.0, 1.0), stepped("pruned", 0, 3.0, 1.0),
                  stepped("pruned", 1, 0.0, 0.0), stepped("dense", 1, 2.0, 4.0),
                  stepped("dense", 2, 4.0, 4.0), stepped("pruned", 2, 4.0, 5.0)):
        divergence.add(event)
    assert divergence.steps == [0.25, 1.0, 0.125]


def test_divergence_keeps_no_latents():
    divergence = Divergence()
    events = [stepped("dense", 0, 1.0), stepped("pruned", 0, 1.0)]
    left = [weakref.ref(event.latents) for event in events]
    while events:
        divergence.add(events.pop())
    assert [ref() for ref in left] == [None, None]


def test_divergence_of_a_pair(tiny):
    smaller = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))
    for pipe in (smaller, tiny):
        divergence = Divergence()
        events = list(divergence.watching(draw_pair(tiny, pipe, pruning.Shot(("a b", "b"), steps=3, images=2))))
        assert [type(event) for event in events] == [Stepped] * 6 + [Drawn] * 2
        finished = {event.side: event for event in events[6:]}
        assert len(divergence.steps) == 3
        assert divergence.steps[-1] == apart(finished["dense"].latents, finished["pruned"].latents)
        assert all(step > 0 for step in divergence.steps) == (pipe is smaller)
        quality = compared(finished["dense"], finished["pruned"], ("a b", "b"), divergence.steps, None)
        assert (quality.latents, quality.steps) == (divergence.steps[-1], tuple(divergence.steps))
        assert (quality.psnr is None) == (pipe is tiny)
        assert (quality.alignment, quality.retrieval, quality.ranks) == (None, None, (None,) * 4)
        assert (quality.candidates, quality.proxy) == (0, "")


def test_ties_and_nan_count_against_the_own_prompt():
    others = torch.tensor([0.4, 0.5, float("nan"), 0.6])
    assert place(torch.tensor(0.5), others) == 4
    assert place(torch.tensor(0.7), others) == 2
    assert place(torch.tensor(float("nan")), others) == 5
    assert place(torch.tensor(0.5), torch.tensor([0.4, 0.3])) == 1


def test_candidates_are_always_the_same(judge):
    assert judge.captions == Judge().captions
    assert len(set(judge.captions)) == CANDIDATES + 1
    assert tuple(glyphs.COLOURS) == COLOURS
    core = {entry["name"] for entry in pruning.models.sources.vocabulary("emoji-sd") if entry["core"]}
    names, colours = zip(*(caption.removesuffix(" background").split(" on a ") for caption in judge.captions),
                         strict=True)
    assert set(names) <= core
    assert set(colours) == set(COLOURS)


def test_the_core_comes_first(monkeypatch):
    """The rest fills up what the core leaves."""
    listed = [{"name": f"{'core' if i % 2 else 'rest'} {i}", "core": bool(i % 2)} for i in range(240)]
    monkeypatch.setattr("pruning.metrics.judge.vocabulary", lambda source: listed)
    kinds = [caption.split()[0] for caption in Judge().captions]
    assert kinds == ["core"] * 120 + ["rest"] * 81


@pytest.mark.parametrize("source", ["emoji-ddpm", "emoji-clip", "runwayml/stable-diffusion-v1-5", "./out", ""])
def test_other_models_have_no_judge(source):
    assert judge_for(source) is None
    assert judge_for("emoji-sd") is judge_for("emoji-sd") is not None


def test_a_drawn_heart_is_read_as_a_heart(judge, heart):
    (reading,), (wrong,), (nothing,) = (judge.readings([picture], [prompt]) for picture, prompt in (
        (heart, HEART), (heart, "pizza on a teal background"), (flat(128, 128), HEART)))
    assert reading.place == 1
    assert reading.cosine > 0.8
    assert wrong.place > 10
    assert nothing.place > 1
    assert max(wrong.cosine, nothing.cosine) < 0.5


def test_fit_is_a_table_of_cosines(judge, heart):
    fit = judge.fit([heart, flat(128, 128)], [HEART, "pizza on a teal background", HEART])
    assert fit.shape == (2, 3)
    assert torch.equal(fit[:, 0], fit[:, 2])
    assert fit.abs().max() <= 1
    assert fit[0, 0] == pytest.approx(judge.readings([heart], [HEART])[0].cosine, abs=1e-5)


@pytest.mark.parametrize("change", ["{}", "A {}", "the {}!"])
def test_a_prompt_does_not_compete_with_itself(judge, heart, change):
    """In the same or almost the same words it would lose: a tie counts against it. There are 200 others in any case."""
    for own, first in ((judge.captions[0], 1), (HEART, 0)):
        prompt = change.format(own).upper()
        assert judge.rivals(prompt) == list(range(first, first + 200))
        fit = judge.fit([heart], [prompt, *judge.captions[first : first + 200]])[0]
        assert judge.readings([heart], [prompt])[0].place == 1 + int((fit[1:] >= fit[0]).sum())


@pytest.mark.parametrize(("prompts", "asked"), [((HEART, " "), (0, 1)), (("", HEART), (2, 3))])
def test_each_picture_is_held_to_its_own_prompt(judge, heart, prompts, asked):
    pictures = [heart if i in asked else flat(0, 128) for i in range(4)]
    broken = [flat(128, 128) if i == asked[1] else picture for i, picture in enumerate(pictures)]
    quality = compared(drawn(*pictures), drawn(*broken), prompts, (0.0, 0.5), judge)
    grey = judge.readings([flat(128, 128)], [HEART])[0]
    fit = judge.readings([heart], [HEART])[0].cosine
    expected = {asked[0]: (1, 1), asked[1]: (1, grey.place)}
    assert quality.ranks == tuple(expected.get(i) for i in range(4))
    assert quality.retrieval == (1.0, 0.5)
    assert quality.alignment == pytest.approx((fit, (fit + grey.cosine) / 2), abs=1e-5)
    assert (quality.candidates, quality.proxy) == (200, "emoji-clip")


def test_retrieval_is_a_share_of_each_side(judge, heart):
    grey = flat(128, 128)
    assert compared(drawn(heart), drawn(grey), (HEART,), (), judge).retrieval == (1.0, 0.0)
    assert compared(drawn(grey), drawn(heart), (HEART,), (), judge).retrieval == (0.0, 1.0)


def test_the_empty_prompt_has_no_alignment(judge):
    quality = compared(drawn(flat(1)), drawn(flat(1)), ("",), (), judge)
    assert (quality.alignment, quality.retrieval, quality.ranks) == (None, None, (None,))


def test_quality_is_json_whatever_became_of_the_latents():
    broken = torch.full((1, 1, 2, 2), float("nan"))
    quality = compared(drawn(flat(0)), drawn(flat(10), latents=broken), ("a",), (0.5, float("inf")), None)
    told = json.loads(json.dumps(quality.to_dict(), allow_nan=False))
    assert (told["latents"], told["steps"]) == (None, [0.5, None])
    assert told["psnr"] == quality.psnr
    whole = replace(quality, latents=0.25, steps=(0.25,), retrieval=(1.0, 0.5), ranks=((1, 3),))
    told = whole.to_dict()
    assert (told["latents"], told["steps"], told["retrieval"], told["ranks"]) == (0.25, (0.25,), (1.0, 0.5), ((1, 3),))


def test_nothing_heavy_is_imported_before_something_is_judged():
    code = ("import sys; from pruning.metrics import judge, quality; judge.judge_for('emoji-sd').captions; "
            "print({'torchmetrics', 'transformers', 'diffusers'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
