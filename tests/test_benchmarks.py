import copy

import pytest
import torch
from torch import nn

from benchmarks import scale
from benchmarks.spent import Spent, in_turn
from benchmarks.table import shown


def test_power():
    assert scale.power([1, 10, 100], [3, 300, 30000]) == pytest.approx((2, 3))


@pytest.mark.parametrize(("value", "text"), [
    (7198.259, "7200"), (999.9, "1000"), (999.4, "999"), (-1290.67, "-1290"), (0.0402, "0.0402"), (2.46e-5, "2.46e-05"),
    (-0.0, "0"), (11106560, "11106560"), ("1.7 to 2.6", "1.7 to 2.6")])
def test_measured_numbers_have_three_digits(value, text):
    assert shown(value) == text


def net(*weights):
    layer = nn.Linear(len(weights), 1)
    layer.weight = nn.Parameter(torch.tensor([weights]))
    return layer


def test_masks_agree_up_to_ties():
    dense = net(1.0, 2.0, -2.0, 3.0)
    assert scale.agreed(dense, net(0.0, 0.0, -2.0, 3.0), net(0.0, 2.0, 0.0, 3.0)) == (2, 2)
    for other in (net(0.0, 2.0, -2.0, 3.0), net(0.0, 2.0, -2.0, 0.0)):  # fewer zeros; weights of other sizes
        with pytest.raises(RuntimeError, match="differ"):
            scale.agreed(dense, net(0.0, 0.0, -2.0, 3.0), other)


def test_torch_removes_what_we_remove():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(8, 4))
    assert scale.agreed(dense, scale.ours(dense), scale.peer(copy.deepcopy(dense))) == (160, 0)


def test_memory_is_counted_at_its_peak():
    taken = in_turn({"work": (lambda size: torch.ones(size).sum(), lambda: 10_000_000)}, 2)["work"]
    assert all(isinstance(one, Spent) and 36e6 < one.extra < 60e6 for one in taken)
