"""Samplers: how each is made from a pipeline's noise schedule, which schedules none can follow, and how many steps fit.

A sampler takes over the noise levels, what the denoiser predicts, and every setting that its class shares with that of
the schedule, as ``from_config`` of diffusers does. The tables say where that would be wrong.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pruning.errors import Refused

SAMPLERS = {"ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler",
            "unipc": "UniPCMultistepScheduler"}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")  # by name; other schedules are taken over by their values
OTHERS = {"use_flow_sigmas": (True, "it is a flow"), "use_dynamic_shifting": (True, "it is a flow"),
          "timestep_type": ("continuous", "its denoiser reads noise levels (EDM) in place of timesteps")}
NOT_TAKEN = {"variance_type": None}  # `dpm++` would keep three channels: the first half is taken before, of any number
ALWAYS = ("num_train_timesteps", "prediction_type")  # even where the schedule's class had them by default
SMALLEST = 2.0**-24  # of a signal: with none at all a noise level is infinite; diffusers takes the same


def why_not(schedule: Any) -> str | None:
    """Why no sampler of ours can follow a pipeline's noise schedule, to end a sentence; None where all can."""
    config = getattr(schedule, "config", {})
    for setting, (value, why) in OTHERS.items():
        if config.get(setting) == value:
            return why
    if (predicts := config.get("prediction_type", "epsilon")) not in PREDICTIONS:
        return f"its denoiser predicts {predicts!r}"
    signal = getattr(schedule, "alphas_cumprod", None)
    if not isinstance(signal, Tensor) or signal.shape != (config.get("num_train_timesteps"),):
        return "it has no table of noise levels by timestep"
    return None


def made(schedule: Any, sampler: str, usual: Mapping[str, Any]) -> Any:
    """A new sampler with a pipeline's noise schedule; ``usual`` settings stand in for those that its config lacks.

    Raises:
        Refused: the sampler is not known, or it cannot follow this schedule.
    """
    import diffusers  # takes seconds, so not before something is drawn: the page comes up first

    if sampler not in SAMPLERS:
        raise Refused(f"No sampler is called {sampler!r}.", f"There are {', '.join(SAMPLERS)}.")
    if reason := why_not(schedule):
        raise Refused(f"No sampler of this version follows {type(schedule).__name__}: {reason}.",
                      "The model can be planned and pruned; to draw, give its pipeline a schedule of timesteps.")
    kind, config = getattr(diffusers, SAMPLERS[sampler]), schedule.config
    unsaid = config.get("_use_default_values", ())  # what nobody gave: the default of another class is not a request
    changes = {name: value for name, value in usual.items() if name not in config or name in unsaid} | NOT_TAKEN
    changes |= {name: config[name] for name in ALWAYS if name in config}
    try:
        if config.get("beta_schedule") in BETAS or config.get("trained_betas") is not None:
            new = kind.from_config(config, **changes)
            if torch.allclose(new.alphas_cumprod, schedule.alphas_cumprod.float().cpu(), rtol=0, atol=1e-6):
                return new
        return kind.from_config(config, **changes, trained_betas=_betas(schedule.alphas_cumprod))
    except (ValueError, NotImplementedError, ImportError) as error:  # such as settings that exclude each other
        why = str(error).strip().rstrip(".")
        raise Refused(f"The sampler {sampler} does not take the settings of this model's {type(schedule).__name__}: "
                      f"{why}.", "Choose another sampler.") from error


def _betas(signal: Tensor) -> list[float]:
    """The betas that give a signal by timestep, (levels,): its cumulated products of 1 - beta."""
    signal = signal.double().cpu().clamp_min(SMALLEST)
    return (1 - signal / torch.cat([torch.ones(1), signal[:-1]])).tolist()


def start(scheduler: Any, sampler: str, steps: int, device: Any) -> None:
    """Set a new sampler's timesteps.

    Raises:
        Refused: its noise schedule does not have so many; the sentence names how many it has.
    """
    if _fits(scheduler, steps, device):
        return
    levels = scheduler.config.num_train_timesteps
    fewer = (n for n in range(min(steps - 1, levels), 0, -1) if _fits(scheduler, n, device))
    most = next(fewer, None)
    raise Refused(f"{steps} steps are too many for {sampler} on this model's noise schedule of {levels} levels."
                  if most else f"{sampler} cannot follow this model's noise schedule of {levels} levels.",
                  f"Choose {most} or fewer." if most else "Choose another sampler.")


def _fits(scheduler: Any, steps: int, device: Any) -> bool:
    """Whether so many steps are timesteps of the schedule, each with less noise than the one before."""
    try:
        scheduler.set_timesteps(steps, device=device)
    except (ValueError, IndexError, ZeroDivisionError):
        return False
    times = scheduler.timesteps.tolist()
    levels = scheduler.sigmas.tolist()[:-1] if hasattr(scheduler, "sigmas") else times
    return (len(times) == steps and min(times) >= 0 and max(times) < scheduler.config.num_train_timesteps
            and all(a > b for a, b in pairwise(levels)))
