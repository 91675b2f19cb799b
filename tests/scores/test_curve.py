"""The loss at single timesteps as a figure and in words."""

import re

import pytest

from pruning.scores.scores import Curve
from ui.plots.curve import curve, in_words, runs
from ui.plots.training import smooth, ticks, training
from ui.setup import outlook

SEEN = Curve((0, 10, 20, 30), (0.8, 0.1, 0.02, 0.3), 0.1, (True, True, False, True), 40)


def test_what_counts_is_filled_and_shaded():
    figure = curve(SEEN)
    line, counts, left = figure.data
    assert (tuple(line.x), tuple(line.y)) == (SEEN.steps, SEEN.losses)
    assert (tuple(counts.x), counts.marker.symbol) == ((0, 10, 30), "circle")
    assert (tuple(left.x), left.marker.symbol) == ((20,), "circle-open")
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes[:2]] == [(0, 15), (25, 35)]
    assert figure.layout.shapes[2].y0 == pytest.approx(0.08)
    assert "0.0800" in figure.layout.annotations[0].text


def test_the_shade_ends_where_the_schedule_does():
    assert runs(Curve((0, 20), (1.0, 1.0), 0.0, (True, True), 25)) == [(0, 25)]
    assert runs(Curve((5,), (1.0,), 0.0, (True,), 10)) == [(0, 10)]


def test_a_threshold_of_0_has_no_line():
    assert len(curve(Curve((0, 10), (1.0, 0.5), 0.0, (True, True), 20)).layout.annotations) == 0


def test_in_words():
    assert in_words(SEEN) == ("The loss is largest at timestep 0 (0.800) and 0.300 at 30. Of the timesteps that were "
                              "listened to, 3 of 4 count: their loss is above 0.1 of the largest.")
    assert "all 2 timesteps count" in in_words(Curve((0, 10), (1.0, 0.5), 0.0, (True, True), 20))


def test_methods_that_listen_to_nothing_show_nothing():
    assert [shown.visible for shown in outlook.listened(None)] == [False, False]
    assert [shown.visible for shown in outlook.listened(SEEN)] == [True, True]


def test_a_running_mean():
    assert smooth([4.0, 2.0, 6.0, 0.0], 2) == [4, 3, 4, 3]
    assert smooth([], 3) == []


def test_a_training_is_drawn_on_a_logarithmic_scale():
    shown = training([0.1, 0.01, 0.001], 10, before=0.1, after=0.001, dense=0.01)
    ups = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', shown)]
    assert ups[1] - ups[0] == pytest.approx(ups[2] - ups[1], abs=0.2)
    held = [float(y) for y in re.findall(r'<rect x="[\d.]+" y="([\d.]+)"', shown)]
    assert held == [pytest.approx(ups[0] - 4, abs=0.1), pytest.approx(ups[2] - 4, abs=0.1)]
    assert "Loss after 3 of 10 steps" in shown
    assert training([], 10) == ""


def test_many_steps_are_thinned_out():
    assert training([0.1 + i % 7 / 10 for i in range(2000)], 2000).count("<circle") <= 500


def test_round_numbers_on_the_scale():
    assert ticks(0.03, 0.3) == pytest.approx([0.05, 0.1, 0.2])
