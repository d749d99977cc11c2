"""What a run is measured on, in words that are the same on machines that are as fast as each other.

A time is worth something on the hardware it was measured on only; so it is kept with the name.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def hardware_name() -> str:
    """The GPUs (`2 × NVIDIA A100-SXM4-80GB`), else the processor and its cores (`AMD EPYC 7B13, 2 cores`)."""
    import torch

    if torch.cuda.is_available():
        num = torch.cuda.device_count()
        name = torch.cuda.get_device_name(0)
        return f"{num} × {name}" if num > 1 else name
    return f"{_processor()}, {os.cpu_count()} cores"


def hardware() -> dict[str, Any]:
    """`hardware` (its name), `num_gpus`, and the version of CUDA where there is one."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"hardware": hardware_name(), "num_gpus": gpus, "cuda": torch.version.cuda if gpus else None}


def _processor() -> str:
    """The name that the kernel gives the processor, or at least its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
