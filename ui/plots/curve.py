"""The loss at single timesteps, the gate, and the timesteps that a method listens to."""

from math import log10

import plotly.graph_objects as go

from pruning.scores.scores import Curve
from ui.plots.markup import three


def curve(of: Curve) -> go.Figure:
    """Loss over timesteps; those that count are filled and shaded, the others are open."""
    gate = of.threshold * max(of.losses)
    figure = go.Figure()
    for first, last in runs(of):
        figure.add_vrect(x0=first, x1=last, fillcolor="rgba(58,110,200,.13)", line_width=0, layer="below")
    figure.add_scatter(x=of.steps, y=of.losses, mode="lines", line={"color": "#808692", "width": 1.5}, showlegend=False,
                       hoverinfo="skip")
    for name, counts, symbol in (("counts", True, "circle"), ("left out", False, "circle-open")):
        inside = [i for i, one in enumerate(of.counts) if one is counts]
        figure.add_scatter(x=[of.steps[i] for i in inside], y=[of.losses[i] for i in inside], mode="markers", name=name,
                           marker={"color": "#3a6ec8" if counts else "#808692", "symbol": symbol, "size": 7},
                           hovertemplate="timestep %{x}: loss %{y:.3g}<extra>" + name + "</extra>")
    if gate > 0:
        figure.add_hline(y=gate, line={"color": "#d9730d", "width": 2, "dash": "dash"})
        figure.add_annotation(xref="paper", x=1, xanchor="right", y=log10(gate), yanchor="bottom", showarrow=False,
                              text=f"threshold {of.threshold:g} × the largest = {three(gate)}",
                              font={"color": "#d9730d"})  # a log axis takes places of annotations as logarithms
    return figure.update_layout(
        height=280, margin={"l": 60, "r": 12, "t": 24, "b": 44}, template="none",
        xaxis={"title": "timestep (0 is clean, the last all noise)", "range": [0, of.levels],
               "gridcolor": "rgba(128,128,128,.15)"},
        yaxis={"title": "loss", "type": "log", "exponentformat": "power", "gridcolor": "rgba(128,128,128,.25)"},
        legend={"x": 0.99, "y": 0.98, "xanchor": "right"}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": "#808692", "size": 12})


def runs(of: Curve) -> list[tuple[float, float]]:
    """The stretches of timesteps that count, each from half a step before its first to half a step after its last."""
    half = (of.steps[1] - of.steps[0]) / 2 if len(of.steps) > 1 else of.levels / 2
    found: list[tuple[float, float]] = []
    for step, counts in zip(of.steps, of.counts, strict=True):
        if counts and found and found[-1][1] >= step - half:
            found[-1] = (found[-1][0], step + half)
        elif counts:
            found.append((step - half, step + half))
    return [(max(0.0, first), min(float(of.levels), last)) for first, last in found]


def in_words(of: Curve) -> str:
    """What the figure shows, for those who cannot see it."""
    loudest = max(range(len(of.steps)), key=of.losses.__getitem__)
    count, all_ = sum(of.counts), len(of.counts)
    heard = "all" if count == all_ else f"{count} of {all_}"
    return (f"The loss is largest at timestep {of.steps[loudest]} ({three(of.losses[loudest])}) and "
            f"{three(of.losses[-1])} at {of.steps[-1]}. Of the timesteps that were listened to, {heard} count: their "
            f"loss is above {of.threshold:g} of the largest." if of.threshold else
            f"The loss is largest at timestep {of.steps[loudest]} ({three(of.losses[loudest])}). With a threshold of 0 "
            f"all {all_} timesteps count.")
