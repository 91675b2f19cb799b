"""The sentence above the figures, case by case."""

import pytest

import pruning
from pruning.drawing.images import Drawn, draw_pair
from pruning.metrics.quality import compared
from pruning.reports.verdict import BANDS, headline, sentence
from pruning.timing import intervals

ZEROS = {"dense": 100, "pruned": 100, "nonzero": 70}
SLICED = {"dense": 190, "pruned": 100, "nonzero": 100}


def report(kinds=("channel",), gone=300, left=SLICED, measured=None, macs=None, same=False):
    """1000 units; params and MACs are as many as each other."""
    layers = [{"name": f"block.{kind}", "kind": kind, "requested": 0.3, "gone": 100} for kind in kinds]
    return {"units": {"total": 1000, "gone": gone}, "params": left, "macs": macs or left,
            "speed": {"theory": 1.9, "reachable": 1.9, "measured": measured, "why": ""}, "layers": layers,
            "fingerprint": {"dense": "a", "pruned": "a" if same else "b"}}


def clock(dense, pruned, slack=0.01, part="step"):
    """A stopwatch whose ratio has an interval of one percent to either side; ``slack`` None is of too few runs."""
    def timed(a, b):
        ratio = None if slack is None else (a / b, a / b / (1 + slack), a / b * (1 + slack))
        return {"dense": (a, a, a), "pruned": (b, b, b), "speedup": a / b if intervals.differs(ratio) else None,
                "ratio": ratio, "state": intervals.state(ratio)}

    parts = {name: timed(dense, pruned) if name == part else timed(1.0, 1.0)
             for name in ("text_encoder", "step", "denoiser", "vae.decoder", "picture")}
    return parts["step"] | {"repeats": 10, "taken_on": "a test", "parts": parts, "kernels": 0.8}


def quality(ssim=0.93, ranks=((1, 1),), psnr=25.0):
    return {"psnr": psnr, "ssim": ssim, "latents": 0.2, "steps": (0.1, 0.2), "alignment": (0.9, 0.8),
            "retrieval": (1.0, 1.0), "ranks": ranks, "candidates": 200, "proxy": "emoji-clip"}


# What goes.


def test_nothing():
    assert sentence(report(gone=0, same=True), quality(1.0, psnr=None)) == (
        "Nothing was removed: both sides have the same weights.")
    assert sentence(report(gone=0, same=True), None) == "Nothing was removed: both sides have the same weights."


@pytest.mark.parametrize(("asked", "words"), [
    ({}, "30.0 % of the channels"),
    ({"gone": 500, "kinds": ("weight", "weight")}, "50.0 % of the weights"),
    ({"gone": 255, "kinds": ("head",)}, "25.5 % of the heads"),
    ({"kinds": ("head", "neuron", "neuron", "channel")}, "30.0 % of the heads, neurons and channels"),
    ({"kinds": ("head", "neuron")}, "30.0 % of the heads and neurons"),
    ({"gone": 0.1}, "less than 0.1 % of the channels")])
def test_units(asked, words):
    assert sentence(report(**asked), None) == (
        f"This plan removes {words}; the pictures are not drawn yet. Speed: not measured yet.")


@pytest.mark.parametrize(("pattern", "words"), [
    ("2:4", "half of each 4 weights (2:4)"), ("1:4", "3 of each 4 weights (1:4)"),
    ("4:8", "half of each 8 weights (4:8)"), (None, "50.0 % of the weights")])
def test_patterns(pattern, words):
    assert sentence(report(("nm",), 500, ZEROS), quality(0.5), pattern=pattern) == (
        f"Removing {words} breaks the picture (SSIM 0.5). Speed: not measured yet.")


@pytest.mark.parametrize(("component", "words"), [
    ("", ""), ("unet", ""), ("transformer", ""), ("vae.decoder", " of the VAE decoder"),
    ("text_encoder", " of the text encoder"), ("text_encoder_2", " of the second text encoder")])
def test_components(component, words):
    assert sentence(report(), quality(), component) == (
        f"Removing 30.0 % of the channels{words} keeps the picture (SSIM 0.93). Speed: not measured yet.")


def test_kinds_that_were_left_alone_are_not_named():
    told = report(("head", "channel"))
    told["layers"][0] |= {"requested": 0.0, "gone": 0}
    assert sentence(told, quality()) == (
        "Removing 30.0 % of the channels keeps the picture (SSIM 0.93). Speed: not measured yet.")


# What it cost.


@pytest.mark.parametrize(("found", "words"), [
    (quality(0.9874), "hardly changes the picture (SSIM 0.987)"),
    (quality(0.98), "hardly changes the picture (SSIM 0.98)"),
    (quality(0.9799), "keeps the picture (SSIM 0.98)"),
    (quality(0.9), "keeps the picture (SSIM 0.9)"),
    (quality(0.8123), "visibly changes the picture (SSIM 0.812)"),
    (quality(0.6999), "breaks the picture (SSIM 0.7)"),
    (quality(-0.0123), "breaks the picture (SSIM -0.0123)"),
    (quality(0.95, ((1, 1), (1, 1))), "keeps the pictures (mean SSIM 0.95)"),
    (quality(0.6, ((1, 7),)),
     "breaks the picture (SSIM 0.6), which emoji-clip (a proxy) no longer reads as the prompt"),
    (quality(0.6, ((2, 7),)), "breaks the picture (SSIM 0.6)"),  # the dense one was not read as the prompt either
    (quality(0.6, (None,)), "breaks the picture (SSIM 0.6)"),
    (quality(0.6, (None,)) | {"candidates": 0}, "makes another picture (SSIM 0.6)"),  # of which nobody knows how good
    (quality(0.6, (None, None)) | {"candidates": 0}, "makes other pictures (mean SSIM 0.6)"),
    (quality(0.7, (None,)) | {"candidates": 0}, "visibly changes the picture (SSIM 0.7)"),
    (quality(0.8, ((1, 2), (1, 1), (3, 9), (1, 40))), "visibly changes the pictures (mean SSIM 0.8), 2 of which "
     "emoji-clip (a proxy) no longer reads as the prompt")])
def test_pictures(found, words):
    assert sentence(report(), found) == f"Removing 30.0 % of the channels {words}. Speed: not measured yet."


@pytest.mark.parametrize(("found", "words"), [
    (quality(1.0, psnr=None), "leaves the picture exactly as it was (SSIM 1)"),
    (quality(1.0, (None, None), psnr=None), "leaves the pictures exactly as they were (mean SSIM 1)")])
def test_pictures_that_do_not_change_at_all_are_suspicious_where_much_went(found, words):
    told = sentence(report(), found)
    assert told.startswith(f"Removing 30.0 % of the channels {words}. Speed: not measured yet. That is suspicious: ")
    assert sentence(report(gone=9), found) == f"Removing 0.9 % of the channels {words}. Speed: not measured yet."


def test_bands_fall():
    assert [least for least, _ in BANDS] == sorted((least for least, _ in BANDS), reverse=True)


# What it saved.


@pytest.mark.parametrize(("measured", "words"), [
    (clock(148.0, 100.0),
     "makes each step 1.48× faster here (1.47 to 1.49); 1.90× would be possible if compute alone counted"),
    (clock(188.0, 100.0), "makes each step 1.88× faster here (1.86 to 1.90)"),  # as good as 1.90
    (clock(250.0, 100.0),
     "makes each step 2.50× faster here (2.48 to 2.52); compute alone would make it 1.90× faster"),
    (clock(100.0, 125.0), "makes each step 1.25× slower here (1.24 to 1.26); 1.90× faster would be possible if compute "
     "alone counted"),
    (clock(100.0, 100.0), "makes no difference larger than 2 % to how long each step takes here; 1.90× faster would "
     "be possible if compute alone counted"),
    (clock(1015.0, 1000.0), "makes no difference larger than 3 % to how long each step takes here; 1.90× faster would "
     "be possible if compute alone counted"),
    (clock(110.0, 100.0, 0.2), "leaves open whether each step takes less time here: too noisy to tell (0.92× to "
     "1.32×); 1.90× faster would be possible if compute alone counted"),
    (clock(200.0, 100.0, None), "leaves open whether each step takes less time here: too few runs to tell"),
    (clock(12_345.0, 1000.0),
     "makes each step 12.3× faster here (12.22 to 12.47); compute alone would make it 1.90× faster")])
def test_smaller_layers(measured, words):
    assert sentence(report(measured=measured), quality()) == (
        f"Removing 30.0 % of the channels keeps the picture (SSIM 0.93) and {words}.")


@pytest.mark.parametrize(("measured", "words"), [
    (clock(100.0, 100.0), "makes no difference larger than 2 % to how long each step takes here"),
    (clock(100.0, 103.0), "makes each step 1.03× slower here (1.02 to 1.04)"),
    (clock(103.0, 100.0), "makes each step 1.03× faster here (1.02 to 1.04)"),
    (clock(103.0, 100.0, None), "leaves open whether each step takes less time here: too few runs to tell")])
@pytest.mark.parametrize(("kind", "pattern", "removed"), [
    ("weight", None, "30.0 % of the weights"), ("nm", "2:4", "half of each 4 weights (2:4)"),
    ("channel", None, "30.0 % of the channels")])  # the last one masked: every shape as it was
def test_zeros(kind, pattern, removed, measured, words):
    assert sentence(report((kind,), left=ZEROS, measured=measured), quality(), pattern=pattern) == (
        f"Removing {removed} keeps the picture (SSIM 0.93) and {words}; "
        "zeros are stored and multiplied like other numbers.")


def test_smaller_layers_with_zeros():
    left = {"dense": 190, "pruned": 100, "nonzero": 50}
    assert sentence(report(("weight",), 500, left, clock(148.0, 100.0)), quality()) == (
        "Removing 50.0 % of the weights keeps the picture (SSIM 0.93) and makes each step 1.48× faster here (1.47 to "
        "1.49); 1.90× "
        "would be possible if compute alone counted; zeros are stored and multiplied like other numbers.")


def test_uncounted_macs():
    measured, macs = clock(148.0, 100.0), {"dense": None, "pruned": None, "nonzero": None}
    assert sentence(report(measured=measured, macs=macs), quality()) == (
        "Removing 30.0 % of the channels keeps the picture (SSIM 0.93) and makes each step 1.48× faster here (1.47 to "
        "1.49).")


def test_measured_and_no_longer_read():
    assert sentence(report(measured=clock(190.0, 100.0)), quality(0.6, ((1, 7),))) == (
        "Removing 30.0 % of the channels breaks the picture (SSIM 0.6), which emoji-clip (a proxy) no longer reads as "
        "the prompt, and makes each step 1.90× faster here (1.88 to 1.92).")


def test_measured_and_not_drawn():
    assert sentence(report(measured=clock(190.0, 100.0)), None) == (
        "Removing 30.0 % of the channels makes each step 1.90× faster here (1.88 to 1.92). The pictures are not drawn "
        "yet.")


@pytest.mark.parametrize(("component", "words"), [
    ("vae.decoder",
     "of the VAE decoder keeps the picture (SSIM 0.93) and makes decoding 1.90× faster here (1.88 to 1.92)."),
    ("text_encoder",
     "of the text encoder keeps the picture (SSIM 0.93) and makes encoding the prompt 1.90× faster here (1.88 to "
     "1.92).")])
def test_other_components_have_their_own_clock(component, words):
    told = report(measured=clock(190.0, 100.0, part=component))
    assert sentence(told, quality(), component) == f"Removing 30.0 % of the channels {words}"


# What was adjusted.


def test_what_was_adjusted_is_said_at_the_end():
    """Not in the headline, which has to fit a card; reports of older versions know nothing of it."""
    told = report(("weight",), 500, ZEROS) | {"adjusted": {"said": "What stays was adjusted."}}
    short = "Removing 50.0 % of the weights keeps the picture (SSIM 0.93). Speed: not measured yet."
    assert sentence(told, quality()) == f"{short} What stays was adjusted."
    assert headline(told, quality()) == short
    assert sentence(told | {"adjusted": None}, quality()) == short
    same_weights = report(gone=0, same=True) | {"adjusted": None}
    assert sentence(same_weights, None) == "Nothing was removed: both sides have the same weights."


# What was fine-tuned.


def test_what_was_fine_tuned_is_said_where_the_pictures_are():
    """In the headline, since the pictures are those of the trained model; reports of older versions do not know it."""
    told = report(("weight",), 500, ZEROS) | {"recovered": {"steps": 100, "said": "What stays was fine-tuned."}}
    short = "Removing 50.0 % of the weights, fine-tuned for 100 steps, keeps the picture (SSIM 0.93). "
    assert headline(told, quality()) == sentence(told, quality()) == f"{short}Speed: not measured yet."
    assert headline(told, None) == ("This plan removes 50.0 % of the weights, fine-tuned for 100 steps; the pictures "
                                    "are not drawn yet. Speed: not measured yet.")
    nothing = report(gone=0) | {"recovered": {"steps": 3}}
    assert headline(nothing, None).startswith("This plan removes nothing, fine-tuned for 3 steps; the pictures")


# As the engine tells it.


def test_a_real_report(tiny):
    plan = pruning.plan(tiny, pattern="2:4")
    sparse = pruning.apply(tiny, plan)
    shot = pruning.Shot("a b", steps=2)
    pair = [event for event in draw_pair(tiny, sparse, shot) if isinstance(event, Drawn)]
    found = compared(*pair, ("a b",), (), None).to_dict()
    told = pruning.report(tiny, sparse, plan).to_dict()
    assert found["ssim"] < BANDS[-2][0]  # the lowest band, and nobody judges
    assert sentence(told, found, plan.recipe.component, plan.recipe.pattern) == (
        f"Removing half of each 4 weights (2:4) makes another picture (SSIM {found['ssim']:.3g}). "
        "Speed: not measured yet.")
    measured = pruning.measure(tiny, sparse, shot, repeats=6)
    timed = pruning.report(tiny, sparse, plan, measured=measured).to_dict()
    assert sentence(timed, None, "unet", "2:4").endswith(
        "; zeros are stored and multiplied like other numbers. The pictures are not drawn yet.")
    nothing = pruning.plan(tiny, ratio=0.0)
    assert sentence(pruning.report(tiny, pruning.apply(tiny, nothing), nothing).to_dict(), None).startswith("Nothing")
