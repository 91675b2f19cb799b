"""The samples that a method looks at: their controls, and how their values become a calibration."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import gradio as gr

from pruning.types import Calibration
from ui import limits
from ui.widgets.choice import choice, option

SOURCES = [option("", "Default"), option("bundled", "Bundled"), option("generated", "Drawn"), option("noise", "Noise")]
LOOKS = Calibration()


def looked_at() -> dict[str, Any]:
    """The controls of a calibration, by the field that they fill."""
    return {
        "source": choice("Samples", SOURCES, "", look="tabs", elem_id="samples-from"),
        "samples": gr.Slider(1, limits.SAMPLES, LOOKS.samples, step=1, label="How many samples", elem_id="samples"),
        "prompts": gr.Textbox("", label="Prompts", lines=2, elem_id="calibration-prompts",
                              info="One a line. Empty: the model's own captions."),
        "timesteps": gr.Textbox("", label="Timesteps", elem_id="calibration-timesteps",
                                info="Between commas. Empty: evenly over all."),
        "guidance": gr.Slider(0, 10, 0, step=0.5, label="Guidance", elem_id="calibration-guidance",
                           info="Above 1, each sample is shown with its prompt and without."),
        "seed": gr.Number(0, label="Seed of the samples", precision=0, elem_id="calibration-seed"),
    }


def calibration(read: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the controls ask a method to look at, yet to be checked; None where all of them are as usual.

    The source may stay open, "".
    """
    source, guidance, samples, seed = (read[key] for key in ("source", "guidance", "samples", "seed"))
    asked = {"prompts": tuple(filter(None, map(str.strip, (read["prompts"] or "").splitlines()))),
             "samples": LOOKS.samples if samples is None else int(samples),
             "timesteps": tuple(int(step) if step.isdigit() else step for step in globs(read["timesteps"])),
             "guidance": float(guidance or 0), "seed": int(seed or 0), "source": source}
    return None if asked == asdict(LOOKS) | {"source": ""} else asked


def globs(text: str) -> tuple[str, ...]:
    """Globs between commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
