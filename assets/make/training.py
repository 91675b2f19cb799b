"""What every training command shares: a wall-clock budget, checkpoints to resume from, and a running average.

Knows nothing of emoji or of any particular network.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import nn

from assets.make.attention import quick_backward
from pruning.timing.machine import threads

PACE = float(os.environ.get("PRUNESCOPE_PACE", 0))  # seconds that a step counts, so that no clock has a say


class Run:
    """One stage of training: networks, an optimizer, a budget in seconds, and a file to resume from.

    The learning rate follows the share of the budget that is spent: a short rise, a plateau, a cosine fall over the
    last two fifths. A run that is stopped goes on where it was; a larger budget continues a finished one.
    """

    def __init__(self, file: Path, networks: dict[str, nn.Module], *, minutes: float, rate: float, seed: int,
                 decay: float = 0.0, average: float = 0.999, device: str = "cpu") -> None:
        self.file, self.networks, self.budget, self.rate = file, networks, minutes * 60, rate
        self.device, self.average_rate = device, average
        parameters = [p for network in networks.values() for p in network.parameters() if p.requires_grad]
        self.parameters = parameters
        how = {"fused" if device == "cuda" else "foreach": True}
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=decay, **how)
        self.averages = [p.detach().clone() for p in parameters]
        self.step, self.seconds, self.losses = 0, 0.0, []
        self.generator = torch.Generator().manual_seed(seed)  # of what is chosen
        self.noise = torch.Generator(device).manual_seed(seed)  # of what is drawn where the networks are
        self.started: float | None = None
        if file.exists():
            self.restore()

    @property
    def share(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(1.0, self.seconds / self.budget) if self.budget else 1.0

    def restore(self) -> None:
        """Take up the state that the last run left."""
        state = torch.load(self.file, map_location=self.device, weights_only=True)
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.generator.set_state(state["generator"].cpu())
        self.noise.set_state(state["noise"].cpu())

    def keep(self) -> None:
        """Write the state beside the old one and swap them, so that a stop in between loses nothing."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        torch.save({
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizer": self.optimizer.state_dict(), "averages": self.averages, "step": self.step,
            "seconds": self.seconds, "losses": self.losses, "generator": self.generator.get_state(),
            "noise": self.noise.get_state(),
        }, part)
        os.replace(part, self.file)

    def steps(self, keep_every: float = 240.0, log_every: int = 50) -> Iterator[int]:
        """Count steps until the budget is spent; keeps a checkpoint every ``keep_every`` seconds and at the end."""
        kept = last = time.monotonic()
        spans: deque[float] = deque(maxlen=21)
        try:
            while self.seconds < self.budget:
                yield self.step
                now = time.monotonic()
                spans.append(now - last)
                self.seconds += PACE or min(spans[-1], 3 * median(spans))  # a machine that slept has not spent it
                last = now
                if now - kept > keep_every:
                    self.keep()
                    kept = time.monotonic()
                if self.step % log_every == 0:
                    recent = self.losses[-1][1] if self.losses else math.nan
                    print(f"{self.file.stem} step {self.step} {self.seconds:.0f}/{self.budget:.0f} s "
                          f"loss {recent:.4f} rate {self.now_rate():.1e}", flush=True)
        finally:
            self.keep()

    def now_rate(self) -> float:
        """The learning rate for this moment."""
        rise = min(1.0, (self.step + 1) / 100)
        fall = 1.0 if self.share < 0.6 else 0.5 * (1 + math.cos(math.pi * (self.share - 0.6) / 0.4))
        return self.rate * rise * max(fall, 0.02)

    def learn(self, loss: torch.Tensor, clip: float = 1.0) -> None:
        """One optimizer step on a loss, and one step of the running average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.now_rate()
        self.optimizer.step()
        self.step += 1
        keep = min(self.average_rate, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - keep)
        if self.step % 25 == 0:
            self.losses.append((self.step, round(float(loss.detach()), 5)))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks with their running averages, for measuring and saving."""
        live = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, live)

    def record(self) -> dict:
        """What ``training.json`` says of this stage."""
        return {"steps": self.step, "seconds": round(self.seconds), "device": describe(self.device),
                "rate": self.rate, "loss": self.losses[:: max(1, len(self.losses) // 200)]}


def describe(device: str) -> str:
    """The device in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {threads()}"


@contextmanager
def fast(device: str) -> Iterator[None]:
    """bfloat16 where it is quick, and on a CPU attention with a quick backward pass.

    Processors with AVX2 alone have no bfloat16 units: a convolution takes ten times as long with it there.
    """
    quick = device != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    with torch.autocast(device, torch.bfloat16, quick), quick_backward() if device == "cpu" else nullcontext():
        yield


def write_json(path: Path, value: object) -> None:
    """JSON that reads well in a diff."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def in_batches(function: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, size: int) -> torch.Tensor:
    """A function over many items, a few at a time."""
    return torch.cat([function(part) for part in items.split(size)])
