"""FlashAttention for the tower: asked of transformers only where it can be had, and never in the way."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from transformers.utils import is_flash_attn_2_available, is_kernels_available

from inference.engine.engine import Engine
from inference.model.flash import switch, use_flash


def test_a_cpu_keeps_what_it_has(engine: Engine) -> None:
    tower = engine._model.model.visual
    assert not use_flash(tower) and tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), ("cuda", torch.float32)])
def test_it_needs_a_gpu_and_half_precision(device: str, dtype: torch.dtype) -> None:
    assert not use_flash(SimpleNamespace(device=torch.device(device), dtype=dtype))


@pytest.mark.skipif(is_kernels_available() or is_flash_attn_2_available(), reason="a package has it here")
def test_where_transformers_refuses_it_the_tower_goes_on(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    tower = engine._model.model.visual
    with caplog.at_level(logging.WARNING, "inference.model.flash"):
        assert not switch(tower)
    assert "no FlashAttention for the vision tower" in caplog.text and tower.config._attn_implementation == "sdpa"
