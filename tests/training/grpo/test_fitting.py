"""Micro-batches that fit: chosen by the memory that is free, and halved in the middle of a step where it runs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.gradient_probe import KeepGradient
from tests.support.samples import SMALL_RUN
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.grpo import fitting
from training.grpo.fitting import SmallerPasses, fit_batch, longer_rows, next_smaller, prompt_tokens, settled
from training.grpo.log_probs import Passes
from training.grpo.trainer import build_trainer
from training.runs.estimate.memory import STARTER_PROMPT_TOKENS, BatchChoice, choose_batch
from training.runs.estimate.shapes import sizes_of
from training.runs.failures import OUT_OF_MEMORY, explain_failure
from training.runs.folder import RunFolder

STEP = SMALL_RUN | {"max_steps": 1, "micro_batch_size": 4, "max_completion_length": 16, "skip_zero_signal": False}
STEP |= {"gradient_checkpointing": False, "max_grad_norm": 1e9, "data": {"train_rows": 2, "test_rows": 2}}


def run_step(folder: Path, **values: Any) -> tuple[torch.Tensor, dict[str, Any], RunFolder]:
    """The gradient of a step, its metrics, and its folder."""
    config = load_config("starter", STEP | values)
    kept, run = KeepGradient(), RunFolder.create(folder, config)
    trainer = build_trainer(config, load_rows(config.data, home=folder.parent / "home").train, run, [kept])
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(trainer.model.named_parameters()):
        if "lora_" in name:  # away from their start, where half of the gradient is 0
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02
    advantages = torch.linspace(-1, 1, 8)
    score = trainer._generate_and_record

    def scored(*args: Any) -> Any:
        batch = score(*args)
        return batch | {"advantages": advantages[: len(batch["advantages"])]}

    trainer._generate_and_record = scored  # type: ignore[method-assign]
    trainer.train()
    return kept.gradient, trainer.state.log_history[0], run


def fails_beyond(limit: int, good: int = 0) -> Callable[..., Any]:
    """`Passes.__call__` that runs out of memory with more rows, after `good` passes, and leaves a wrong gradient."""
    real, seen = Passes.__call__, []

    def call(self: Passes, model: Any, ids: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(ids))
        scored = real(self, model, ids, *rest)
        if len(seen) > good and len(ids) > limit and self.share_prompts:  # which checkpointing turns off
            scored.log_probs.sum().backward()
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return scored

    call.seen = seen  # type: ignore[attr-defined]
    return call


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo"])
def test_a_step_without_memory_is_redone_in_halves(
    loss_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails in the second micro-batch, with the gradient of the first and a wrong one accumulated."""
    whole, figures, _ = run_step(tmp_path / "whole", loss_type=loss_type)
    limited = fails_beyond(2, good=1)
    monkeypatch.setattr(Passes, "__call__", limited)
    halves, again, run = run_step(tmp_path / "halves", loss_type=loss_type)
    assert limited.seen == [4, 4, 2, 2, 2, 2]  # type: ignore[attr-defined]
    torch.testing.assert_close(halves, whole, rtol=1e-3, atol=1e-5)
    for name in ("loss", "entropy", "reward", "completions/mean_length"):
        assert again[name] == pytest.approx(figures[name], rel=1e-3, abs=1e-5), name
    assert "the step is redone with passes of 2" in caplog.text
    [change] = map(json.loads, (run.path / "changes.jsonl").read_text().splitlines())
    assert (change["setting"], change["from"], change["to"]) == ("micro_batch_size", 4, 2)
    assert RunFolder.open(run.path)[1].micro_batch_size == 2


def test_after_the_halves_comes_checkpointing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _, _ = run_step(tmp_path / "whole")
    monkeypatch.setattr(Passes, "__call__", fails_beyond(0))
    saved, _, run = run_step(tmp_path / "saved")
    torch.testing.assert_close(saved, whole, rtol=1e-3, atol=1e-5)
    config = RunFolder.open(run.path)[1]
    assert (config.micro_batch_size, config.gradient_checkpointing) == (1, True)


def test_only_the_smallest_pass_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    monkeypatch.setattr(Passes, "__call__", never)
    with pytest.raises(torch.OutOfMemoryError) as ended:
        run_step(tmp_path / "run")
    config = RunFolder.open(tmp_path / "run")[1]
    failure = explain_failure(ended.value, config, tmp_path / "run")
    assert failure is not None and failure.status == OUT_OF_MEMORY == 3
    assert "micro_batch_size" not in str(failure) and "max_completion_length" in str(failure)


def test_the_order_of_smaller_passes() -> None:
    sizes, batch = [], BatchChoice(12, False)
    while (smaller := next_smaller(batch)) is not None:
        sizes.append((smaller.micro_batch_size, smaller.gradient_checkpointing))
        batch = smaller
    assert sizes == [(6, False), (3, False), (1, False), (1, True)]
    assert SmallerPasses(BatchChoice(3, False), lambda batch: None).parts(8) == [range(3), range(3, 6), range(6, 8)]


def test_auto_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config, sizes = load_config("starter"), sizes_of("starter")
    found = []
    for free in (8e9, 1.2e9, 0.6e9, 0.3e9):
        monkeypatch.setattr(fitting, "free_bytes_here", lambda free=free: free)
        chosen = fit_batch(config)
        assert chosen == choose_batch(config, sizes, free, on_gpu=False)
        assert chosen.fits and chosen.need.total <= 0.9 * free and "the largest that fits" in chosen.words
        found.append(chosen.batch.micro_batch_size)
    assert found == sorted(found, reverse=True) and found[0] == 64 > found[-1]
    monkeypatch.setattr(fitting, "free_bytes_here", lambda: 1e6)
    hopeless = fit_batch(config)
    assert hopeless.batch == BatchChoice(1, True) and "may not be enough" in hopeless.words
    given = load_config("starter", {"micro_batch_size": 8, "gradient_checkpointing": True})
    assert settled(given) is given


def test_rows_that_are_too_long_are_counted() -> None:
    """The recipe on a card of 40 GB; tokens of rows are counted by their pictures' headers."""
    problems = load_rows(load_config("starter", {"data": {"train_rows": 2, "test_rows": 2}}).data).train
    assert all(16 < num < STARTER_PROMPT_TOKENS for num in prompt_tokens(load_config("starter"), problems))
    config = load_config("recipe")
    chosen = choose_batch(config, sizes_of(config.base), 41e9)
    words = longer_rows(config, chosen, [500, 1_000, 60_000], on_gpu=True)
    assert "1 of 3 are longer" in words and "turn gradient_checkpointing on" in words
    assert longer_rows(config, chosen, [500], on_gpu=True).endswith("none is longer")
