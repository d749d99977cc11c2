"""TRL's `GRPOTrainer` for a vision-language model: LoRA on the language model only, the vision tower frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from inference.format import build_messages, neutralise
from training.config import RunConfig
from training.rewards import accuracy_reward, format_reward

LORA_TARGETS = r".*\blanguage_model\b.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Every linear layer of the language model; the tower's MLP has the same layer names, hence the path."""


def build_trainer(
    config: RunConfig, base: Path | str, problems: Dataset, folder: Path, callbacks: list[TrainerCallback]
) -> GRPOTrainer:
    """A trainer for `problems` (columns `image`, `problem`, `solution`) that keeps its files in `folder`."""
    processor = AutoProcessor.from_pretrained(base)
    processor.tokenizer.padding_side = "left"
    on_gpu = torch.cuda.is_available()
    trainer = GRPOTrainer(
        model=str(base),
        processing_class=processor,
        reward_funcs=[format_reward, accuracy_reward],
        train_dataset=prompts(problems, processor.tokenizer.all_special_tokens),
        peft_config=LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"
        ),
        callbacks=callbacks,
        args=GRPOConfig(
            output_dir=str(folder / "checkpoints"),
            max_steps=config.max_steps,
            per_device_train_batch_size=config.completions_per_step,
            num_generations=config.num_generations,
            max_completion_length=config.max_completion_length,
            temperature=config.temperature,
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup_steps,
            lr_scheduler_type="linear",
            beta=config.beta,
            reward_weights=[config.format_weight, config.accuracy_weight],
            seed=config.seed,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            model_init_kwargs={"dtype": "bfloat16" if on_gpu else "float32", "use_safetensors": True},
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=on_gpu,
        ),
    )
    return trainer


def prompts(problems: Dataset, markers: list[str]) -> Dataset:
    """Problems as TRL wants them: `prompt` (plain messages, to which TRL adds the picture), `image`, `solution`."""

    def row(problem: dict[str, Any]) -> dict[str, Any]:
        messages = build_messages(neutralise(problem["problem"], markers))
        return {"prompt": [{"role": m["role"], "content": m["content"][-1]["text"]} for m in messages]}

    unneeded = [name for name in problems.column_names if name not in ("image", "solution")]
    return problems.map(row, remove_columns=unneeded)
