"""The engine beside the trainer: the same weights, the LoRA as it stands, and completions that a resume draws again."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from PIL import Image

from inference.common.errors import UserError
from inference.common.files import read_lines
from inference.model.lora_layers import RoutedLinear
from inference.prompt.image import content_key
from tests.training.grpo.test_log_probs import make
from training.config.run_config import RunConfig
from training.grpo.reference import as_trl_takes_it
from training.grpo.rollouts import RolloutWriter, live_adapter, rollout_seed
from training.grpo.trainer import RunTrainer
from training.runs.folder import RunFolder

LENGTH = 12


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: Any) -> RunTrainer:
    return make(tmp_path_factory.mktemp("policy"), max_completion_length=LENGTH, top_p=0.9, lora_dropout=0.5)


@pytest.fixture(scope="module")
def rollouts(trainer: RunTrainer) -> dict[str, Any]:
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def test_base_and_adapter_are_the_trainers_own_tensors(trainer: RunTrainer) -> None:
    twin, trained = trainer.policy.engine._model, trainer.model.get_base_model()
    base = {name.replace("base_layer.", ""): p for name, p in trained.named_parameters() if "lora_" not in name}
    own = dict(twin.named_parameters())
    assert own.keys() == base.keys() and all(own[name] is base[name] for name in own)
    assert not any(isinstance(module, LoraLayer) for module in twin.modules())
    assert not any(isinstance(module, RoutedLinear) for module in trained.modules())
    matrices = {p.data_ptr() for name, p in trained.named_parameters() if "lora_" in name}
    factors = live_adapter(trainer.model).values()
    assert {f.a.data_ptr() for f in factors} | {f.b.data_ptr() for f in factors} == matrices


@pytest.mark.slow
def test_greedy_rollouts_are_those_of_peft_before_and_after_a_step(trainer: RunTrainer, rollouts: Any) -> None:
    """transformers' `generate` on the trained model, in evaluation mode: no dropout."""
    prompts = rollouts["rollout_prompts"]
    inputs = as_trl_takes_it(trainer, rollouts)
    names = ("pixel_values", "image_grid_thw")
    seen: list[list[list[int]]] = []
    for factor in (-8, -1 / 8):  # the second one undoes the first
        ours = trainer.policy.generate(prompts, [0] * len(prompts), max_new_tokens=LENGTH, temperature=0.0)
        trainer.model.eval()
        made = trainer.model.generate(
            input_ids=inputs["prompt_ids"],
            attention_mask=inputs["prompt_mask"],
            mm_token_type_ids=inputs["mm_token_type_ids"][:, : inputs["prompt_ids"].shape[1]],
            **{name: inputs[name] for name in names},
            max_new_tokens=LENGTH,
            do_sample=False,
            suppress_tokens=list(trainer.policy.engine.tokenizer.vocabulary.suppressed),
        )
        trainer.model.train()
        theirs = made[:, inputs["prompt_ids"].shape[1] :].tolist()
        assert [row[: len(mine)] for row, mine in zip(theirs, ours)] == ours
        seen.append(ours)
        with torch.no_grad():  # as an optimizer does: in place
            for name, parameter in trainer.model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(factor)
    assert seen[0] != seen[1]


def test_a_group_shares_its_prompt_and_has_rewards_with_its_picture(trainer: RunTrainer, rollouts: Any) -> None:
    prompts = rollouts["rollout_prompts"]
    assert [id(p) for p in prompts] == [id(prompts[0])] * 4 + [id(prompts[4])] * 4
    assert prompts[0] is not prompts[4]
    assert not any(p.picture.features.is_inference() for p in prompts)
    assert "old_per_token_logps" not in rollouts, "the rollouts are of the policy that is trained: nothing to compute"


def test_a_prompt_without_room_for_its_completion_is_named(trainer: RunTrainer, rollouts: Any) -> None:
    prompts = rollouts["rollout_prompts"]
    longest = max(len(prompt.ids) for prompt in prompts)
    with pytest.raises(UserError, match=f"{longest} tokens.*max_completion_length 4,090.*max_prompt_tokens, at most 6"):
        trainer.policy.generate(prompts, [0] * len(prompts), max_new_tokens=4090)


def test_rollouts_hold_no_memory_while_the_loss_runs(
    trainer: RunTrainer, rollouts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither keys and values nor the whole weights."""
    made: list[weakref.ref] = []

    def noted(model: Any) -> Any:
        adapter = live_adapter(model)
        made.extend(weakref.ref(factors.merged) for factors in adapter.values())
        return adapter

    monkeypatch.setattr("training.grpo.rollouts.live_adapter", noted)
    trainer.policy.generate(rollouts["rollout_prompts"], [0] * 8, max_new_tokens=2)
    gc.collect()
    assert made and not any(whole() is not None for whole in made)
    cache = trainer.policy.engine._scheduler._batch._cache
    assert (cache.num_rows, cache.num_columns, cache._tensors()) == (0, 0, [])


def test_the_same_step_draws_the_same_completions(trainer: RunTrainer, rollouts: Any) -> None:
    torch.manual_seed(1)  # whatever the random state
    again, other = (_completions(trainer, step) for step in (0, 1))
    assert again == rollouts["completion_ids"].tolist() and other != again


def test_a_repetition_penalty_of_the_base_changes_no_rollout_and_no_log_probability(
    trainer: RunTrainer, rollouts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither ours nor those that TRL makes where it generates itself."""

    def log_probs() -> torch.Tensor:
        trainer.model.eval()  # no dropout
        ids = torch.cat([rollouts["prompt_ids"], rollouts["completion_ids"]], dim=1)
        mask = torch.cat([rollouts["prompt_mask"], rollouts["completion_mask"]], dim=1)
        pictures = {"pixel_values": rollouts["rollout_prompts"]}
        length = rollouts["completion_ids"].shape[1]
        with torch.no_grad():
            found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length, **pictures)[0]
        trainer.model.train()
        return found

    before = log_probs()
    for config in (trainer.model.generation_config, trainer.policy.engine._model.generation_config):
        monkeypatch.setattr(config, "repetition_penalty", 5.0)
    monkeypatch.setattr(trainer.policy.engine, "repetition_penalty", 5.0)
    assert _completions(trainer, 0) == rollouts["completion_ids"].tolist()
    assert torch.equal(log_probs(), before)
    merged, _ = trainer.model.get_base_model()._prepare_generation_config(trainer.generation_config)
    assert merged.repetition_penalty == 1.0 and set(merged.eos_token_id) == set(trainer.eos_token_ids)


def _completions(trainer: RunTrainer, step: int) -> list[list[int]]:
    trainer.state.global_step = step
    try:
        made = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    finally:
        trainer.state.global_step = 0
    return made["completion_ids"].tolist()


@given(st.tuples(*[st.integers(0, 2**31 - 1)] * 4), st.tuples(*[st.integers(0, 2**31 - 1)] * 4))
def test_seeds_are_within_what_a_row_takes_and_differ(one: tuple, other: tuple) -> None:
    assert 0 <= rollout_seed(*one) < 2**63
    assert (rollout_seed(*one) == rollout_seed(*other)) == (one == other)


def logs(pictures: list, size: int) -> dict:
    """What TRL's trainer holds after a batch: an older row first, as its logs may be longer than a batch."""
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "How many?"}]}]
    texts = [[{"role": "assistant", "content": f"c{i}"}] for i in range(-1, size)]
    return {
        "prompt": deque([prompt] * (size + 1)),
        "completion": deque(texts),
        "rewards": {"accuracy_reward": deque([9.0] + [float(i % 2) for i in range(size - 1)] + [float("nan")])},
        "advantages": deque([9.0] + [0.5] * size),
        "images": deque([[pictures[0]]] + [[p] for p in pictures]),
        "extra": {"accuracy_reason": deque(["old"] + ["same choice"] * size), "answer": deque(["old"] + ["B"] * size)},
    }


ROWS = [("train-0-a", "$2$")] * 2 + [(None, 7)] * 2
"""Of each completion the row's id and its solution."""


def test_a_batch_is_written_by_group(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGBA", (8, 8), "blue")
    RolloutWriter(folder).write(3, logs([red, red, blue, blue], 4), 2, [5, 6, 7, 8], [True] * 3 + [False], ROWS)
    first, second = read_lines(folder.rollouts)
    assert (first["step"], first["prompt"], len(first["completions"])) == (3, "How many?", 2)
    assert [c["text"] for c in first["completions"]] == ["c0", "c1"]
    assert first["completions"][1] == {
        "text": "c1",
        "num_tokens": 6,
        "truncated": False,
        "rewards": {"accuracy_reward": 1.0},
        "answer": "B",
        "reasons": {"accuracy": "same choice"},
        "advantage": 0.5,
    }
    assert second["completions"][1]["truncated"] is True
    assert second["completions"][1]["rewards"] == {"accuracy_reward": None}  # it had nothing to say
    assert (first["row"], first["solution"], second["solution"]) == ("train-0-a", "$2$", "7") and "row" not in second
    assert first["image"] != second["image"]
    with Image.open(folder.images / second["image"]) as kept:
        assert kept.size == (8, 8)


def test_a_picture_is_kept_once(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    red = Image.new("RGB", (8, 8), "red")
    for step in (1, 2):
        RolloutWriter(folder).write(step, logs([red] * 2, 2), 2, [1, 1], [True, True])
    assert [p.name for p in folder.images.iterdir()] == [f"{content_key(red).hex()}.jpg"]
    assert len(list(read_lines(folder.rollouts))) == 2
