"""Attention that reads a group's prompt once: against transformers' own, on its own and in decodes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from inference.engine import attention
from inference.engine.attention import attend, find_prompt_groups
from inference.engine.engine import Engine, Request
from inference.engine.kv_cache import KVCache
from inference.engine.sequence import Sequence
from tests.support.samples import problems

WIDTH, HEADS, COLUMN = 4, 2, 9


def sequence(prompt: int, start: int, first_step: int = 0) -> Sequence:
    """With a prompt that ends before column 6."""
    made = Sequence(0, None, (prompt,) * (6 - start), 0, None)  # type: ignore[arg-type]
    made.start, made.first_step = start, first_step
    return made


@pytest.mark.parametrize(
    ("prompts", "is_grouped"),
    [
        ([(1, 1), (1, 1), (2, 0), (2, 0)], True),  # in order
        ([(1, 1), (2, 0), (1, 1), (1, 1), (2, 0)], True),  # in none, and of unlike sizes
        ([(1, 1), (2, 0), (3, 2)], False),
        ([(1, 1), (1, 1), (1, 1), (1, 1), (2, 0), (3, 0), (4, 0), (5, 0)], False),  # most would be filled up
    ],
)
def test_groups_look_at_the_same_as_rows(prompts: Any, is_grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MIN_SPARED_BYTES", 1)
    generator = torch.Generator().manual_seed(1)
    sequences, num_rows = [sequence(*prompt) for prompt in prompts], len(prompts)
    distinct, index = torch.unique(torch.tensor([prompt for prompt, _ in prompts]), return_inverse=True)
    keys, values = torch.randn(2, len(distinct), HEADS, COLUMN, WIDTH, generator=generator)[:, index]
    keys[:, :, 6:], values[:, :, 6:] = torch.randn(2, num_rows, HEADS, 3, WIDTH, generator=generator)
    cache = KVCache(num_layers=1)
    cache.reserve([(keys, values)], num_rows, COLUMN)
    cache.write(0, [(keys, values)], torch.arange(num_rows), COLUMN)
    found = find_prompt_groups(sequences, cache, low=0)
    assert (found is not None) is is_grouped
    starts = torch.tensor([row.start for row in sequences])
    hidden = torch.arange(COLUMN) < starts[:, None]
    mask = torch.zeros(num_rows, COLUMN).masked_fill(hidden, -torch.inf)[:, None, None]
    query = torch.randn(num_rows, 3 * HEADS, 1, WIDTH, generator=generator)
    module: Any = SimpleNamespace(layer_idx=0, num_key_value_groups=3)
    expected = sdpa_attention_forward(module, query, keys, values, mask, scaling=0.4)[0]
    result = attend(module, query, keys, values, mask, scaling=0.4, groups=found)[0]
    torch.testing.assert_close(result, expected)


def test_rows_that_joined_apart_are_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their prompts stand in other columns."""
    monkeypatch.setattr(attention, "MIN_SPARED_BYTES", 1)
    cache = KVCache(num_layers=1)
    states = [(torch.zeros(2, HEADS, COLUMN, WIDTH),) * 2]
    cache.reserve(states, 2, COLUMN)
    assert find_prompt_groups([sequence(1, 0, 0), sequence(1, 0, 1)], cache, low=0) is None
    assert find_prompt_groups([sequence(1, 0, 1), sequence(1, 0, 1)], cache, low=0) is not None
    monkeypatch.setattr(attention, "MIN_SPARED_BYTES", 2**20)
    assert find_prompt_groups([sequence(1, 0), sequence(1, 0)], cache, low=0) is None, "too little to gain"


def test_decodes_in_groups_are_those_of_rows_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that shrink to nothing, with a row of no group and one that comes later."""
    rows = [Request(p.image.convert("RGB"), p.problem) for p in problems(3, seed=31)]
    lengths = [(0, 9), (1, 3), (0, 14), (1, 12), (0, 2), (2, 7), (1, 5)]
    asked = [
        replace(rows[i], max_new_tokens=n, min_new_tokens=n, temperature=0.9 * (n % 2), seed=n) for i, n in lengths
    ]
    alone = [engine.generate([row])[0].token_ids for row in asked]
    used: list[int] = []
    find = attention.find_prompt_groups

    def watched(*arguments: Any) -> Any:
        found = find(*arguments)
        used.append(0 if found is None else found.length)
        return found

    monkeypatch.setattr(attention, "MIN_SPARED_BYTES", 1)
    monkeypatch.setattr("inference.engine.batch.find_prompt_groups", watched)
    decode = engine.stream(asked)
    next(decode)
    late = engine.stream([rows[2]])
    for _ in decode:
        pass
    assert [completion.token_ids for completion in decode.completions] == alone
    assert any(used) and not used[-1]
    del late
