"""LoRA's term added in place: PEFT's own results and gradients, whatever is switched on or off."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from training.grpo.lora import add_in_place


class Net(nn.Module):
    """Two layers; the input of the first one wants no gradient, as embeddings of a frozen base."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 10, bias=bias), nn.Linear(10, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.nn.functional.silu(self.one(x)))


def pair(bias: bool = True, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """The same model as PEFT computes it and as we do."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["one", "two"], init_lora_weights=False, **options)
    theirs = get_peft_model(Net(bias).to(dtype), config, autocast_adapter_dtype=dtype == torch.float32)
    ours = copy.deepcopy(theirs)
    return theirs, ours


def gradients(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    (model(x) ** 2).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (1, 1, 6), (2, 2, 2, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_pefts(shape: tuple[int, ...], bias: bool) -> None:
    theirs, ours = pair(bias)
    assert add_in_place(ours) == 2 and add_in_place(ours) == 0
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    made, wanted = gradients(ours, x), gradients(theirs, x)
    assert len(made) == len(wanted) == 4
    for mine, other in zip(made, wanted):
        torch.testing.assert_close(mine, other)
    with ours.disable_adapter(), theirs.disable_adapter():
        torch.testing.assert_close(ours(x), theirs(x))


def test_dropout_draws_the_same() -> None:
    theirs, ours = pair(lora_dropout=0.5)
    add_in_place(ours)
    x = torch.randn(4, 6)
    results = []
    for model in (theirs, ours):
        torch.manual_seed(3)
        results.append(model.train()(x))
    torch.testing.assert_close(*results)


def test_mixed_precision_is_pefts_own_formula() -> None:
    theirs, ours = pair()
    add_in_place(ours)
    x = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0.02, atol=0.05)


def test_what_is_more_than_plain_lora_stays() -> None:
    _, dora = pair(use_dora=True)
    _, biased = pair(lora_bias=True)
    assert add_in_place(dora) == add_in_place(biased) == 0
