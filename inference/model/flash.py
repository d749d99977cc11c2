"""FlashAttention for the vision tower on a GPU, where a package has it: torch's own attention takes windows one by one.

`pip install kernels` brings it from the Hub, `flash-attn` from PyPI. It has never been run on such a machine: there was
none to be had.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available, is_kernels_available

_log = logging.getLogger(__name__)


def use_flash(tower: Any) -> bool:
    """Let a tower, a model of transformers', use FlashAttention if it can on its device; true if it does."""
    is_half = tower.dtype in (torch.bfloat16, torch.float16)
    has_package = is_kernels_available() or is_flash_attn_2_available()
    return tower.device.type == "cuda" and is_half and has_package and switch(tower)


def switch(tower: Any) -> bool:
    """Ask transformers for it. Where that fails (the Hub is out of reach, or has no build for this machine) it is said
    in the log, and the tower stays as it was."""
    try:
        tower.set_attn_implementation("flash_attention_2")
    except Exception as error:  # what a package's own loader raises is not known here
        _log.warning("no FlashAttention for the vision tower: %s: %s", type(error).__name__, error)
        return False
    return True
