"""TRL's own gradient of a batch of rollouts, beside ours: they differ by rounding alone.

    inputs = trainer._generate_and_score_completions(rows)
    gradient_by_trl(trainer, inputs), gradient_by_ours(trainer, inputs)

TRL's side has nothing of ours: every row goes through the processor again, with PEFT's own layers, transformers' own
attention, and each prompt read for each of its completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages

from inference.common.errors import UserError
from inference.prompt.format import PLACE, build_messages
from training.grpo.log_probs import GROUPED_ATTENTION, use_grouped_attention
from training.grpo.trainer import RunTrainer

Inputs = Mapping[str, Any]
"""A batch as `RunTrainer._generate_and_score_completions` makes it, with `rollout_prompts`."""


def gradient_by_ours(trainer: RunTrainer, inputs: Inputs) -> torch.Tensor:
    """The LoRA's gradient (P,) of the loss as a run computes it."""
    trainer.model.zero_grad()
    with trainer.accelerator.autocast():
        loss = trainer._compute_loss(trainer.model, dict(inputs))
    loss.backward()
    return _flat_gradient(trainer)


def gradient_by_trl(trainer: RunTrainer, inputs: Inputs) -> torch.Tensor:
    """The LoRA's gradient (P,) of the same loss by TRL's own methods."""
    trainer.model.zero_grad()
    with _nothing_of_ours(trainer), trainer.accelerator.autocast():
        loss = GRPOTrainer._compute_loss(trainer, trainer.model, as_trl_takes_it(trainer, inputs))
    loss.backward()
    return _flat_gradient(trainer)


def as_trl_takes_it(trainer: RunTrainer, inputs: Inputs) -> dict[str, Any]:
    """The batch with the processor's tensors of every row in the place of `rollout_prompts`.

    Raises `UserError` if the processor writes another prompt than the rollouts had.
    """
    prompts, processor = inputs["rollout_prompts"], cast(Any, trainer.processing_class)
    messages = [
        prepare_multimodal_messages(
            [
                *([{"role": "system", "content": p.system_prompt}] if p.system_prompt is not None else []),
                *(build_messages(p.question, None, len(p.images)) if PLACE in p.question else [_user(p.question)]),
            ],
            list(p.images),
        )
        for p in prompts
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    made = processor(images=[list(p.images) for p in prompts], text=text, padding=True, return_tensors="pt")
    device = inputs["completion_ids"].device
    tensors = {name: value.to(device) for name, value in made.items() if isinstance(value, torch.Tensor)}
    ids, mask = tensors.pop("input_ids"), tensors.pop("attention_mask")
    written = [row[kept.bool()].tolist() for row, kept in zip(ids, mask)]
    had = [row[kept.bool()].tolist() for row, kept in zip(inputs["prompt_ids"], inputs["prompt_mask"])]
    if written != had:
        raise UserError("TRL's prompt of a row, as the processor writes it, is not the prompt of its rollouts.")
    if "mm_token_type_ids" in tensors:
        blank = torch.zeros_like(inputs["completion_ids"])
        tensors["mm_token_type_ids"] = torch.cat([tensors["mm_token_type_ids"], blank], dim=1)
    others = {name: value for name, value in inputs.items() if name != "rollout_prompts"}
    return others | tensors | {"num_images": [len(p.images) for p in prompts]}


def _user(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


@contextmanager
def _nothing_of_ours(trainer: RunTrainer) -> Iterator[None]:
    """TRL's passes within the block, on PEFT's own layers and transformers' own attention."""
    policy, trainer.policy = trainer.policy, None
    layers = [module for module in trainer.model.modules() if isinstance(module, LoraLayer)]
    variants = [dict(layer.lora_variant) for layer in layers]
    decoder = trainer.model.get_base_model().get_decoder()
    is_grouped = decoder.config._attn_implementation == GROUPED_ATTENTION
    try:
        for layer in layers:
            layer.lora_variant.clear()
        if is_grouped:
            decoder.set_attn_implementation("sdpa")
        yield
    finally:
        trainer.policy = policy
        for layer, variant in zip(layers, variants):
            layer.lora_variant.update(variant)
        if is_grouped:
            use_grouped_attention(decoder)


def _flat_gradient(trainer: RunTrainer) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
