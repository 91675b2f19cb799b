"""Masks from decisions, whole and in pieces, and packed into bits."""

import pytest
import torch

from pruning.decisions.bits import mark, packed, unpacked
from pruning.decisions.kind import kind_of
from pruning.errors import Refused
from pruning.scores.scores import SiteScores
from pruning.scores.sketch import keys
from pruning.types import Decision
from pruning.units.site import Member, Site

LINEAR = Site("x", "weight", 8, (Member("x.weight", 0),), inputs=4)
CONV = Site("x", "weight", 24, (Member("x.weight", 0),), inputs=3)


def only(decision, pieces, shape):
    ((_, keep),) = kind_of(decision).resolved(decision, pieces, lambda site: shape)
    return keep


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize(("kept", "stays"), [(3, [[0, 0, 1, 1], [1, 0, 1, 1]]), (4, [[0, 1, 1, 1], [1, 0, 1, 1]]),
                                             (0, [[0, 0, 0, 0], [1, 0, 0, 1]])])
def test_a_threshold_says_key_and_how_many_of_it_stay(cut, kept, stays):
    values = torch.tensor([[1.0, 2.0, 2.0, 2.0], [3.0, 0.0, 2.0, 9.0]])
    pieces = [SiteScores(LINEAR, values[:cut]), SiteScores(LINEAR, values[cut:], cut)]
    decision = Decision("threshold", {"x": [int(keys(torch.tensor(2.0))), kept, 0]})
    assert only(decision, pieces, (2, 4)).int().tolist() == stays


def test_ties_of_a_convolution_go_along_its_rows():
    weight = torch.ones(2, 3, 2, 2)
    decision = Decision("threshold", {"x": [int(keys(torch.tensor(1.0))), 19, 5]})
    keep = only(decision, [SiteScores(CONV, piece, start) for start, piece in CONV.pieces(weight)], weight.shape)
    assert CONV.rows(keep).reshape(-1, 3).int().tolist() == [[0, 0, 0], [0, 0, 1], *[[1, 1, 1]] * 6]


def test_bits_come_back_as_they_were():
    keep = torch.rand(3, 5, 2, 1, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = packed(keep)
    decision = Decision("bits", {"x": [mark(bits), 3]}, {"x": bits})
    assert torch.equal(unpacked(decision, CONV, keep.shape), keep)
    with pytest.raises(Refused, match="another size"):
        unpacked(decision, CONV, torch.Size((100, 5)))
    for changed in ({}, {"x": bits.flip(0)}):
        with pytest.raises(Refused, match="masks of this plan are"):
            unpacked(Decision("bits", decision.sites, changed), CONV, keep.shape)
