"""The machine that the clock runs on, in words."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def machine(pipe: Any) -> str:
    """Device, type, threads and versions, in words."""
    net = pipe.unet
    device = torch.cuda.get_device_name() if net.device.type == "cuda" else (
        f"{processor()}, {threads()}")
    dtype = str(net.dtype).removeprefix("torch.")
    return f"{device}, {dtype}, torch {torch.__version__}, diffusers {version('diffusers')}"


def threads() -> str:
    """How many threads torch computes with, in words."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    named = [line.split(":", 1)[1].strip() for line in (info.read_text().splitlines() if info.exists() else ())
             if line.startswith("model name")]
    return named[0] if named else platform.processor() or f"{platform.machine()} CPU"
