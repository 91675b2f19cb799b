"""Looking at inputs and gradients: small cases by hand, and nothing left behind."""

import tempfile
from types import SimpleNamespace

import pytest
import torch
from conftest import pipeline, same, state
from torch import nn

from pruning import cache
from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.errors import Refused
from pruning.network.subject import subject
from pruning.observe import gradients, inputs, modes
from pruning.progress import drained
from pruning.types import Calibration
from pruning.units.site import Member, Site

NOISE = Calibration(samples=4, source="noise")


@pytest.fixture(autouse=True)
def nothing_kept():
    """Every test looks anew."""
    cache.forget()


@pytest.fixture
def shown(monkeypatch):
    """A subject of any network, shown given calls."""
    def subject_of(net, *calls):
        def making(subject, calibration):
            yield from ()
            return calls

        monkeypatch.setattr(samples, "why_not", lambda subject, sees: None)
        monkeypatch.setattr(samples, "settled", lambda subject, calibration: calibration or Calibration(
            samples=len(calls)))
        monkeypatch.setattr(samples, "mark", lambda subject, calibration: calls)
        monkeypatch.setattr(samples, "making", making)
        return subject(net)
    return subject_of


def given(values, level=0.0, target=None):
    return Call({"input": torch.tensor(values)}, level, target if target is None else torch.tensor(target))


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


# Inputs.


def test_norms_of_linear_layers_by_hand(shown):
    net = nn.Sequential(linear([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), nn.ReLU(), linear([[1.0, 1.0, 1.0]]))
    looked_at = shown(net, given([[3.0, 0.0], [4.0, 0.0]], 0.1), given([[0.0, -2.0]], 0.9))
    norms = drained(inputs.input_norms(looked_at, None, 2))
    assert norms["0"].tolist() == [pytest.approx([12.5 ** 0.5, 0]), [0, 2]]  # (9 + 16) / 2
    assert norms["2"].tolist() == [pytest.approx([12.5 ** 0.5, 0, 12.5 ** 0.5]), [0, 0, 0]]  # after the ReLU


def test_norms_of_convolutions_are_of_channels(shown):
    net = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1, groups=2))
    looked_at = shown(net, given([[[[1.0, 1.0]], [[2.0, 0.0]], [[0.0, 0.0]], [[3.0, 4.0]]]]))
    norms = drained(inputs.input_norms(looked_at, None, 1))
    assert norms["0"].tolist() == [pytest.approx([1, 2 ** 0.5, 0, 12.5 ** 0.5])]


def test_an_empty_bucket_has_the_mean_of_the_others(shown):
    looked_at = shown(nn.Sequential(linear([[1.0]])), given([[1.0]], 0.0), given([[3.0]], 0.0), given([[1.0]], 1.0))
    norms = drained(inputs.input_norms(looked_at, None, 4))
    assert norms["0"].flatten().tolist() == pytest.approx([5 ** 0.5, 3 ** 0.5, 3 ** 0.5, 1])  # squares: 5, 3, 3, 1


def test_a_layer_that_no_call_goes_through_has_zeros(shown):
    net = nn.Sequential(linear([[1.0, 1.0]]))
    net[0].spare = nn.Linear(3, 3)
    norms = drained(inputs.input_norms(shown(net, given([[1.0, 2.0]])), None, 2))
    assert norms["0.spare"].tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(("level", "place"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.999, 3), (1.0, 3)])
def test_the_bucket_of_a_level(level, place):
    assert inputs.bucket(level, 4) == place


def test_what_weights_meet_in_groups_and_back():
    layer = nn.Conv2d(4, 6, 1, groups=2)
    piece = layer.weight.detach().movedim(1, -1)[2:5]  # outputs 2, 3 and 4; the second group begins at 3
    rows = inputs.met(torch.tensor([1.0, 2.0, 3.0, 4.0]), layer, 2, piece)
    assert rows.squeeze().tolist() == [[1, 2], [3, 4], [3, 4]]
    ones = torch.ones(3, 1, 1, 2)
    assert inputs.by_input(ones, layer, 2).tolist() == [1, 1, 2, 2]
    assert inputs.by_input(torch.ones(3, 5, 5, 4), nn.Conv2d(4, 3, 5), 0).tolist() == [75] * 4


# Gradients.


def test_gradients_by_hand(shown):
    net = nn.Sequential(linear([[2.0, -1.0]], [0.5]))
    looked_at = shown(net, given([[1.0, 0.0]], 0.1, [[0.5]]), given([[0.0, 2.0]], 0.9, [[-2.5]]))
    # The answers are 2.5 and -1.5, the errors 2 and 1; dL/dw = 2 error x, dL/db = 2 error.
    mean = drained(gradients.gradients(looked_at, None))
    assert mean.mean["0.weight"].tolist() == [[2.0, 2.0]]  # of (4, 0) and (0, 4)
    assert mean.mean["0.bias"].tolist() == [3.0]  # of 4 and 2
    square = drained(gradients.gradients(looked_at, None, "square"))
    assert square.mean["0.weight"].tolist() == [[8.0, 8.0]]
    assert square.mean["0.bias"].tolist() == [10.0]
    assert mean.effects.tolist() == [[8.0, 2.0], [4.0, 1.0]]  # |w g| summed over a tensor
    assert square.effects.tolist() == [[64.0, 4.0], [16.0, 1.0]]  # w² g²


def test_a_profile_is_the_mean_over_weights_for_each_bucket(shown):
    net = nn.Sequential(linear([[2.0, -1.0]], [0.5]))
    looked_at = shown(net, given([[1.0, 0.0]], 0.1, [[0.5]]), given([[0.0, 2.0]], 0.9, [[-2.5]]))
    found = drained(gradients.gradients(looked_at, None))
    weights = Site("0", "weight", 2, (Member("0.weight", 0),), inputs=2)
    assert found.profile(weights, 2).tolist() == [4.0, 2.0]
    assert found.profile(weights, 4).tolist() == [4.0, 3.0, 3.0, 2.0]
    outputs = Site("0#outputs", "neuron", 1, (Member("0.weight", 0), Member("0.bias", 0)))
    assert found.profile(outputs, 1).tolist() == [2.5]  # (10 + 5) / 2 calls / 3 weights


def test_an_answer_with_variances_is_compared_where_it_has_a_target(shown):
    net = nn.Sequential(linear([[1.0], [7.0]]))
    found = drained(gradients.gradients(shown(net, given([[1.0]], 0.0, [[0.0]])), None))
    assert found.mean["0.weight"].tolist() == [[2.0], [0.0]]


def test_samples_without_a_right_answer_are_refused(shown):
    with pytest.raises(Refused, match="right answer to these samples is not known"):
        drained(gradients.gradients(shown(nn.Sequential(linear([[1.0]])), given([[1.0]])), None))


def test_a_component_without_a_loss_is_refused(tiny):
    with pytest.raises(Refused, match="The text encoder is no denoiser"):
        next(gradients.gradients(subject(tiny, "text_encoder"), None))


def test_half_precision_has_the_same_gradients_nearly(tiny):
    whole = drained(gradients.gradients(subject(tiny.unet), NOISE))
    half = drained(gradients.gradients(subject(pipeline().unet.half()), NOISE))
    name = "mid_block.resnets.0.conv1.weight"
    assert half.mean[name].dtype == torch.float32
    assert (half.mean[name] - whole.mean[name]).norm() < 0.05 * whole.mean[name].norm()


def test_gradients_lie_on_the_disk_when_memory_is_short(tiny, monkeypatch):
    looked_at, mapped = subject(tiny.unet), []
    usual = drained(gradients.gradients(looked_at, NOISE, "square"))
    cache.forget()
    monkeypatch.setattr(modes.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    real = modes.np.memmap
    monkeypatch.setattr(modes.np, "memmap", lambda *given, **how: mapped.append(real(*given, **how)) or mapped[-1])
    short = drained(gradients.gradients(looked_at, NOISE, "square"))
    assert [flat.shape for flat in mapped] == [(sum(p.numel() for p in tiny.unet.parameters()),)]
    assert all(torch.equal(short.mean[name], mean) for name, mean in usual.mean.items())
    assert mapped[0].any()


def test_no_room_anywhere_is_said_before_anything_runs(tiny, monkeypatch):
    monkeypatch.setattr(modes.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    monkeypatch.setattr(modes.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(Refused, match=f"neither memory nor disk has room.*{tempfile.gettempdir()}"):
        drained(gradients.gradients(subject(tiny.unet), NOISE, "square"))


# Nothing is left behind.


def traces(net):
    """All that looking could leave on a network."""
    return (dict(state(net)), [module.training for module in net.modules()],
            [p.requires_grad for p in net.parameters()], [p.grad for p in net.parameters()],
            [len(module._forward_pre_hooks) for module in net.modules()],
            [len(p._post_accumulate_grad_hooks or ()) for p in net.parameters()], torch.get_rng_state().tolist())


def unchanged(before, after):
    return same(before[0], after[0]) and before[1:3] == after[1:3] and before[4:] == after[4:] and all(
        one is other for one, other in zip(before[3], after[3], strict=True))


WORKS = [lambda looked_at: inputs.input_norms(looked_at, NOISE, 2),
         lambda looked_at: gradients.gradients(looked_at, NOISE),
         lambda looked_at: gradients.gradients(looked_at, NOISE, "square", of="output")]


@pytest.fixture
def busy():
    """A network in the middle of something: training, with a gradient, and a part that is frozen."""
    net = pipeline().unet.train()
    net.conv_in.requires_grad_(False)
    net.conv_out.weight.grad = torch.ones_like(net.conv_out.weight)
    return net


@pytest.mark.parametrize("work", WORKS)
def test_the_network_is_left_as_it_was_between_any_two_events(busy, work):
    before, running = traces(busy), work(subject(busy))
    for _ in running:  # while it waits, and when it is done
        assert unchanged(before, traces(busy))
    assert unchanged(before, traces(busy))


@pytest.mark.parametrize("work", WORKS)
def test_the_network_is_left_as_it_was_after_an_error(busy, work):
    before = traces(busy)

    def stop(*_):
        raise RuntimeError("stopped")

    hook = busy.mid_block.register_forward_hook(stop)
    with pytest.raises(RuntimeError, match="stopped"):
        drained(work(subject(busy)))
    hook.remove()
    assert unchanged(before, traces(busy))


def test_gradients_are_taken_where_the_caller_wants_none(tiny):
    with torch.no_grad():
        found = drained(gradients.gradients(subject(tiny.unet), NOISE))
        assert not torch.is_grad_enabled()
    assert found.mean["conv_in.weight"].any()


# Looking once.


@pytest.fixture
def passes(tiny):
    """How many times the U-Net ran so far."""
    count = []
    hook = tiny.unet.register_forward_hook(lambda *_: count.append(1))
    yield count
    hook.remove()


def test_statistics_are_taken_once(tiny, passes):
    looked_at = subject(tiny.unet)
    first = drained(inputs.input_norms(looked_at, NOISE, 2))
    assert len(passes) == 4
    assert list(inputs.input_norms(looked_at, NOISE, 2)) == []  # no event, no pass
    assert drained(inputs.input_norms(looked_at, NOISE, 2)) is first
    assert len(passes) == 4
    drained(inputs.input_norms(looked_at, NOISE, 3))
    assert len(passes) == 8
    again = drained(inputs.input_norms(subject(pipeline().unet), NOISE, 2))  # another object of the same content
    assert again is first


def test_other_weights_are_looked_at_anew(tiny):
    drained(inputs.input_norms(subject(tiny.unet), NOISE, 2))
    changed = pipeline().unet
    with torch.no_grad():
        changed.conv_in.weight.mul_(2)
    looks = [event for event in inputs.input_norms(subject(changed), NOISE, 2) if event.what == "looking at inputs"]
    assert [(look.done, look.of) for look in looks] == [(i, 4) for i in (1, 2, 3, 4)]


def test_only_the_newest_gradients_are_kept(tiny, passes):
    looked_at = subject(tiny.unet)
    first = drained(gradients.gradients(looked_at, NOISE))
    assert drained(gradients.gradients(looked_at, NOISE)) is first
    assert len(passes) == 4
    drained(gradients.gradients(looked_at, NOISE, "square"))
    assert len(gradients._gradients) == 1
    assert drained(gradients.gradients(looked_at, NOISE)) is not first
    assert len(passes) == 12


def test_the_same_calibration_gives_the_same_statistics(tiny):
    looked_at = subject(tiny.unet)
    first, mean = drained(inputs.input_norms(looked_at, NOISE, 2)), drained(
        gradients.gradients(looked_at, NOISE)).mean
    cache.forget()
    cache.forget(["calibration samples"])
    again = drained(inputs.input_norms(looked_at, NOISE, 2))
    assert all(torch.equal(norm, again[name]) for name, norm in first.items())
    again = drained(gradients.gradients(looked_at, NOISE)).mean
    assert all(torch.equal(value, again[name]) for name, value in mean.items())
