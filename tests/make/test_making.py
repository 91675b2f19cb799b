"""Making the bundled models: the pieces by hand, and each training command from zero, stopped, and taken up again."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, StableDiffusionPipeline
from PIL import Image
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from assets.make import attention, bars, calibration, ddpm_bars, emoji_ddpm, features, folders, glyphs
from assets.make.emoji_clip import FOLDER as CLIP
from assets.make.emoji_clip import ranks
from assets.make.training import Run

ROOT = Path(__file__).resolve().parents[2]
HEART = glyphs.Glyph("❤", "red heart", ("heart", "love"), core=True)


@pytest.fixture(scope="module")
def material():
    """The core vocabulary. Its Debian packages are always there in CI."""
    try:
        return glyphs.vocabulary()
    except FileNotFoundError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def test_a_caption_names_the_glyph_and_the_colour():
    assert glyphs.caption("red heart", "blue") == "red heart on a blue background"


def test_free_captions_use_the_name_or_the_tags_and_always_the_colour():
    written = {glyphs.free_caption(HEART, "teal", random.Random(seed)) for seed in range(300)}
    assert all(text.endswith(" on a teal background") for text in written)
    assert {text.removesuffix(" on a teal background") for text in written} >= {
        "red heart", "a red heart", "red heart, love", "love heart", "a heart love"}


@pytest.mark.parametrize(("rgb", "name"), [((255, 250, 251), "white"), ((0, 0, 0), "black"), ((140, 120, 130), "grey"),
                                           ((230, 30, 50), "red"), ((0, 140, 160), "teal"), (
                                               (110, 80, 30), "brown")])
def test_the_nearest_colour(rgb, name):
    assert glyphs.nearest_colour(np.array(rgb)) == name


def test_the_background_is_read_off_the_border():
    picture = np.full((16, 16, 3), (45, 95, 220), np.uint8)
    picture[2:14, 2:14] = (220, 40, 40)
    picture[0, :5] = 0  # a few wrong pixels do not outvote the others
    assert glyphs.border_colour(picture) == "blue"


def test_half_a_pixel_of_light_is_not_half_its_number():
    placed = np.zeros((1, 2, 4), np.float32)
    placed[0, 1] = (0, 0, 0, 0.5)  # half covered by black
    assert glyphs.on_colour(placed, "white")[0].tolist() == [[255] * 3, [188] * 3]


def test_a_white_background_stays_white_and_the_same_glyph_looks_the_same(material):
    cell = glyphs.render("❤")
    first, again = (glyphs.premultiplied(cell, 48, 0.8, 0.02, -0.02) for _ in range(2))
    outside = first[..., 3] == 0
    assert 0.2 < outside.mean() < 0.8
    assert (glyphs.on_colour(first, "white")[outside] == 255).all()
    assert np.array_equal(first, again)
    assert first[..., :3].max() <= first[..., 3].max() <= 1
    assert (first[..., :3] <= first[..., 3:] + 1e-6).all(), "premultiplied light never exceeds what is covered"


def run_of(file, minutes=1.0):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    return Run(file, {"net": net}, minutes=minutes, rate=0.1, seed=5), net


def learn(run, net):
    run.learn(net(torch.randn(4, 3, generator=run.generator)).square().mean())


def test_a_restored_run_goes_on_as_if_it_had_never_stopped(tmp_path):
    whole, net = run_of(tmp_path / "whole.pt")
    for _ in range(30):
        learn(whole, net)
        whole.seconds += 1.5
    first, before = run_of(tmp_path / "half.pt")
    for _ in range(26):
        learn(first, before)
        first.seconds += 1.5
    first.keep()
    second, after = run_of(tmp_path / "half.pt")
    assert (second.step, second.seconds, second.losses) == (26, 39.0, first.losses)
    assert second.now_rate() == first.now_rate()
    for _ in range(4):
        learn(second, after)
        second.seconds += 1.5
    for mine, its in zip((*net.parameters(), *whole.averages), (*after.parameters(), *second.averages), strict=True):
        assert torch.equal(mine, its)
    assert second.now_rate() == whole.now_rate()
    assert not torch.equal(next(after.parameters()), second.averages[0])


def test_the_learning_rate_rises_holds_and_falls_with_the_budget(tmp_path):
    run, _ = run_of(tmp_path / "run.pt", minutes=1)
    assert run.now_rate() == pytest.approx(0.001)  # the first of a hundred steps up
    run.step = 99
    assert run.now_rate() == pytest.approx(0.1)
    run.seconds = 48.0  # four fifths of the budget: half way down
    assert run.now_rate() == pytest.approx(0.05)
    run.seconds = 60.0
    assert run.now_rate() == pytest.approx(0.002)
    run.budget = 120.0  # a larger budget takes a finished run back to its plateau
    assert run.now_rate() == pytest.approx(0.1)


def test_averages_are_lent_and_given_back(tmp_path):
    run, net = run_of(tmp_path / "run.pt")
    for _ in range(3):
        learn(run, net)
    live = net.weight.clone()

    def borrow():
        with run.averaged():
            assert torch.equal(net.weight, run.averages[0])
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        borrow()
    assert torch.equal(net.weight, live)


def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    run, net = run_of(tmp_path / "run.pt")

    def work():
        for step in run.steps():
            learn(run, net)
            if step == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert run_of(tmp_path / "run.pt")[0].step == 7
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_quick_attention_is_attention_in_value_and_gradient(monkeypatch):
    monkeypatch.setattr(attention, "AT_ONCE", 2 * 7 * 5)  # two heads at a time, the last part is smaller
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 3, tokens, 4, dtype=torch.float64, requires_grad=True) for tokens in (7, 5, 5))
    weight = torch.randn(1, 3, 7, 4, dtype=torch.float64)
    found = []
    for attend in (F.scaled_dot_product_attention, attention.Attention.apply):
        out = attend(q, k, v)
        found.append((out, *torch.autograd.grad((out * weight).sum(), (q, k, v))))
    for theirs, ours in zip(*found, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-12)


def test_quick_backward_puts_the_function_back_after_an_error():
    before = F.scaled_dot_product_attention

    def fail():
        with attention.quick_backward():
            assert F.scaled_dot_product_attention is not before
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert F.scaled_dot_product_attention is before


def test_a_collapsed_model_ranks_last(monkeypatch):
    """Every caption fits equally well: the own one is not the best."""
    monkeypatch.setattr("assets.make.emoji_clip.text_features", lambda _, ids: torch.ones(len(ids), 2))
    monkeypatch.setattr("assets.make.emoji_clip.image_features", lambda _, pixels: torch.ones(len(pixels), 2))
    monkeypatch.setattr("assets.make.emoji_clip.tokens", lambda _, captions: torch.zeros(len(captions), 3))
    assert ranks(nn.Linear(1, 1), None, torch.zeros(2, 3, 4, 4), ["one", "two", "three"]).tolist() == [2, 2]


def test_questions_are_fixed_and_ask_for_different_glyphs(material):
    asked = bars.questions(material)
    assert asked == bars.questions(material)
    assert len({one.glyph.emoji for one in asked}) == bars.CANDIDATES
    assert {one.colour for one in asked[: bars.PROMPTS]} == set(glyphs.COLOURS)


def test_floors_name_what_was_missed():
    figures = {"emoji-sd": {"psnr": float("nan"), "top1": 0.6, "top5": 0.85, "colour": 0.89,
                            "floor": bars.FLOORS["emoji-sd"]}}
    assert bars.missed(figures) == ["emoji-sd: psnr is nan, the floor is 27.0",
                                    "emoji-sd: colour is 0.89, the floor is 0.9"]


def test_the_frechet_distance_by_hand():
    one, other = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [6.0], [7.0]])  # N(1, 2) and N(6, 1)
    assert features.frechet(one, other) == pytest.approx(25 + 2 + 1 - 2 * 2**0.5)
    spread = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert features.frechet(spread, spread) == pytest.approx(0, abs=1e-9)
    assert features.frechet(spread, spread + torch.tensor([1.0, 2.0, 0.0])) == pytest.approx(5)


def test_the_discrepancy_by_hand():
    one, other = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    assert features.width(torch.tensor([[0.0], [1.0], [3.0]])) == 2
    near, far = math.exp(-0.5), math.exp(-4.5)
    across = (1 + far + near + math.exp(-2)) / 4
    assert features.mmd(one, other, 1.0) == pytest.approx(near + far - 2 * across)


def test_a_background_is_plain_where_it_has_the_colour_that_most_of_it_has():
    clean = np.full((8, 8, 3), (10, 90, 200), np.uint8)
    spotted = clean.copy()
    spotted[0] = 255  # of 48 pixels of the border, 8
    spotted[3:5, 3:5] = 0
    assert ddpm_bars.plain(np.stack([clean, spotted])) == pytest.approx((1 + 40 / 48) / 2)


def test_outlines_are_where_colours_change_whatever_the_contrast():
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[:, :, 4:] = 100
    found = ddpm_bars.outlines(edge)
    assert torch.allclose(found, ddpm_bars.outlines(edge * 2), atol=1e-6)
    assert found.view(3, 8, 8)[0, 4].argsort(descending=True)[:2].sort().values.tolist() == [3, 4]
    assert float(found @ ddpm_bars.outlines(edge.swapaxes(1, 2)).T) < 0.5


def test_real_glyphs_are_recognised_and_blurred_ones_are_not(material):
    real = ddpm_bars.Real(material[:3])
    share, found = real.recognised(np.concatenate(real.unseen))
    assert share == pytest.approx(0.95, abs=0.03)  # all but the worst twentieth
    assert found == {0, 1, 2}
    worse = ddpm_bars.spoilt(real.unseen[0])
    assert real.recognised(worse["blurred"])[0] < 0.3
    assert real.recognised(worse["noise"]) == (0, set())


def test_each_picture_to_learn_from_comes_once_and_all_glyphs_before_any_comes_again(material):
    pairs = calibration.varied(5, 12)
    assert len(pairs) == len(set(pairs)) == 60
    assert all({glyph for glyph, _ in pairs[at : at + 5]} == set(range(5)) for at in range(0, 60, 5))
    made = calibration.for_ddpm(material[:2])
    assert len(made) == 24
    assert all(picture.size == (32, 32) for picture in made.values())
    assert all(glyphs.border_colour(np.asarray(picture)) == caption.split(" on a ")[1].split()[0]
               for caption, picture in made.items())


def test_furnishing_twice_is_as_good_as_once(tmp_path):
    folders.furnish(tmp_path, [HEART])
    once = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    folders.furnish(tmp_path, folders.read_vocabulary(tmp_path))
    assert once == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert json.loads(once["vocabulary.json"]) == [
        {"name": "red heart", "emoji": "❤", "tags": ["heart", "love"], "core": True}]
    assert b"Unicode, Inc." in once["ATTRIBUTION.md"]
    assert b"Apache License" in once["LICENSE"]


@pytest.fixture
def workshop(tmp_path):
    """A place for checkpoints, which are too large to keep."""
    yield tmp_path
    shutil.rmtree(tmp_path / "work", ignore_errors=True)


PACES = {"emoji_clip": "0.1", "emoji_sd": "1", "emoji_ddpm": "1"}  # budgets are of steps: no clock has a say


def paced(model):
    return os.environ | {"PRUNESCOPE_PACE": PACES[model]}


def command(model, place, minutes, *rest):
    return [sys.executable, "-m", f"assets.make.{model}", "--minutes", str(minutes), "--work", str(place / "work"),
            "--out", str(place / "out"), "--device", "cpu", *rest]


def make(model, place, minutes, *rest):
    """Run to the end of the budget; what ``training.json`` says of the stages."""
    subprocess.run(command(model, place, minutes, *rest), cwd=ROOT, check=True, timeout=400, env=paced(model))
    return json.loads((place / "out" / "training.json").read_text())["stages"]


def furnished(folder):
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / "ATTRIBUTION.md").exists()
    assert all(file.stat().st_size < 10_000_000 for file in folder.rglob("*"))
    return [row["emoji"] for row in json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))]


def stopped(model, place, stop, *rest):
    """Start, send a signal after the first line of the log, and take the checkpoint that is left."""
    started = subprocess.Popen(
        command(model, place, 3, *rest), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=paced(model), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's "&" ignores it
    with started:
        assert " step " in started.stdout.readline()
        started.send_signal(stop)
        assert started.wait(120) != 0
    assert not (place / "out").exists()
    return torch.load(place / "work" / "clip.pt", weights_only=True)


@pytest.mark.slow
def test_emoji_clip_is_stopped_twice_taken_up_and_loads(workshop, material):
    rest = ("--glyphs", "8", "--batch", "16")
    first = stopped("emoji_clip", workshop, signal.SIGINT, *rest)
    second = stopped("emoji_clip", workshop, signal.SIGTERM, *rest)
    assert 50 <= first["step"] < second["step"]
    assert first["seconds"] < second["seconds"]
    assert second["losses"][: len(first["losses"])] == first["losses"]
    assert [step for step, _ in second["losses"]] == list(range(25, second["step"] + 1, 25))

    stage = make("emoji_clip", workshop, (second["seconds"] + 3) / 60, *rest)["clip, 8 glyphs"]
    assert stage["steps"] > second["step"]
    assert stage["loss"][: len(second["losses"])] == [list(row) for row in second["losses"]]
    assert stage["loss"][-1][1] < stage["loss"][0][1]

    assert furnished(workshop / "out") == [glyph.emoji for glyph in material[:8]]
    model = CLIPModel.from_pretrained(workshop / "out", dtype=torch.float32)
    words = CLIPTokenizer.from_pretrained(workshop / "out")(["grinning face on a red background"], return_tensors="pt")
    assert model(**words, pixel_values=torch.zeros(1, 3, 64, 64)).logits_per_image.isfinite().all()


@pytest.mark.slow
def test_emoji_sd_is_made_continued_and_loads(workshop, material):
    rest = ("--glyphs", "2", "--batch", "2", "--clip", str(CLIP))
    first = make("emoji_sd", workshop, 1 / 3, *rest)  # twenty steps from zero
    assert all(stage["steps"] > 0 for stage in first.values())
    more = [stage["seconds"] + 2 for stage in first.values()]
    second = make("emoji_sd", workshop, sum(more) / 60, *rest, "--split", *(str(part / sum(more)) for part in more))
    assert list(first) == list(second) == ["autoencoder", "unet at 64 px, 2 glyphs", "unet at 128 px, 2 glyphs"]
    for name in ("autoencoder", "unet at 128 px, 2 glyphs"):
        assert second[name]["steps"] > first[name]["steps"]
        assert second[name]["seconds"] > first[name]["seconds"]
        assert second[name]["loss"][: len(first[name]["loss"])] == first[name]["loss"]
    small = "unet at 64 px, 2 glyphs"
    assert second[small]["steps"] == first[small]["steps"]  # it is not gone back to

    out = workshop / "out"
    assert furnished(out) == [glyph.emoji for glyph in material[:2]]
    pipe = StableDiffusionPipeline.from_pretrained(out, torch_dtype=torch.float32)
    assert (pipe.unet.config.sample_size, pipe.vae_scale_factor) == (32, 4)
    sheet = workshop / "sheet.png"
    measured = bars.measure(out, ROOT / CLIP, 2, steps=1, px=32, every=150, sheet=sheet)["emoji-sd"]
    assert {"sampler", "steps", "guidance", "top1", "top5", "colour", "psnr", "floor", "native_px"} <= set(measured)
    assert (measured["steps"], measured["prompts"], measured["native_px"]) == (1, 2, 128)
    assert sheet.stat().st_size > 1000


@pytest.mark.slow
def test_emoji_ddpm_is_made_and_draws(workshop, material):
    stage = make("emoji_ddpm", workshop, 1 / 6, "--glyphs", "2", "--batch", "2")["unet, 2 glyphs"]
    assert stage["steps"] > 0
    out, learnt = workshop / "out", emoji_ddpm.KNOWN["often"](material)[:2]
    assert furnished(out) == [glyph.emoji for glyph in learnt]
    assert sum(file.stat().st_size for file in out.rglob("*.safetensors")) < 15_000_000
    pipe = DDPMPipeline.from_pretrained(out, torch_dtype=torch.float32)
    drawn = pipe(2, generator=torch.Generator().manual_seed(0), num_inference_steps=1, output_type="np").images
    assert drawn.shape == (2, 32, 32, 3)
    assert not np.array_equal(*drawn)
    sheet = workshop / "sheet.png"
    measured = ddpm_bars.measure(out, ROOT / CLIP, 2, steps=1, batch=1, sheet=sheet, known=learnt)
    assert set(ddpm_bars.FLOOR) | {"sampler", "steps", "frechet", "mmd", "floor", "native_px"} <= set(measured)
    assert (measured["steps"], measured["samples"], measured["learnt"], measured["proxy"]) == (1, 2, 2, "emoji-clip")
    for distance in (measured["frechet"], measured["mmd"]):
        assert distance["real"] < distance["blurred"] < distance["noise"]
        assert distance["real"] < distance["samples"]
    assert "recognised" in ddpm_bars.table(measured)
    assert Image.open(sheet).size == (12 * 68 + 4, 8 * 68 + 4)
