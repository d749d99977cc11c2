"""Log-probabilities and gradients with prompts read once a group: equal to those of TRL's own passes, row by row.

Below: grouped attention has transformers' own results and gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl import GRPOTrainer

from tests.support.samples import SMALL_RUN
from tests.support.tiny_models import build_tiny
from tests.training.grpo.test_trainer_families import folder_of_pictures
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo.log_probs import (
    FEWEST_ROWS,
    GROUPED_ATTENTION,
    MOST_WASTE,
    grouped_attention,
    split_by_length,
)
from training.grpo.reference import as_trl_takes_it, gradient_by_ours, gradient_by_trl
from training.grpo.trainer import RunTrainer, build_trainer
from training.runs.folder import RunFolder

SMALL = SMALL_RUN | {"max_completion_length": 20, "data": {"train_rows": 8, "test_rows": 4}}


def make(folder: Path, **values: Any) -> RunTrainer:
    """A trainer whose LoRA is away from its start, where half of the gradient is 0."""
    config = load_config("starter", SMALL | values)
    trainer = build_trainer(config, load_rows(config.data).train, RunFolder.create(folder / "run", config), [])
    trainer.current_gradient_accumulation_steps = 1
    torch.manual_seed(0)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    trainer.model.train()
    return trainer


def batch(trainer: RunTrainer, lengths: Sequence[int] = (), more_words: str = "") -> dict[str, Any]:
    """Rollouts with completions of these lengths, else of every length, and an advantage for each; the first prompt
    has some more words."""
    rows = [dict(row) for row in next(iter(trainer.get_train_dataloader()))]
    for row in rows[: trainer.num_generations]:
        *others, question = row["prompt"]
        row["prompt"] = [*others, question | {"content": question["content"] + more_words}]
    inputs = trainer._generate_and_score_completions(rows)
    size, length = inputs["completion_ids"].shape
    wanted = torch.tensor(lengths) if lengths else torch.linspace(1, length, size).round().long()
    inputs["completion_mask"] = inputs["completion_mask"] * (torch.arange(length) < wanted[:, None])
    inputs["advantages"] = torch.linspace(-1, 2, size) + 0.01
    return inputs


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> RunTrainer:
    return make(tmp_path_factory.mktemp("passes"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lengths", "more_words"),
    [((), ""), ([1] * 8, ""), ([1] * 4 + [20] * 4, ""), ((), " and how many are not?" * 15)],
    ids=["every length", "one token each", "a group of one token", "one prompt is long"],
)
def test_the_gradient_is_that_of_trl(
    lengths: Sequence[int], more_words: str, trainer: RunTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = batch(trainer, lengths, more_words)
    layers = [module for module in trainer.model.modules() if isinstance(module, LoraLayer)]
    assert all(layer.lora_variant for layer in layers), "ours adds its LoRA in place"
    assert trainer.model.get_base_model().get_decoder().config._attn_implementation == GROUPED_ATTENTION
    theirs = gradient_by_trl(trainer, inputs)
    assert theirs.norm() > 0
    assert all(layer.lora_variant for layer in layers), "and does so again"
    for share_prompts, fewest_rows in ((True, 8), (True, 1), (False, 8)):  # in one pass, several, one with the prompts
        monkeypatch.setattr("training.grpo.log_probs.FEWEST_ROWS", fewest_rows)
        monkeypatch.setattr(trainer, "passes", dataclasses.replace(trainer.passes, share_prompts=share_prompts))
        ours = gradient_by_ours(trainer, inputs)
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() / theirs.norm() < 1e-5, (share_prompts, fewest_rows)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "smolvlm", "idefics3"])
def test_other_families_too(family: str, tmp_path: Path) -> None:
    """DeepStack and tiles of several shapes, in prompts of several lengths, with one picture and with three.

    The random weights are made smaller: as they are, attention is so sharp that rounding alone comes to 1e-5.
    """
    base = build_tiny(family, tmp_path / "base")
    data = {"dataset": str(folder_of_pictures(tmp_path / "data", several=True)), "test_rows": 0}
    sizes = {"max_completion_length": 6, "prompts_per_step": 3, "micro_batch_size": 12}
    trainer = make(tmp_path, base=str(base), data=data, eval_rows=0, **sizes)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            parameter.mul_(1.0 if "lora" in name else 0.7)
    inputs = batch(trainer)
    assert {len(prompt.images) for prompt in inputs["rollout_prompts"]} == {1, 3}
    assert len({id(prompt.picture) for prompt in inputs["rollout_prompts"]}) == 3
    ours, theirs = gradient_by_ours(trainer, inputs), gradient_by_trl(trainer, inputs)
    assert theirs.norm() > 0 and (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.slow
def test_checkpointing_computes_the_same_again(tmp_path: Path) -> None:
    """With dropout, which draws the same where rows go in one pass: LoRA's term is added in place here, too."""
    trainer = make(tmp_path, gradient_checkpointing=True, lora_dropout=0.5, max_completion_length=6)
    inputs = batch(trainer)
    gradients = []
    for of in (gradient_by_ours, gradient_by_trl):
        torch.manual_seed(7)
        gradients.append(of(trainer, inputs))
    ours, theirs = gradients
    assert theirs.norm() > 0 and (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.slow
def test_the_reference_is_scored_as_trl_scores_it(tmp_path: Path) -> None:
    """With a KL penalty: the base's log-probabilities, in parts of a micro-batch."""
    trainer = make(tmp_path, beta=0.1, micro_batch_size=4)
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    theirs = as_trl_takes_it(trainer, inputs)
    ids, mask = (
        torch.cat([inputs[f"{part}_{kind}"] for part in ("prompt", "completion")], 1) for kind in ("ids", "mask")
    )
    names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
    length = inputs["completion_ids"].shape[1]
    trainer.policy = None
    with torch.no_grad(), trainer.model.disable_adapter():
        scored, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            trainer, trainer.model, ids, mask, length, **{name: theirs[name] for name in names}
        )
    assert inputs["ref_per_token_logps"].abs().max() > 0
    torch.testing.assert_close(inputs["ref_per_token_logps"], scored, atol=1e-4, rtol=0)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80))
def test_passes_hold_every_row_once_and_little_padding(lengths: list[int]) -> None:
    parts = split_by_length(lengths)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(len(part) >= min(FEWEST_ROWS, len(lengths)) for part in parts)
    for part in parts:
        longest = lengths[part[0]]
        inner = part[FEWEST_ROWS:-FEWEST_ROWS]
        assert all(lengths[row] <= longest for row in part)
        assert all(lengths[row] >= (1 - MOST_WASTE) * longest for row in inner)


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
    results, expected = (run(f, module, states, mask) for f in (grouped_attention, sdpa_attention_forward))
    assert len(results) == len(expected) == 4
    for mine, other in zip(results, expected):
        torch.testing.assert_close(mine, other)


def test_without_a_mask_it_is_transformers_own() -> None:
    module, states = inputs(2, 3, 4, 4)
    results, expected = (run(f, module, states, None) for f in (grouped_attention, sdpa_attention_forward))
    assert all(torch.equal(mine, other) for mine, other in zip(results, expected))


def test_what_it_does_not_know_is_refused_or_done_by_transformers() -> None:
    module, states = inputs(2, 2, 3, 3)
    mask = causal(3, 3, 0, torch.float32)
    with pytest.raises(ValueError, match="softcap"):
        grouped_attention(module, *states, mask, softcap=30.0)
