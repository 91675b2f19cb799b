"""What sets two sides apart besides pruning is refused, and both run as copies that were made in the same way."""

import copy

import pytest
import torch
from conftest import output, same, state
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

import pruning
from pruning.network.notes import plan_of
from pruning.network.obstacles import compiled
from pruning.surgery.slices import format_of
from pruning.timing import alike, clock

SHOT = pruning.Shot("a", steps=1)


@pytest.fixture(scope="module")
def smaller(tiny):
    return pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))


def changed(pipe, **parts):
    """The pipeline with other components."""
    twin = copy.copy(pipe)
    for name, part in parts.items():
        setattr(twin, name, part)
    return twin


def with_unet(pipe, change):
    """The pipeline with a U-Net of its own that something was done to; what that gives takes its place, if a module."""
    net = copy.deepcopy(pipe.unet)
    made = change(net)
    return changed(pipe, unet=made if isinstance(made, nn.Module) else net)


def hooked(net):
    """As a cache or a patch does it: a hook that holds on to the model."""
    net.mid_block.register_forward_hook(lambda *_: net.config and None)


def patched(net):
    forward = net.mid_block.forward
    net.mid_block.forward = lambda *given, **named: forward(*given, **named)


# Both sides get the same history.


def test_both_are_copied_in_the_same_way(tiny, smaller):
    before = state(tiny), state(smaller)
    pair = alike.copies(tiny, smaller)
    for old, new in zip((tiny, smaller), pair, strict=True):
        assert new.unet is not old.unet
        assert torch.equal(output(old, "unet"), output(new, "unet"))
        here = {tensor.data_ptr() for tensor in old.unet.parameters()}
        assert not here & {tensor.data_ptr() for tensor in new.unet.parameters()}
        assert (new.text_encoder, new.vae) == (tiny.text_encoder, tiny.vae)  # shared: nothing to set them apart
    assert same(before[0], state(tiny))
    assert same(before[1], state(smaller))
    assert pruning.report(*pair, plan_of(pair[1])).units == pruning.report(
        tiny, smaller, plan_of(smaller)).units


def test_what_runs_on_the_clock_are_the_copies(tiny, smaller, monkeypatch):
    ran, drawing = [], clock.drawing
    monkeypatch.setattr(clock, "drawing", lambda pipe, *given: ran.append(pipe.unet) or drawing(pipe, *given))
    pruning.measure(tiny, smaller, SHOT, repeats=1)
    assert len(ran) == 4
    assert not {tiny.unet, smaller.unet} & set(ran)
    assert len(set(ran)) == 2
    nothing = pruning.apply(tiny, pruning.plan(tiny, ratio=0))  # it shares every tensor, and is a copy
    del ran[:]
    pruning.measure(tiny, nothing, SHOT, repeats=1)
    assert not {tiny.unet, nothing.unet} & set(ran)
    del ran[:]
    pruning.measure(tiny, tiny, SHOT, repeats=1)
    assert set(ran) == {tiny.unet}


def test_a_decoder_is_copied_inside_its_autoencoder(tiny):
    half = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="channel", component="vae.decoder"))
    one, other = alike.copies(tiny, half)
    assert one.unet is other.unet is tiny.unet
    for old, new in ((tiny, one), (half, other)):
        assert new.vae.decoder is not old.vae.decoder
        assert new.vae.encoder is not old.vae.encoder or new.vae is not old.vae
        assert torch.equal(output(old, "vae.decoder"), output(new, "vae.decoder"))


def test_where_memory_is_short_copies_share_the_tensors(tiny, smaller, monkeypatch):
    size = sum(tensor.nbytes for pipe in (tiny, smaller) for net in [pipe.unet] for tensor in net.state_dict().values())
    for free, shared in ((2 * size, True), (2 * size + 2, False)):
        monkeypatch.setattr(alike, "available", lambda free=free: free)
        for old, new in zip((tiny, smaller), alike.copies(tiny, smaller), strict=True):
            assert new.unet is not old.unet
            assert (new.unet.conv_in.weight is old.unet.conv_in.weight) == shared


@pytest.mark.parametrize("both", [
    lambda net: net.compile(backend="eager"), hooked, patched, lambda net: torch.compile(net, backend="eager")])
def test_what_was_done_to_both_sides_stays(tiny, smaller, both):
    pair = with_unet(tiny, both), with_unet(smaller, both)
    alike.check(*pair)
    assert [pipe.unet for pipe in alike.copies(*pair)] == [pipe.unet for pipe in pair]


def test_patched_pipelines_run_as_they_are(tiny, smaller):
    pair = changed(tiny), changed(smaller)
    for pipe in pair:
        own = pipe.encode_prompt
        pipe.encode_prompt = lambda *given, own=own, **named: own(*given, **named)
    assert alike.copies(*pair) == pair
    pruning.measure(*pair, SHOT, repeats=1)


# What is done to one side alone.


@pytest.mark.parametrize(("change", "words"), [
    (lambda net: net.compile(backend="eager"), "is compiled, unlike .* compile both in the same way"),
    (lambda net: torch.compile(net, backend="eager"), "is compiled, unlike"),
    (lambda net: net.mid_block.compile(backend="eager"), "is compiled, unlike"),
    (lambda net: setattr(net, "forward", torch.compile(net.forward, backend="eager")), "is compiled, unlike"),
    (hooked, r"has a hook \(forward hooks\) that holds on to this model, unlike"),
    (patched, "has a forward that is not its class's, unlike"),
    (lambda net: net.set_attn_processor(AttnProcessor()), "attending by AttnProcessor.*attending by AttnProcessor"),
    (lambda net: net.to(memory_format=torch.channels_last), "in channels_last format"),
    (lambda net: net.train(), "in training mode"),
    (lambda net: net.conv_out.double() and None, "torch.float32 on cpu, torch.float64 on cpu")])
def test_unlike_sides_are_refused_whichever_it_is(tiny, smaller, change, words):
    odd = with_unet(tiny, change)
    with pytest.raises(pruning.Refused, match=words):
        pruning.measure(odd, smaller, SHOT)
    with pytest.raises(pruning.Refused, match=words):
        pruning.measure(smaller, odd, SHOT)


def test_a_compiled_model_against_what_apply_gives_of_it(tiny):
    """apply leaves out what was compiled, and its clock would say that pruning made the model slower."""
    fast = with_unet(tiny, lambda net: torch.compile(net, backend="eager"))
    pruned = pruning.apply(fast, pruning.plan(fast, ratio=0.5))
    words = ("The unet of the dense model is compiled, unlike that of the other: their times would differ for that "
             "alone. What apply gives is not compiled: compile both in the same way, or measure both before that.")
    with pytest.raises(pruning.Refused) as refused:
        pruning.measure(fast, pruned, SHOT)
    assert str(refused.value) == words
    pruned.unet = torch.compile(pruned.unet, backend="eager")
    assert pruning.measure(fast, pruned, SHOT, repeats=1).state == "too few"


@pytest.mark.parametrize(("name", "method"), [("vae", "decode"), ("pipeline", "encode_prompt")])
def test_a_compiled_method_counts(tiny, smaller, name, method):
    odd = changed(tiny, vae=copy.deepcopy(tiny.vae))
    owner = odd if name == "pipeline" else odd.vae
    setattr(owner, method, torch.compile(getattr(owner, method), backend="eager"))
    assert compiled(owner)
    with pytest.raises(pruning.Refused, match="of the dense model is compiled"):
        pruning.measure(odd, smaller, SHOT)


@pytest.mark.parametrize("units", ["weight", "width"])
def test_pruned_weights_keep_their_format(tiny, units):
    """Or the pruned side alone would pay for every convolution's weights to be laid out anew."""
    last = with_unet(tiny, lambda net: net.to(memory_format=torch.channels_last))
    pruned = pruning.apply(last, pruning.plan(last, ratio=0.5, units=units))
    kinds = {format_of(net.weight) for pipe in (last, pruned) for net in pipe.unet.modules()
             if isinstance(net, nn.Conv2d) and min(net.weight.shape) > 1}
    assert kinds == {torch.channels_last}
    pruning.measure(last, pruned, SHOT, repeats=1)
    pruning.measure(tiny, pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units=units)), SHOT, repeats=1)


@pytest.mark.parametrize("asked", [{"ratio": 0.5}, {"pattern": "2:4"}, {"ratio": 0.5, "units": "head"},
                                   {"ratio": 0.5, "units": "channel"}])
@pytest.mark.parametrize("masked", [False, True])
def test_whatever_was_pruned_is_alike(tiny, asked, masked):
    alike.check(tiny, pruning.apply(tiny, pruning.plan(tiny, **asked), masked=masked))
