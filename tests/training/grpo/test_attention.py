"""Queries of heads that share keys, one below the other: transformers' own attention and its gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.grpo import attention as grouped_queries


def inputs(heads: int, group: int, length: int, columns: int) -> tuple[Any, list[torch.Tensor]]:
    torch.manual_seed(heads + group + length)
    shapes = [(2, heads * group, length, 8), (2, heads, columns, 8), (2, heads, columns, 8)]
    module = SimpleNamespace(num_key_value_groups=group, is_causal=True)
    return module, [torch.randn(shape, requires_grad=True) for shape in shapes]


def causal(length: int, columns: int, padding: int, dtype: torch.dtype) -> torch.Tensor:
    """(2, 1, length, columns); the second row has some padding on its left."""
    seen = torch.ones(2, 1, length, columns).tril(columns - length).bool()
    seen[1, :, :, :padding] = False
    return seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


def run(attend: Any, module: Any, states: list[torch.Tensor], mask: torch.Tensor | None) -> list[torch.Tensor]:
    for state in states:
        state.grad = None
    result, weights = attend(module, *states, mask, dropout=0.0, scaling=0.3)
    assert weights is None and result.is_contiguous()
    (result**2).sum().backward()
    return [result.detach(), *(state.grad for state in states if state.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
@pytest.mark.parametrize(
    ("heads", "group", "length", "columns"), [(3, 2, 5, 9), (2, 4, 7, 7), (1, 6, 2, 3), (4, 1, 3, 5)]
)
def test_results_and_gradients_are_those_of_transformers(
    heads: int, group: int, length: int, columns: int, dtype: torch.dtype
) -> None:
    module, states = inputs(heads, group, length, columns)
    mask = causal(length, columns, 1, dtype)
    made, wanted = (run(f, module, states, mask) for f in (grouped_queries.attend, sdpa_attention_forward))
    assert len(made) == len(wanted) == 4
    for mine, other in zip(made, wanted):
        torch.testing.assert_close(mine, other)


def test_without_a_mask_it_is_transformers_own() -> None:
    module, states = inputs(2, 3, 4, 4)
    made, wanted = (run(f, module, states, None) for f in (grouped_queries.attend, sdpa_attention_forward))
    assert all(torch.equal(mine, other) for mine, other in zip(made, wanted))


def test_what_it_does_not_know_is_refused_or_done_by_transformers() -> None:
    module, states = inputs(2, 2, 3, 3)
    mask = causal(3, 3, 0, torch.float32)
    with pytest.raises(ValueError, match="softcap"):
        grouped_queries.attend(module, *states, mask, softcap=30.0)
