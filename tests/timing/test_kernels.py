"""Which layers have a 2:4 kernel, row by row of PyTorch's table, and what that caps, by hand and for SD-1.5."""

import pytest
import torch
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

import pruning
from pruning.network.inputs import Example
from pruning.timing.kernels import MULTIPLES, Ceiling, amdahl, ceiling, kernel_for
from pruning.units.catalog import find
from pruning.units.costs import Costs, trace
from pruning.units.site import Member, Site


def layer(rows, inputs, *kernel, name="layer"):
    shape = (rows, inputs, *kernel)
    return Site(name, "nm", torch.Size(shape).numel(), (Member(f"{name}.weight", 0),), inputs=inputs), shape


def reason(rows, inputs, *kernel, dtype=torch.float16, device="cuda", pattern="2:4"):
    return kernel_for(*layer(rows, inputs, *kernel), dtype, device, pattern)


def test_the_table_is_that_of_torch():
    libraries = {"cuSPARSELt": SparseSemiStructuredTensorCUSPARSELT, "CUTLASS": SparseSemiStructuredTensorCUTLASS}
    for name, library in libraries.items():
        theirs = {dtype: (rule.sparse_min_rows, rule.sparse_min_cols)
                  for dtype, rule in library._DTYPE_SHAPE_CONSTRAINTS.items()}
        assert theirs == {dtype: rules[name] for dtype, rules in MULTIPLES.items() if name in rules}


@pytest.mark.parametrize(("dtype", "rows", "inputs"), [
    (torch.float16, 16, 16), (torch.float16, 48, 80), (torch.float16, 32, 64), (torch.bfloat16, 16, 16),
    (torch.bfloat16, 1280, 5120), (torch.int8, 32, 32), (torch.int8, 16, 128), (torch.float8_e4m3fn, 32, 32),
    (torch.float16, 320, 768)])
def test_shapes_that_fit(dtype, rows, inputs):
    assert reason(rows, inputs, dtype=dtype) is None


@pytest.mark.parametrize(("dtype", "rows", "inputs", "words"), [
    (torch.float16, 8, 16, "8 rows are not a multiple of 16"),
    (torch.float16, 16, 24, "24 inputs are not a multiple of 16"),
    (torch.bfloat16, 100, 64, "100 rows are not a multiple of 16"),
    (torch.int8, 16, 64, "16 rows are not a multiple of 32"),
    (torch.int8, 64, 48, "48 inputs are not a multiple of 32"),
    (torch.float8_e4m3fn, 16, 128, "16 rows are not a multiple of 32"),
    (torch.float32, 64, 64, "PyTorch's float32 kernels skip 1 of each 2 weights, not 2 of each 4"),
    (torch.float64, 64, 64, "PyTorch has no 2:4 kernel for float64")])
def test_shapes_that_do_not(dtype, rows, inputs, words):
    assert reason(rows, inputs, dtype=dtype) == words


@pytest.mark.parametrize(("how", "words"), [
    ({"device": "cpu"}, "a CPU has no 2:4 kernel in PyTorch"),
    ({"device": "mps"}, "an Apple GPU has no 2:4 kernel in PyTorch"),
    ({"pattern": "1:4"}, "only 2:4 has kernels, not 1:4"), ({"pattern": "4:8"}, "only 2:4 has kernels, not 4:8")])
def test_places_and_patterns_that_do_not(how, words):
    assert reason(64, 64, **how) == words


def test_what_is_stored_of_float32_is_one_of_two():
    """So a 2:4 weight in float32 would lose numbers: here 2 of the first pair."""
    weight = torch.tensor([[1.0, 2, 0, 0]]).repeat(32, 8)
    packed, meta = sparse_semi_structured_from_dense_cutlass(weight)
    assert not torch.equal(sparse_semi_structured_to_dense_cutlass(packed, meta), weight)
    packed, meta = sparse_semi_structured_from_dense_cutlass(weight.half().repeat(1, 2))
    assert torch.equal(sparse_semi_structured_to_dense_cutlass(packed, meta), weight.half().repeat(1, 2))


def test_convolutions_have_none():
    for kernel in ((3,), (1, 1), (3, 3)):
        assert reason(64, 64, *kernel) == "PyTorch has 2:4 kernels for linear layers only"


def test_amdahl_by_hand():
    assert amdahl(100, 100) == amdahl(100, 100, 0.5) == 1
    assert amdahl(100, 50) == 2
    assert amdahl(100, 50, 0.8) == pytest.approx(1 / (0.2 + 0.4))
    assert amdahl(100, 25, 0) == 1
    assert amdahl(3 * 10**11, 10**11) == 3


LAYERS = (("a", (32, 32), 10), ("b", (32, 32, 3, 3), 2), ("c", (24, 32), 4), ("d", (32, 64), 1))


def some():
    """Sites and costs: a has 10,240 MACs, b 18,432, c 3,072, d 2,048, attention 13,312; 47,104 in all."""
    costs = Costs({f"{name}.weight": shape for name, shape, _ in LAYERS},
                  {f"{name}.weight": uses for name, _, uses in LAYERS}, {"attn": 13_312}, (), known=True)
    return [layer(*shape, name=name)[0] for name, shape, _ in LAYERS], costs


def test_a_ceiling_by_hand():
    sites, costs = some()
    assert costs.count()[1] == 47_104
    found = ceiling(sites, costs, torch.float16, "cuda", "2:4")
    assert (found.eligible, found.layers, found.skipped) == (2, 4, (10_240 + 2048) // 2)
    assert found.f == 12_288 / 47_104
    assert found.speedup == pytest.approx(1 / (1 - found.f / 2))
    assert found.without == {"PyTorch has 2:4 kernels for linear layers only": 1,
                             "24 rows are not a multiple of 16": 1}
    half = ceiling(sites, costs, torch.float16, "cuda", "2:4", share=0.5)
    assert half.speedup == pytest.approx(1 / (0.5 + 0.5 * (1 - found.f / 2)))
    assert ceiling(sites[:1], costs, torch.float16, "cuda", "2:4").skipped == 10_240 // 2


def test_there_is_no_ceiling_above_one_without_kernels():
    sites, costs = some()
    assert ceiling(sites, costs, torch.float16, "cpu", "2:4") == Ceiling(
        0, 4, 0.0, 0, 1.0, {"a CPU has no 2:4 kernel in PyTorch": 4})
    assert ceiling([], costs, torch.float16, "cuda", "2:4") == Ceiling(0, 0, 0.0, 0, 1.0, {})
    nobody = Costs({"a.weight": (32, 32)}, {}, {}, (), known=False)  # a class whose MACs are not counted
    assert ceiling(sites[:1], nobody, torch.float16, "cuda", "2:4").speedup == 1


def test_stable_diffusion_1_5():
    """All of its linear layers fit, and a perfect kernel for them makes the U-Net 1.17 times as fast at best."""
    net = pruning.load("sd-1.5", weights="meta").unet
    costs, sites = trace(net, Example(64, 77)), list(find(net, "nm"))
    assert costs.count()[0] == 859_520_964
    found = ceiling(sites, costs, torch.float16, "cuda", "2:4")
    assert (found.eligible, sum(found.without.values())) == (184, 98)
    assert list(found.without) == ["PyTorch has 2:4 kernels for linear layers only"]
    assert round(found.f, 2) == 0.29
    assert round(found.speedup, 2) == 1.17
    assert ceiling(sites, costs, torch.float32, "cpu", "2:4").speedup == 1
