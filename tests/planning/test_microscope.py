"""Groups along the input channels against a plain flattening, by hand."""

import pytest
import torch

from pruning.planning.microscope import grouping, look
from pruning.units.site import Member, Site

LINEAR = Site("linear", "nm", 8, (Member("linear.weight", 0),), inputs=4)
CONV = Site("conv", "nm", 16, (Member("conv.weight", 0),), inputs=4)


def test_both_groupings_of_a_linear_layer_are_one():
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    seen = look(LINEAR, weight, weight.abs(), "2:4")
    assert seen.alike
    assert seen.along_inputs == seen.flattened
    assert seen.along_inputs.compliance == 1
    assert seen.along_inputs.retained == pytest.approx((50 / 60) ** 0.5)  # 9 + 16 of 1 + 4 + 9 + 16, in both rows


def test_flattening_a_convolution_groups_across_the_kernel():
    weight = torch.zeros(1, 4, 1, 4)  # (output, input, kernel row, kernel column)
    weight[0, 0], weight[0, 1] = 4.0, 3.0  # each input channel has one size at all four positions
    weight[0, 2], weight[0, 3] = 2.0, 1.0
    seen = look(CONV, weight, CONV.rows(weight.abs()), "2:4")
    assert not seen.alike
    assert seen.along_inputs.compliance == 1
    assert seen.along_inputs.retained == pytest.approx((25 / 30) ** 0.5)  # channels 0 and 1 stay everywhere
    # Flattened, each channel keeps its first two positions: there all four inputs stay, elsewhere none.
    assert seen.flattened.compliance == 0.5
    assert seen.flattened.retained == pytest.approx(0.5**0.5)


def test_a_layer_of_zeros_loses_nothing():
    assert grouping(torch.zeros(1, 4), torch.tensor([[True, True, False, False]]), "2:4").retained == 1


def test_what_a_flattening_cannot_group_stays():
    odd = Site("odd", "nm", 12, (Member("odd.weight", 0),), inputs=4)
    weight = torch.arange(1.0, 13.0).view(1, 4, 3)
    seen = look(odd, weight, odd.rows(weight), "2:4")
    assert 0 < seen.flattened.compliance <= 1
