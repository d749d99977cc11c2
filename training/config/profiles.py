"""The named profiles: the values of a run that nobody sets otherwise."""

from __future__ import annotations

from inference.common.files import Json
from training.config.data_config import RECIPE_DATA

PROFILES: dict[str, Json] = {
    "starter": {"max_steps": 150, "data": {"train_rows": 1200, "test_rows": 480}},
    "recipe": {
        "base": "Qwen/Qwen2.5-VL-3B-Instruct",
        "data": RECIPE_DATA,
        "prompts_per_step": 1,
        "num_generations": 2,
        "micro_batch_size": 2,
        "max_completion_length": 1024,
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "lora_rank": 8,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "lora_modules": ("q_proj", "v_proj"),
        "rewards": {"format_reward": 1.0, "accuracy_reward": 1.0},
        "gradient_checkpointing": True,
        "save_steps": 10,
        "seed": 42,
    },
    "a100": {
        "base": "Qwen/Qwen2.5-VL-3B-Instruct",
        "data": {
            "dataset": RECIPE_DATA["dataset"],
            "test_share": 0.05,
            "validation_rows": 200,
            "max_pixels": 401_408,
            "max_prompt_tokens": 1024,
        },
        "micro_batch_size": 8,
        "max_completion_length": 768,
        "learning_rate": 2e-5,
        "lr_schedule": "cosine",
        "lora_rank": 32,
        "lora_alpha": 64,
        "save_steps": 20,
        "choose_checkpoint": True,
    },
}
"""Values other than `RunConfig`'s defaults. `recipe` is exactly the cookbook's; `a100` is for one GPU of 80 GB."""
