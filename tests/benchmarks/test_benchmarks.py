import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import pruning
from assets.make import tables
from benchmarks import cell, pairs, scale, steps, table, width
from benchmarks.cell import Cell
from benchmarks.spent import Spent, in_turn
from benchmarks.table import shown
from pruning.network.subject import subject
from pruning.units.catalog import find


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


# How much of the MACs' ratio the clock shows.

DENSE = {cell.KERNELS: 0.8, cell.NORMS: 0.1, cell.OTHERS: 0.06, cell.BETWEEN: 0.04}
PRUNED = {cell.KERNELS: 0.75, cell.NORMS: 0.1, cell.OTHERS: 0.1, cell.BETWEEN: 0.05}
ONE = Cell("m", "heads 50 %", 1, 16, (8e9, 4e9), ([100.0] * 6, [80.0] * 6), (DENSE, PRUNED))


def test_operators_are_counted_once_each():
    spent = {"mkldnn_convolution": 4.0, "addmm": 2.0, "_scaled_dot_product_flash_attention_for_cpu": 1.0,
             "native_group_norm": 0.5, "gelu": 0.5, "copy_": 1.5, "add": 0.25, cell.BETWEEN: 0.25}
    assert cell.shares(spent) == {cell.KERNELS: 0.7, cell.NORMS: 0.1, cell.OTHERS: 0.175, cell.BETWEEN: 0.025}


def test_a_cell_by_hand():
    assert (ONE.fewer, ONE.faster, ONE.won) == (2, pytest.approx((1.25, 1.25, 1.25)), pytest.approx(0.625))
    assert ONE.rates == pytest.approx([200, 400 / 3])
    assert ONE.why() == ("30 ms too many: kernels +20, elementwise and copies +5, norms and activations +3, between "
                         "operators +2. Kernels do 33 % fewer operations a second. 20 % of a dense call is outside "
                         "kernels: 1.67× if that did not shrink.")
    row = ONE.row()
    assert (row["speed-up"], row["GFLOP/s there"]) == ("1.25× (1.25 to 1.25)", "200 → 133")
    assert row["why below 0.8"] == ONE.why()


def test_kernels_that_run_as_well_are_not_the_reason():
    same = replace(ONE, macs=(8e9, 6e9))  # 60 ms of 80
    assert "Kernels run as well as before." in same.why()
    assert "Kernels do 33 % more" in replace(ONE, macs=(6e9, 6e9)).why()


def test_no_reason_where_none_is_needed():
    assert replace(ONE, ms=([100.0] * 6, [60.0] * 6)).row()["why below 0.8"] == ""  # 1.67 of 2


def test_cuts_are_timed_in_pairs_whichever_comes_first(tiny, monkeypatch):
    compared, checked = [], width.check
    monkeypatch.setattr(width, "check", lambda *pair: compared.append(pair) or checked(*pair))
    row = width.compared("tiny", tiny.unet, 6)
    assert len(compared) == 7  # one to warm up
    assert row["Torch-Pruning / ours"] not in ("", "too few runs to tell")


@pytest.mark.parametrize(("pruned", "words"), [
    ([99.0, 101, 100, 100, 99, 101], "no difference larger than 2 %"),
    ([90.0, 110, 100, 80, 125, 100], "too noisy to tell (0.80× to 1.25×)"),
    ([125.0] * 6, "0.80× (0.80 to 0.80)"), ([80.0] * 5, "too few runs to tell")])
def test_a_row_says_what_its_pairs_can_tell(pruned, words):
    one = replace(ONE, ms=([100.0] * len(pruned), pruned))
    assert one.row()["speed-up"] == words
    if one.faster is None:
        assert (one.won, one.row()["of the MACs ratio"], one.row()["why below 0.8"]) == (None, "", "")
        assert "rows with fewer MACs have too few pairs of calls to tell" in list(cell.notes([one]))[1]


def test_pairs_alternate_and_stay_together():
    order = []
    taken = pairs.in_turn([lambda: order.append("a") or len(order), lambda: order.append("b") or len(order)], 3)
    assert "".join(order) == "abbaab"
    assert taken == [[1, 4, 5], [2, 3, 6]]


def test_notes_say_where_compute_dominates_and_what_reaches_the_bar():
    fast = replace(ONE, removed="neurons 50 %", ms=([100.0] * 6, [50.0] * 6))
    zeros = replace(ONE, removed="2:4", macs=(8e9, 8e9))
    full = {**DENSE, cell.KERNELS: 0.9, cell.NORMS: 0.0}
    large = replace(fast, model="n", images=4, shares=(full, PRUNED), latents=8, too_long=25.0)
    meaning, *told = cell.notes([ONE, fast, zeros, large])
    assert meaning.startswith("Compute dominates where at least 85 %")
    assert told == [
        "`m`, 1 image: 80 % inside kernels, so compute does not dominate; 1 of 2 rows with fewer MACs reach 0.8 of the "
        "MACs ratio, the least 0.62 (heads 50 %).",
        "`n`, 4 images: 90 % inside kernels, so compute dominates; 1 of 1 rows with fewer MACs reach 0.8 of the MACs "
        "ratio, the least 1.00 (neurons 50 %).",
        "`n`, 4 images: a dense call at the model's own latents takes 25.0 s, too long to repeat, so it is timed at "
        "8 × 8; MACs are counted there, too."]


def test_hidden_and_stream_channels_go_alone(tiny):
    kinds = {site.name: site.kind for site in find(tiny.unet, "channel")}
    for removed, kind in (("hidden channels 50 %", "channel"), ("stream channels 50 %", "stream")):
        plan = pruning.plan(tiny, "magnitude", **steps.WIDTHS[removed])
        report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
        gone = {layer.name for layer in report.layers if layer.gone}
        assert {kinds[name] for name in gone} == {kind}
        assert len(gone) > 5


def test_latents_are_halved_until_a_call_is_short(tiny, monkeypatch):
    monkeypatch.setattr(steps, "call", lambda net, given: given["sample"][0].numel())  # ms
    example = replace(subject(tiny).example, latent=64)
    assert steps.latents(tiny.unet, example, 4) == (32, 16.384)  # 4 s there
    monkeypatch.setattr(steps, "LONGEST", 20)
    assert steps.latents(tiny.unet, example, 4) == (64, None)


@pytest.fixture
def small(tiny, monkeypatch, tmp_path):
    """The benchmark with a tiny model, two cases and six pairs; what it writes, and the cells it measures."""
    cases = {name: steps.WIDTHS[name] for name in ("heads 50 %", "stream channels 75 %")}
    monkeypatch.setattr(steps, "MODELS", {"tiny": steps.Model(lambda: tiny, cases, 6, 1)})
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    compared, done = steps.compared, []

    def noted(key, *others):
        done.append(key)
        if len(done) == 2:
            raise KeyboardInterrupt
        return compared(key, *others)

    monkeypatch.setattr(steps, "compared", noted)
    return tmp_path / "steps.json", done


def test_a_run_that_was_stopped_goes_on(small, tiny, capsys):
    file, done = small
    with pytest.raises(KeyboardInterrupt):
        steps.main([])
    assert [row["removed"] for row in json.loads(file.read_text())["rows"]] == ["heads 50 %"]
    steps.main([])
    assert done[1:] == [done[1], *steps.listed()[1:]]  # the first was kept
    body = json.loads(file.read_text())
    assert [Cell(**one).key for one in body["cells"]] == steps.listed()
    for row, one in zip(body["rows"], body["cells"], strict=True):
        plan = pruning.plan(tiny, "magnitude", **steps.WIDTHS[row["removed"]])
        macs = pruning.report(tiny, pruning.apply(tiny, plan), plan).macs
        assert row["MACs ratio"] == macs["dense"] / macs["pruned"] > 1
        assert one["macs"] == [row["images"] * macs["dense"], row["images"] * macs["pruned"]]
        assert all(sum(shares.values()) == pytest.approx(1) for shares in one["shares"])
        assert bool(row["why below 0.8"]) == (row["of the MACs ratio"] < 0.8)
    assert "| tiny | heads 50 % | 1 | 16 |" in capsys.readouterr().out
    del done[:]
    with pytest.raises(KeyboardInterrupt):
        steps.main(["--quick"])  # it was complete, so it begins anew; what was not asked for stays
    assert done == [key for key in steps.listed() if key[1] == "heads 50 %"]
    assert len(json.loads(file.read_text())["rows"]) == 3


def test_cells_of_too_few_pairs_are_taken_again(small, capsys):
    file, done = small
    with pytest.raises(KeyboardInterrupt):
        steps.main([])
    body = json.loads(file.read_text())
    body["cells"][0]["ms"] = [[2.0] * 3, [1.0] * 3]  # as earlier versions took them
    file.write_text(json.dumps(body))
    steps.main([])
    assert done[-4:] == steps.listed()
    assert all(len(side) == 6 for one in json.loads(file.read_text())["cells"] for side in one["ms"])


def test_another_machines_cells_are_not_gone_on_with(small, monkeypatch):
    table.keep("steps", "", [], cells=[ONE.to_dict()])
    assert [Cell(**one).key for one in table.kept("steps")] == [ONE.key]
    assert steps.going_on(steps.listed()) == {}  # not one of ours
    monkeypatch.setattr(table, "machine", lambda: "another")
    assert table.kept("steps") == []


def test_notes_stand_below_a_table(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    table.keep("some", "python -m some", [{"a": 1, "b": 0.12345}], ["One.", "Two."])
    assert tables.benchmark("some").splitlines()[1:] == ["", "| a | b |", "| --- | --- |", "| 1 | 0.123 |", "",
                                                         "- One.", "- Two."]
