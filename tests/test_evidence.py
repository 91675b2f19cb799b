"""The evidence for Diff-Pruning: the table and its sentences by hand, and a run on a tiny model that is stopped."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exact_in_half, same, state
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import pruning
from assets.make import evidence, evidence_table, tables
from assets.make.cells import METHODS, Cell, Settings, Work, made_fresh, upside_down
from assets.make.features import Eyes
from assets.make.yardstick import Yardstick, kept
from pruning.types import Shot

SMALL = Settings(steps=1, batch=2, samples=2, sampling=1, errors=3, seen=2, every=50, taylor=2)
ONE_SHOT = {"diff-pruning": (2, 3), "taylor": (4, 5), "magnitude": (1, 2), "random": (3, 1), "reversed": (9, 11)}


def figures(error, ssim=0.5):
    return {"error": error / 100, "mse": 0.01, "ssim": ssim, "frechet": 0.1, "mmd": 0.001}


def results():
    """Errors in hundredths, where the dense model's is 1; two seeds at one ratio."""
    counted = {"params": 3856374, "macs": 574072073, "published": 535485039}
    cells = [{"method": method, "ratio": 0.3, "seed": seed, **counted, "one_shot": figures(errors[seed]),
              "tuned": figures(errors[seed] / 2, ssim=0.9 if method == "diff-pruning" else 0.8)}
             for method, errors in ONE_SHOT.items() for seed in (1, 0)]
    dense = {"params": 6886915, "macs": 983875584, "published": 946345600, **figures(1, ssim=1.0)}
    return {"command": "do it", "machine": "here", "settings": asdict(Settings()),
            "proxy": "emoji-clip", "dense": dense, "cells": cells}


def test_the_table_by_hand():
    rows = {line.split(" | ")[1]: line.split(" | ")[2:] for line in evidence_table.table(results()).splitlines()
            if line.startswith("| ")}
    assert rows["dense"][:5] == ["6.887 M", "0.984 G", "0.946 G", "1", "–"]
    assert rows["Diff-Pruning"][:6] == ["3.856 M", "0.574 G", "0.535 G", "2.5 ± 0.7", "1.25 ± 0.4", "0.9"]
    assert rows["random"][3] == "2 ± 1"
    assert "same shape, new weights" not in rows  # nobody ran it


def test_the_sentences_follow_from_the_numbers():
    told = evidence_table.table(results()).splitlines()[-1]
    assert told == (
        "- At 30 %, in the error before fine-tuning, Diff-Pruning beats Taylor, loses to magnitude, is level with "
        "random; in the error after it, Diff-Pruning beats Taylor, loses to magnitude, is level with random; "
        "in SSIM to the dense model's samples, Diff-Pruning beats Taylor, magnitude and random; "
        "upside down, its ranking has 4 times its error before fine-tuning.")
    other = results()
    for cell in other["cells"]:
        cell["tuned"]["ssim"] = 1 - cell["tuned"]["ssim"]
    assert "samples, Diff-Pruning loses to Taylor, magnitude and random;" in evidence_table.table(other)


def test_what_training_alone_reaches_is_said():
    found = results()
    fresh = {**found["cells"][0], "method": "fresh", "tuned": figures(40)}
    assert "with new weights and the same training ends at 40 times the dense error, Diff-Pruning at 1.25" in (
        evidence_table.table(found | {"cells": [*found["cells"], fresh]}))


def test_the_readme_has_the_table_where_its_marks_are(monkeypatch, tmp_path):
    file = tmp_path / "found.json"
    file.write_text(json.dumps(results()))
    monkeypatch.setattr(evidence_table, "RESULTS", file)
    text = tables.filled("before\n<!-- evidence -->\nold\n<!-- /evidence -->\nafter")
    assert text == f"before\n<!-- evidence -->\n{evidence_table.table(results())}\n<!-- /evidence -->\nafter"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tiny pipeline of 16 x 16 pixels, and pictures of noise for all that is looked at."""
    torch.manual_seed(0)
    net = UNet2DModel(sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                      up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8)
    pipe = DDPMPipeline(exact_in_half(net), DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    folder = tmp_path_factory.mktemp("evidence")
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    yardstick = Yardstick(pipe, kept(noise[:4], folder / "held"), SMALL.errors, noise[4:], Eyes(), Shot(steps=1),
                          SMALL.samples)
    return Work(pipe, yardstick, kept(noise, folder / "learnt"), folder, SMALL)


def test_all_methods_keep_the_same_sizes_and_a_run_goes_on(work, monkeypatch):
    cells, made = [Cell(method, 0.5, 0) for method in METHODS], []
    once = Work.done
    monkeypatch.setattr(Work, "done", lambda self, cell: made.append(cell) or once(self, cell))
    before = state(work.dense.unet)
    going = evidence.run(work, cells)
    dense, first, second = (next(going) for _ in range(3))
    going.close()  # stopped
    assert made == cells[:2]
    assert dense["ssim"] == 1
    rows = list(evidence.run(work, cells))
    assert made == cells
    assert rows[:3] == [dense, first, second]
    assert {row["arch"] for row in rows[1:]} == {first["arch"]}
    assert {row["params"] for row in rows[1:]} == {first["params"]}
    assert first["params"] < dense["params"]
    assert first["published"] < first["macs"] < dense["macs"]
    errors = {row["method"]: row["one_shot"]["error"] for row in rows[1:]}
    assert len(set(errors.values())) == len(METHODS)
    assert all(row["tuned"] != row["one_shot"] for row in rows[1:])
    assert same(before, state(work.dense.unet))
    work.file(cells[3]).unlink()
    assert list(evidence.run(work, cells))[4]["one_shot"] == rows[4]["one_shot"]
    assert made == [*cells, cells[3]]


def test_other_settings_are_other_cells(work):
    other = Work(work.dense, work.yardstick, work.pictures, work.out, Settings(steps=2))
    assert other.file(None) != work.file(None)
    assert work.file(Cell("random", 0.5, 0)) != work.file(Cell("random", 0.5, 1))


def test_other_sizes_are_refused(work, monkeypatch):
    monkeypatch.setattr(Work, "file", lambda self, cell: work.out / f"wrong-{cell}.json")
    monkeypatch.setattr(Work, "of_dense", lambda self: {})
    monkeypatch.setattr(Work, "done", lambda self, cell: {"arch": cell.method})
    with pytest.raises(ValueError, match="does not have the sizes"):
        list(evidence.run(work, [Cell("taylor", 0.5, 0), Cell("random", 0.5, 0)]))


def test_seeds_see_other_pictures(work):
    seen = [{file.name for file in Path(work.looks(seed, 4).source).iterdir()} for seed in (0, 1, 2)]
    assert all(len(names) == SMALL.seen for names in seen)
    assert seen[0] != seen[1] or seen[1] != seen[2]


def test_upside_down_the_lowest_stay(work):
    scores = work.scores("diff-pruning", 0)
    turned = upside_down(scores)
    for name, values in scores.values.items():
        assert torch.equal(turned.values[name].argsort(), values.argsort(descending=True)) or len(set(
            values.tolist())) < len(values)
        assert (turned.values[name] >= 0).all()


def test_a_fresh_network_leaves_the_others_alone(work):
    pruned = pruning.apply(work.dense, work.plan(Cell("magnitude", 0.5, 0)))
    net = pruned.unet
    before, dense = state(net), state(work.dense.unet)
    made_fresh(pruned, 3)
    assert pruned.unet is not net
    assert same(before, state(net))
    assert same(dense, state(work.dense.unet))
    assert [p.shape for p in pruned.unet.parameters()] == [p.shape for p in net.parameters()]
    assert not any(torch.equal(new, old) for new, old in zip(pruned.unet.parameters(), net.parameters(), strict=True)
                   if new.ndim > 1)


def test_the_estimate_counts_what_is_open(work, monkeypatch):
    cells = [Cell("random", 0.75, seed) for seed in (7, 8)]
    assert work.yardstick.pace() > 0
    monkeypatch.setattr(Yardstick, "pace", lambda self: 2.0)
    looks, each = 2 * 2 * 20 + 3 * 2, 2 * 2 * 1 + 3 * 1 * 2
    assert evidence.estimate(work, cells) == 2 * 2 * (looks + each / 8)
    work.file(cells[0]).touch()
    assert evidence.estimate(work, cells) == 2 * (looks + each / 8)
    work.file(cells[0]).unlink()


def test_the_command_names_what_was_changed():
    assert evidence.command(Settings()) == "python -m assets.make.evidence"
    assert evidence.command(Settings(steps=1000, batch=64)) == "python -m assets.make.evidence --steps 1000 --batch 64"
