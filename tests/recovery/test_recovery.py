"""Training the damage away: it learns, leaves everybody else alone, and a stop costs nothing."""

import errno
import gc
import json
import shutil
import signal
import weakref
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from conftest import output, pipeline, same, state, unet
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

import pruning
from pruning.__main__ import main
from pruning.calibration import samples
from pruning.calibration.call import generator
from pruning.cli.watched import Asked, Watch
from pruning.decisions import check
from pruning.models import saving
from pruning.network.notes import note, plan_of
from pruning.network.subject import subject
from pruning.progress import Looked, drained
from pruning.recovery import (
    LOSSES,
    Batch,
    Held,
    Recovery,
    Trained,
    Training,
    keeper,
    keeping,
    loop,
    losses,
    recovering,
    shown,
    sides,
)
from pruning.reports.verdict import headline
from pruning.timing.sparse import running
from pruning.types import Calibration, Plan, Shot

WIDTH, MASKS = {"ratio": 0.5, "units": "width"}, {"ratio": 0.5, "only": ("mid_block*",)}


@pytest.fixture(autouse=True)
def judged_by_few(monkeypatch):
    """The fixed set is a small one here."""
    monkeypatch.setattr(shown, "JUDGED", 8)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Four plain pictures with captions."""
    folder = tmp_path_factory.mktemp("album")
    for i, colour in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (32, 32), colour).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a b" if i % 2 else "b")
    return folder


@pytest.fixture(scope="module")
def small(tiny):
    """The tiny pipeline with half of its inner width."""
    return pruning.apply(tiny, pruning.plan(tiny, **WIDTH))


@pytest.fixture(scope="module")
def ddpm():
    """A pipeline that takes no prompts, of 8 x 8 pixels and 100 timesteps."""
    torch.manual_seed(0)
    net = UNet2DModel(sample_size=8, block_out_channels=(16, 16), down_block_types=("DownBlock2D",) * 2,
                      up_block_types=("UpBlock2D",) * 2, norm_num_groups=8, layers_per_block=1)
    return DDPMPipeline(net.eval(), DDPMScheduler(num_train_timesteps=100))


@pytest.fixture
def how(album):
    """The least that a recovery can be, with some changes."""
    shown = Calibration(source=str(album))
    return lambda **changes: Recovery(**{"steps": 3, "batch": 2, "calibration": shown} | changes)


def recovered(*args, **options):
    return drained(recovering(*args, **options))


def entry(pipe):
    return plan_of(pipe).steps[-1].decision.sites[""]


def weights(pipe):
    return {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}


# By hand.


def test_the_average_by_hand():
    averages, values = [torch.tensor([0.0, 4.0])], [torch.tensor([1.0, 2.0])]
    loop.averaged(averages, values, 0.75)
    assert averages[0].tolist() == [0.25, 3.5]
    assert values[0].tolist() == [1, 2]


def test_the_average_warms_up():
    assert loop.warmed(0.999, 1) == 2 / 11
    assert loop.warmed(0.999, 90) == 0.91
    assert loop.warmed(0.999, 100_000) == 0.999
    assert loop.warmed(0.0, 5) == 0


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_timesteps_come_with_their_mirror_images(count):
    steps = shown.antithetic(1000, count, generator("x", 0)).tolist()
    half = (count + 1) // 2
    assert len(steps) == count
    assert steps[half:] == [999 - t for t in steps[: count - half]]
    assert all(0 <= t < 1000 for t in steps)
    assert shown.antithetic(1000, count, generator("x", 0)).tolist() == steps


def test_the_first_steps_of_adam_and_of_the_average_by_hand(ddpm, how, album):
    """With the loss sum(w), every gradient is 1: clipped, it is the same for all, and Adam walks the rate each step."""
    source, training = ddpm.unet, Training()
    run = loop.Run(source, source, Recovery(rate=0.01, average=0.5), training, [])
    with torch.no_grad():
        start = run.tensors[0].clone()
    run._loss = lambda call: sum(tensor.sum() for tensor in run.tensors)
    run.step(None)
    run.step(None)
    name = next(iter(training.weights))
    assert torch.allclose(training.weights[name], start - 0.02, atol=1e-4)
    first = start - 0.01 * (1 - 2 / 11)  # 2/11 of the start stays after the first step, 3/12 of that after the second
    assert torch.allclose(training.averages[name], 0.25 * first + 0.75 * (start - 0.02), atol=1e-4)
    assert torch.equal(source.get_parameter(name), start)


def test_one_of_eight_samples_is_kept_apart(tiny):
    looked_at = subject(tiny)
    for count, held, on in ((3, (0, 1, 2), "3 samples it was trained on"), (7, tuple(range(7)), "trained on"),
                            (8, (7,), "1 held-out sample"), (17, (7, 15), "2 held-out samples")):
        prompts = tuple("ab"[i % 2] * (i + 1) for i in range(count))
        asked = Calibration(prompts, samples=count, source="generated")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pruning.calibration.pictures.drawing", drawn_at_once)
            material = drained(shown.gathering(looked_at, looked_at, asked))
        assert (material.count, material.held) == (count, held)
        assert material.on.endswith(on)
        assert len(material.shown.clean) == 2 * count
        assert not {*material.fit.tolist()} & {*held} or count < 8


def drawn_at_once(pipe, prompts, seed, guidance):
    yield Looked(1, 1)
    return list(torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).split(1))


@pytest.mark.parametrize(("share", "without"), [(0.0, 0), (1.0, 8)])
def test_some_samples_come_without_their_prompt(tiny, album, share, without):
    looked_at = subject(tiny)
    material = drained(shown.gathering(looked_at, looked_at, Calibration(source=str(album))))
    call = material.batch(tiny.unet, Recovery(batch=8, unprompted=share), generator("x", 1))
    empty = material.shown.told["encoder_hidden_states"][material.count]
    assert sum(torch.equal(told, empty) for told in call.inputs["encoder_hidden_states"]) == without
    assert len(call.inputs["timestep"].unique()) > 1


def test_the_fixed_set_is_the_same_whatever_the_batch(tiny, album):
    looked_at = subject(tiny)
    material = drained(shown.gathering(looked_at, looked_at, Calibration(source=str(album))))
    errors = [drained(material.judging(tiny.unet, Recovery(batch=batch))) for batch in (7, 64)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)
    assert drained(material.judging(tiny.unet, Recovery(batch=64))) == errors[1]
    assert drained(material.judging(tiny.unet, Recovery(batch=64, seed=1))) != errors[1]


# The contract of losses.


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_one_number_that_can_be_differentiated(small, tiny, album, name):
    looked_at = subject(tiny)
    material = drained(shown.gathering(looked_at, looked_at, Calibration(source=str(album))))
    run = loop.Run(small.unet, tiny.unet, Recovery(), Training(), [])
    before = state(tiny)
    call = material.batch(run.net, Recovery(batch=2), generator("x", 0))
    loss = LOSSES[name](Batch(run.net, tiny.unet, call))
    loss.backward()
    assert loss.ndim == 0
    assert loss.isfinite()
    assert float(loss.detach()) > 0
    gradients = [tensor.grad for tensor in run.tensors]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert all(tensor.grad is None for tensor in tiny.unet.parameters())
    assert same(before, state(tiny))
    assert (LOSSES[name].__doc__ or "").endswith(".")


def test_the_task_is_the_error_that_it_is_judged_by(tiny, album):
    looked_at = subject(tiny)
    call = samples.calls(looked_at, samples.settled(looked_at, Calibration(samples=1, source=str(album))))[0]
    answer = samples.answer(tiny.unet, call)
    assert float(losses.task(Batch(tiny.unet, tiny.unet, call)).detach()) == pytest.approx(
        float((answer - call.target).square().mean()), rel=1e-5)


# What comes of it.


def test_it_learns(ddpm, album):
    """The same four pictures again and again: the error on them falls by a lot."""
    pruned = pruning.apply(ddpm, pruning.plan(ddpm, ratio=0.5, units="channel"))
    options = Recovery(steps=60, batch=16, rate=3e-3, average=0.9, calibration=Calibration(source=str(album)))
    made = recovered(pruned, ddpm, options)
    assert entry(made)["after"] < 0.5 * entry(made)["before"]
    assert type(made) is DDPMPipeline
    assert {name: tensor.shape for name, tensor in made.unet.state_dict().items()} == {
        name: tensor.shape for name, tensor in pruned.unet.state_dict().items()}


def test_the_events(small, tiny, how):
    events = list(recovering(small, tiny, how()))
    kinds = [type(event) for event in events if not isinstance(event, Looked)]
    assert kinds == [Held, Trained, Trained, Trained, Held]
    steps = [event for event in events if isinstance(event, Trained)]
    assert [(event.step, event.of, event.rate) for event in steps] == [(i, 3, 2e-4) for i in (1, 2, 3)]
    assert steps[0].seconds < steps[1].seconds < steps[2].seconds
    assert steps[0].left > steps[2].left == 0
    first, last = (event for event in events if isinstance(event, Held))
    assert (first.step, last.step) == (0, 3)
    assert first.dense == last.dense != first.error
    assert first.on == "4 samples it was trained on"
    assert all(event == replace(event) and hash(event) for event in events)


@pytest.mark.parametrize("plan", [WIDTH, MASKS, None])
def test_nobody_else_is_touched(tiny, how, plan):
    student = pruning.apply(tiny, pruning.plan(tiny, **plan)) if plan else tiny
    before, stream, versions = [state(pipe) for pipe in (tiny, student)], torch.get_rng_state(), [
        tensor._version for tensor in (*tiny.unet.parameters(), *student.unet.parameters())]
    told = plan_of(student)
    made = recovered(student, tiny, how())
    assert all(same(was, state(pipe)) for was, pipe in zip(before, (tiny, student), strict=True))
    assert versions == [tensor._version for tensor in (*tiny.unet.parameters(), *student.unet.parameters())]
    assert not any(tensor.grad is not None for tensor in (*tiny.unet.parameters(), *student.unet.parameters()))
    assert torch.equal(stream, torch.get_rng_state())
    assert plan_of(student) is told
    assert made.vae is student.vae
    assert made.unet is not student.unet
    assert not made.unet.training
    assert [p.requires_grad for p in made.unet.parameters()] == [p.requires_grad for p in student.unet.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(made.unet.parameters(), student.unet.parameters(), strict=True)
               if a.count_nonzero())


def test_work_that_is_closed_leaves_nothing(small, tiny, how, monkeypatch):
    before, seen = [state(tiny), state(small)], []
    monkeypatch.setattr(loop, "LOSSES", {"task": lambda batch: (seen.append(weakref.ref(batch.student)),
                                                               losses.task(batch))[1]})
    work = recovering(small, tiny, how())
    with closing(work):
        next(event for event in work if isinstance(event, Trained))
    del work
    gc.collect()
    assert [found() for found in seen] == [None]
    assert same(before[0], state(tiny))
    assert same(before[1], state(small))


@pytest.mark.parametrize(("options", "plan"), [
    ({"losses": {"task": 100}}, WIDTH), ({"dropout": True, "half": True}, MASKS)])
def test_going_on_is_as_if_it_had_not_been_stopped(tiny, how, tmp_path, options, plan):
    dense = pipeline()
    dense.unet = unet(dropout=0.5)
    student = pruning.apply(dense, pruning.plan(dense, **plan))
    whole, stream = recovered(student, dense, how(steps=4, **options)), torch.get_rng_state()
    training = Training()
    work = recovering(student, dense, how(steps=4, **options), state=training)
    with closing(work):
        next(event for event in work if isinstance(event, Trained) and event.step == 2)
    training.write(tmp_path / "state")
    for kept in (Training.read(tmp_path / "state"), training):
        events = []
        made = drained(recovering(student, dense, how(steps=4, **options), state=kept), events.append)
        assert [event.step for event in events if isinstance(event, Trained)] == [3, 4]
        assert same(weights(made), weights(whole))
        assert plan_of(made) == plan_of(whole)
        assert len(kept.losses) == 4
        assert list(kept.weights) == [name for name, _ in student.unet.named_parameters()]
    assert torch.equal(stream, torch.get_rng_state())
    assert list(Training.read(tmp_path / "state").weights) != list(training.weights)  # files have an order of their own
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_more_steps_go_on_where_a_run_ended(small, tiny, how):
    training = Training()
    recovered(small, tiny, how(steps=2), state=training)
    assert same(weights(recovered(small, tiny, how(steps=3), state=training)), weights(recovered(small, tiny, how())))


def test_seeds_repeat_and_differ(small, tiny, how):
    one, again, other = (recovered(small, tiny, how(seed=seed)) for seed in (0, 0, 1))
    assert same(weights(one), weights(again))
    assert plan_of(one) == plan_of(again)
    assert not same(weights(one), weights(other))


@pytest.mark.parametrize("request_", [MASKS, {"pattern": "2:4"}, {"method": "wanda", "ratio": 0.5, "calibration":
                                                                  Calibration(("a",), 2, source="generated")}])
def test_zeros_stay(tiny, how, request_, tmp_path):
    student = pruning.apply(tiny, pruning.plan(tiny, **request_))
    made = recovered(student, tiny, how(rate=0.01))
    touched = sides.masked(subject(student))
    assert touched
    for name in touched:
        assert torch.equal(made.unet.get_parameter(name) == 0, student.unet.get_parameter(name) == 0)
    pruning.save(made, tmp_path / "out")  # which is refused on loading where a weight is not zero that should be
    assert same(weights(pruning.load(tmp_path / "out")), weights(made))


def test_zeros_stay_after_a_second_step(tiny, how):
    """A mask, then width: what is left of the mask."""
    masked = pruning.apply(tiny, pruning.plan(tiny, **MASKS))
    student = pruning.apply(masked, pruning.plan(masked, **WIDTH))
    made = recovered(student, tiny, how(rate=0.01))
    name = "mid_block.resnets.0.conv1.weight"
    zeros = student.unet.get_parameter(name) == 0
    assert zeros.any()
    assert torch.equal(made.unet.get_parameter(name) == 0, zeros)


def test_what_is_saved_is_what_is_loaded(small, tiny, how, tmp_path):
    made = recovered(small, tiny, how())
    again = pruning.load(pruning.save(made, tmp_path / "out"))
    assert same(weights(again), weights(made))
    assert torch.equal(output(again, "unet"), output(made, "unet"))
    assert plan_of(again) == plan_of(made)
    assert Plan.from_json(plan_of(made).to_json()).to_json() == plan_of(made).to_json()
    assert entry(again)["options"]["steps"] == 3


def test_the_plan_cannot_be_carried_out_again(small, tiny, how):
    made = recovered(small, tiny, how())
    with pytest.raises(pruning.Refused, match="fine-tuned after pruning"):
        pruning.apply(tiny, plan_of(made))
    broken = replace(plan_of(made).steps[-1].decision, entry={"steps": 3})
    with pytest.raises(pruning.Refused, match="says of a training what cannot be"):
        check.known_units(replace(plan_of(made).steps[-1], decision=broken), made.unet)
    with pytest.raises(pruning.Refused, match="other weights, and a training or an adjustment depends on them"):
        check.check(replace(plan_of(made).steps[-1], weights="0" * 16), small.unet)


def test_pruning_goes_on_after_a_recovery(small, tiny, how, tmp_path):
    made = recovered(small, tiny, how())
    plan = pruning.plan(made, pattern="2:4", only=("mid_block*",))
    twice = recovered(pruning.apply(made, plan), tiny, how())
    assert [step.decision.kind for step in plan_of(twice).steps] == ["keep", "recovered", "pattern", "recovered"]
    again = pruning.load(pruning.save(twice, tmp_path / "out"))
    assert same(weights(again), weights(twice))
    for dense in (tiny, made):
        report = pruning.report(dense, again, plan_of(again))
        assert report.units["gone"] * 2 == report.units["total"]
        assert report.recovered["steps"] == 3


def test_the_report_says_what_was_done(small, tiny, how):
    once = recovered(small, tiny, how())
    twice = recovered(once, tiny, how(steps=2))
    plain = pruning.report(tiny, small, plan_of(small))
    assert plain.recovered is None
    for pipe, steps in ((once, 3), (twice, 5)):
        report = pruning.report(tiny, pipe, plan_of(pipe))
        told = report.recovered
        assert (told["steps"], told["before"], told["after"]) == (steps, entry(pipe)["before"], entry(pipe)["after"])
        assert f"Fine-tuned for {steps} steps: denoising error" in told["said"]
        assert "4 samples it was trained on" in told["said"]
        assert json.loads(json.dumps(report.to_dict()))["recovered"] == told
        assert (report.units, report.params, report.layers) == (plain.units, plain.params, plain.layers)
        assert f", fine-tuned for {steps} steps" in headline(report.to_dict(), None)
    assert entry(twice)["before"] == pytest.approx(entry(once)["after"])


def test_measuring_knows_the_kernels_of_a_trained_model(tiny, how):
    student = pruning.apply(tiny, pruning.plan(tiny, pattern="2:4"))
    before, after = (running(pipe, Shot("a"))[1]["unet"] for pipe in (student, recovered(student, tiny, how())))
    assert before == after
    assert sum(before.without.values()) > 0


def test_a_model_that_lost_nothing_can_be_trained(tiny, how, tmp_path):
    made = recovered(tiny, None, how())
    report = pruning.report(tiny, made, plan_of(made))
    assert (report.units["gone"], report.recovered["steps"], report.recovered["dense"]) == (0, 3, None)
    assert headline(report.to_dict(), None).startswith("This plan removes nothing, fine-tuned for 3 steps;")
    assert same(weights(pruning.load(pruning.save(made, tmp_path / "out"))), weights(made))


def test_after_what_stays_was_adjusted(tiny, how):
    """Both are told, each by itself."""
    plan = pruning.plan(tiny, **MASKS, update=True, calibration=Calibration(samples=2, source="noise"))
    student = pruning.apply(tiny, plan)
    made = recovered(student, tiny, how())
    report, before = (pruning.report(tiny, pipe, plan_of(pipe)) for pipe in (made, student))
    assert report.adjusted == before.adjusted
    assert report.recovered["steps"] == 3
    assert before.recovered is None


def test_half_precision_is_trained_in_single(album, how):
    dense = pipeline().to(torch.bfloat16)
    training = Training()
    made = recovered(dense, dense, how(), state=training)
    assert made.unet.dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in training.weights.values())


def test_the_dense_model_draws_the_samples_of_a_pruned_one(small, tiny, how, monkeypatch):
    drew = []
    monkeypatch.setattr("pruning.calibration.pictures.drawing",
                        lambda *how: (drew.append(how[0]), drawn_at_once(*how))[1])
    recovered(small, tiny, how(calibration=Calibration(("a",), source="generated")))
    assert drew == [tiny]


def test_the_models_own_pictures_are_the_default(small, tiny):
    own = note(pipeline(), source="emoji-sd")
    settled = sides.settled(subject(small), subject(own), Recovery())
    assert settled.calibration == Calibration(samples=1024, source="bundled")
    assert sides.settled(subject(small), subject(tiny), Recovery()).calibration == Calibration(
        samples=64, source="generated")


def test_the_bundled_model_without_a_prompt_learns_from_its_own_pictures(tmp_path):
    pipe = pruning.load("emoji-ddpm")
    smaller = pruning.apply(pipe, pruning.plan(pipe, "magnitude", 0.3, units="channel", protect=("conv_out",)))
    better = pruning.recover(smaller, pipe, steps=1, batch=2)
    (entry,) = plan_of(better).steps[-1].decision.sites.values()
    assert entry["on"] == "36 held-out samples"  # of 288
    assert entry["after"] != entry["before"] > entry["dense"]
    assert entry["options"]["calibration"]["samples"] == 1024
    again = pruning.load(pruning.save(better, tmp_path / "better"))
    assert same(state(again.unet), state(better.unet))
    *_, drawn = pruning.generate(again, Shot(steps=1))
    assert drawn.images[0].size == (32, 32)


def test_the_public_function(small, tiny, album):
    looked = Calibration(source=str(album))
    made = pruning.recover(small, tiny, steps=2, batch=2, losses={"task": 2}, calibration=looked)
    assert entry(made)["options"] == Recovery(2, 2, losses=(("task", 2.0),), calibration=looked).to_dict()


# Refusals.


@pytest.mark.parametrize(("values", "words"), [
    ({"steps": 0}, "steps cannot be 0. It runs from 1"), ({"batch": 5000}, "It runs from 1 to 1024"),
    ({"rate": 0}, "rate"), ({"rate": float("nan")}, "takes a number"), ({"average": 1.0}, "average"),
    ({"losses": {"tusk": 1}}, "There are task"), ({"losses": {"task": -1}}, "from 0 up"),
    ({"losses": {"task": 0}}, "no loss to make small"), ({"losses": ()}, "no loss to make small"),
    ({"unprompted": 2}, "unprompted"), ({"half": "perhaps"}, "half takes True or False")])
def test_options_that_cannot_be(values, words):
    with pytest.raises(pruning.Refused, match=words):
        Recovery(**values)


@pytest.mark.parametrize(("calibration", "words"), [
    (Calibration(source="noise"), "teach a denoiser nothing"), (Calibration(timesteps=(3,), source="generated"),
                                                                "trains at all timesteps"),
    (Calibration(source="nowhere"), "no samples at"), (None, "What a pruned model draws itself")])
def test_samples_that_cannot_be(small, calibration, words):
    with pytest.raises(pruning.Refused, match=words):
        next(recovering(small, None, Recovery(calibration=calibration)))


def test_who_cannot_recover(tiny, small, ddpm, how):
    for component in ("text_encoder", "vae.decoder"):
        with pytest.raises(pruning.Refused, match=r"is no denoiser.*the denoiser can recover"):
            next(recovering(small, tiny, how(), component))
    with pytest.raises(pruning.Refused, match="has no component"):
        next(recovering(small, tiny, how(), "tower"))
    for student, words in ((pruning.load("sd-1.5", weights="meta"), "shapes and no weights"),
                           (tiny.unet, "whole pipelines"),
                           (pruning.apply(tiny, plan_of(small), masked=True), "is for looking")):
        with pytest.raises(pruning.Refused, match=words):
            next(recovering(student, None, how()))
    with pytest.raises(pruning.Refused, match="takes other inputs"):
        next(recovering(ddpm, replaced(ddpm), how()))


def replaced(ddpm):
    net = UNet2DModel.from_config({**ddpm.unet.config, "sample_size": 16})
    return DDPMPipeline(net, ddpm.scheduler)


def test_too_large_for_the_memory(small, tiny, how, monkeypatch):
    monkeypatch.setattr(sides.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(pruning.Refused, match=r"Training takes .* GB and room for a batch"):
        next(recovering(small, tiny, how()))


def test_a_loss_that_is_no_number_stops_the_run(small, tiny, how, monkeypatch):
    training = Training()
    monkeypatch.setattr(loop, "LOSSES", {"task": lambda batch: losses.task(batch) * (
        float("nan") if training.step else 1)})
    with pytest.raises(pruning.Refused, match=r"became NaN or infinite at step 2\. Choose a smaller learning rate"):
        recovered(small, tiny, how(), state=training)
    assert all(tensor.isfinite().all() for part in (training.weights, training.first) for tensor in part.values())


@pytest.mark.parametrize(("changes", "words"), [
    ({"rate": 1e-3}, "rate 0.0002 instead of 0.001"), ({"seed": 4}, "seed 0 instead of 4"),
    ({"batch": 3}, "batch 2 instead of 3")])
def test_a_state_of_another_run(small, tiny, other, how, changes, words):
    training = Training()
    recovered(small, tiny, how(steps=1), state=training)
    with pytest.raises(pruning.Refused, match=words):
        recovered(small, tiny, how(**changes), state=training)
    with pytest.raises(pruning.Refused, match="another dense model"):
        recovered(small, other, how(), state=training)
    training.step = 4
    with pytest.raises(pruning.Refused, match="has gone 4 steps already"):
        recovered(small, tiny, how(), state=training)
    training.step, tensor = 1, training.first.pop("conv_in.weight")
    with pytest.raises(pruning.Refused, match=r"conv_in\.weight is missing"):
        recovered(small, tiny, how(), state=training)
    training.first["conv_in.weight"] = tensor[:1]
    with pytest.raises(pruning.Refused, match="or of another shape"):
        recovered(small, tiny, how(), state=training)
    with pytest.raises(pruning.Refused, match="another student"):
        recovered(tiny, tiny, how(), state=training)


def test_files_that_are_no_states(tmp_path, tiny_folder):
    (tmp_path / "text").write_text("nonsense")
    for file in (tmp_path / "text", tiny_folder / "unet/diffusion_pytorch_model.safetensors"):
        with pytest.raises(pruning.Refused, match="is no state of a recovery"):
            Training.read(file)


# The command line.


@pytest.fixture(scope="module")
def folders(tiny, small, tmp_path_factory):
    """The dense model and the pruned one, as they are saved."""
    folder = tmp_path_factory.mktemp("folders")
    tiny.save_pretrained(folder / "dense")
    pruning.save(small, folder / "pruned")
    return folder


@pytest.fixture
def command(folders, album, tmp_path):
    """The command, to a new folder."""
    return ["recover", str(folders / "pruned"), "--dense", str(folders / "dense"), "--steps", "3", "--batch", "2",
            "--calibration-source", str(album), "-o", str(tmp_path / "out")]


def test_the_command(command, tmp_path, capsys, small, tiny, how, folders):
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"steps", "before", "after", "dense", "said", "training", "seconds", "folder", "plan", "digest"}
    assert (told["steps"], told["folder"]) == (3, str(tmp_path / "out"))
    made = pruning.load(tmp_path / "out")
    assert told["digest"] == plan_of(made).digest
    assert same(weights(made), weights(recovered(small, tiny, how(calibration=replace(
        how().calibration, samples=1024)))))
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert main([*command[:-1], str(tmp_path / "two"), "--loss", "task=1"]) == 0
    assert "Fine-tuned for 3 steps" in capsys.readouterr().out
    compared = ["compare", str(folders / "dense"), str(tmp_path / "out"), "--prompt", "a", "--steps", "1", "-o",
                str(tmp_path / "pictures"), "--json"]
    assert main(compared) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recovered"]["said"] == told["said"]
    assert ", fine-tuned for 3 steps, " in found["verdict"]


@pytest.fixture(scope="module")
def whole(folders, album):
    """The weights that the command comes to when nothing stops it."""
    shown = Calibration(source=str(album), samples=1024)
    made = pruning.recover(pruning.load(folders / "pruned"), pruning.load(folders / "dense"), steps=3, batch=2,
                           calibration=shown)
    return weights(made)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_reached(command, whole, tmp_path, capsys, monkeypatch, number, status):
    argv, calls = [*command[:-1], str(tmp_path / "two"), "--json"], []

    def pressed(batch):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(number)
        return losses.task(batch)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "LOSSES", {"task": pressed})
        capsys.readouterr()
        assert main(argv) == status
    told = json.loads(capsys.readouterr().out)["error"]
    assert told == {"message": f"Stopped at step 2; {tmp_path / 'two.state'} holds what was reached.",
                    "remedy": "The same command goes on there."}
    assert signal.getsignal(number) is handler
    assert not (tmp_path / "two").exists()
    assert main(argv) == 0
    assert not (tmp_path / "two.state").exists()
    assert same(weights(pruning.load(tmp_path / "two")), whole)


def untrained(batch):
    raise AssertionError("nothing is left to train")


@pytest.mark.parametrize("obstacle", ["files", "no room"])
def test_a_training_whose_folder_cannot_be_written_is_kept(command, whole, tmp_path, capsys, monkeypatch, obstacle):
    """The same command saves it when it can, and trains no more."""
    out, state, argv = tmp_path / "out", tmp_path / "out.state", [*command, "--json"]
    if obstacle == "files":
        monkeypatch.setattr("pruning.__main__.Watch", type("Watch", (Watch,), {"__call__": lambda *event: (
            out.mkdir(exist_ok=True), (out / "note").write_text("mine"))}))
    else:
        monkeypatch.setattr(saving, "halved", lambda pipe: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    capsys.readouterr()
    assert main(argv) == 1
    told = json.loads(capsys.readouterr().out)["error"]
    assert ("not empty" if obstacle == "files" else "disk is full") in told["message"]
    assert told["remedy"].startswith(f"{state} holds the training, and the same command goes on there")
    assert Training.read(state).step == 3
    monkeypatch.undo()
    if obstacle == "files":
        assert [file.name for file in out.iterdir()] == ["note"]
        shutil.rmtree(out)
    monkeypatch.setattr(loop, "LOSSES", {"task": untrained})
    assert main(argv) == 0
    assert same(weights(pruning.load(out)), whole)
    assert not state.exists()


def test_a_state_is_there_after_the_first_step(small, tiny, how, tmp_path):
    """Whatever comes then, even what no program can catch, loses seconds at most."""
    file, training = tmp_path / "state", Training()
    for event in keeping(recovering(small, tiny, how(), state=training), training, file):
        if isinstance(event, Trained):
            assert Training.read(file).step == {1: 1, 2: 1, 3: 3}[event.step]  # the second one is not due yet
    found = Training.read(file)
    assert found.on == "4 samples it was trained on"
    assert found.errors.keys() == {"before", "dense", "after"}
    assert found.finished(training.made_for, 3)
    assert not found.finished(training.made_for, 4)
    assert not found.finished(training.made_for | {"student": "another"}, 3)


def test_a_state_that_cannot_be_written_stops_the_first_step_and_no_later_one(small, tiny, how, tmp_path, monkeypatch,
                                                                              caplog):
    def fails(self, file):
        raise OSError(errno.EIO, "Input/output error", str(file))

    def run(steps_that_write):
        training, write = Training(), Training.write
        with monkeypatch.context() as patch:
            patch.setattr(keeper, "LEAST", 0.0)
            patch.setattr(keeper, "SHARE", 1e9)
            patch.setattr(Training, "write", lambda self, file: (
                write if self.step in steps_that_write else fails)(self, file))
            return drained(keeping(recovering(small, tiny, how(), state=training), training, tmp_path / "state"))

    with pytest.raises(pruning.Refused, match="Input/output error"):
        run(())
    assert entry(run((1,)))["steps"] == 3
    assert "The state of step 2 is not written" in caplog.text
    assert Training.read(tmp_path / "state").step == 1


def test_the_dense_models_own_pictures_teach_a_pruned_model_from_a_folder(album, folders, tmp_path, monkeypatch):
    """They come with the dense model alone; the pruned one reads their captions with its own encoder."""
    shutil.copytree(album, tmp_path / "tiny" / "calibration")
    captions = {f"{i}.png": "a b" if i % 2 else "b" for i in range(4)}
    (tmp_path / "tiny" / "calibration" / "captions.json").write_text(json.dumps(captions))
    monkeypatch.setattr("pruning.calibration.pictures.MODELS", tmp_path)
    monkeypatch.chdir(tmp_path)
    dense = note(pruning.load(folders / "dense"), source="tiny")
    made = pruning.recover(pruning.load(folders / "pruned"), dense, steps=1, batch=2)
    assert entry(made)["options"]["calibration"]["source"] == "bundled"
    assert entry(made)["on"] == "4 samples it was trained on"


def test_ctrl_c_before_anything_was_trained(tmp_path):
    asked = Asked()
    asked.signal = signal.SIGINT
    bar = type("Bar", (), {"set_description": lambda *a, **k: None, "update": lambda *a: None, "n": 0})()
    with pytest.raises(KeyboardInterrupt):
        Watch(bar, Training(), tmp_path / "state", asked)(Looked(1, 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flags", "words"), [
    (("--steps", "0"), "steps cannot be 0"), (("--steps", "many"), "steps takes a whole number"),
    (("--loss", "tusk"), "There are task"), (("--loss", "task=x"), "a number"),
    (("--component", "text_encoder"), "is no denoiser"), (("--state", "."), "There is no file"),
    (("--state", "out/state"), "Choose a file beside it")])
def test_commands_that_are_refused(command, capsys, flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command, *flags]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


