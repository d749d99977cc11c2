"""TRL's `GRPOConfig` of a run, with the fields that the run's `trl` adds as they are.

    check_trl(config)                                  # raises `UserError`
    grpo_config(config, folder, on_gpu=False, bf16=False).epsilon_high

Fields that the run sets itself, or that would take its records, checkpoints or evaluation from it, are refused.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from trl import GRPOConfig

from inference.common.errors import UserError, first_line
from training.config.run_config import RunConfig
from training.grpo.distributed import world_size

PROJECT = "lookthink"
"""The project of runs in trackio and W&B, unless WANDB_PROJECT names another."""
ROLLOUT_FIELDS = (
    "use_vllm",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "cache_implementation",
    "chat_template_kwargs",
    "pad_to_multiple_of",
)
"""Fields that the engine's rollouts do not know: a run that has one rolls out, and computes its loss, as TRL does."""
_RUNS_OWN = ("eval_", "hub_", "log_", "logging_", "push_", "save_", "trackio_")
"""Beginnings of the names of fields for records, checkpoints, evaluation and publishing, which a run has its own of."""
_UNKEPT = (
    "auto_find_batch_size",
    "do_eval",
    "do_predict",
    "do_train",
    "enable_jit_checkpoint",
    "fp16",
    "fp16_full_eval",
    "generation_batch_size",
    "greater_is_better",
    "ignore_data_skip",
    "load_best_model_at_end",
    "local_rank",
    "max_tool_calling_iterations",
    "metric_for_best_model",
    "model_init_kwargs",
    "num_generations_eval",
    "parallelism_config",
    "remove_unused_columns",
    "restore_callback_states_from_checkpoint",
    "resume_from_checkpoint",
    "sync_ref_model",
    "trust_remote_code",
    "use_liger_kernel",
    "use_transformers_continuous_batching",
    "use_transformers_paged",
)
"""Fields without effect here, or with one that breaks the run."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "scale_rewards": ("group", "batch", "none"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "importance_sampling_level": ("token", "sequence"),
    "vllm_mode": ("server", "colocate"),
}
"""Values of fields that TRL checks at the first loss only."""


def rolls_out_by_trl(config: RunConfig) -> bool:
    """True if the run has a field of `ROLLOUT_FIELDS`, so that generation and loss are TRL's."""
    return any(config.trl.get(name) for name in ROLLOUT_FIELDS)


def check_trl(config: RunConfig) -> None:
    """Raises `UserError` for fields of `trl` that TRL does not have, that it refuses, or that contradict the run's."""
    if not config.trl:
        return
    values = _trl_values(config)
    for name, least in (("num_iterations", 1), ("epsilon", 0), ("epsilon_high", 0)):
        if values.get(name) is not None and not values[name] >= least:
            raise UserError(f"trl.{name} is {values[name]}; give at least {least}")
    if not 0 < values.get("top_entropy_quantile", 1) <= 1:
        raise UserError(f"trl.top_entropy_quantile is {values['top_entropy_quantile']}; give above 0, at most 1")
    each = values.get("num_iterations", 1)
    if config.logging_steps % each:
        raise UserError(
            f"trl.num_iterations is {each}, so that rewards come every {each} steps, and logging_steps is "
            f"{config.logging_steps}; set it to a multiple of {each}"
        )
    if values.get("use_vllm") and config.resample_rounds:
        raise UserError(f"resample_rounds is {config.resample_rounds} with trl.use_vllm; leave one of them out")
    if world_size() == 1:  # building it connects processes; of several, `build_trainer` builds it before it loads
        with tempfile.TemporaryDirectory() as folder:
            _built(config, Path(folder), torch.cuda.is_available(), bf16=False)


class RunArguments(GRPOConfig):
    """TRL's arguments of a process, which has one card. With more of them in sight `Trainer` would wrap the model in
    `nn.DataParallel`, which TRL refuses."""

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


def grpo_config(config: RunConfig, folder: Path, on_gpu: bool, bf16: bool) -> GRPOConfig:
    """TRL's arguments. The completions of a step are generated together and trained on in micro-batches."""
    os.environ.update(tracker_environment(folder))
    return _built(config, folder, on_gpu, bf16)


def _built(config: RunConfig, folder: Path, on_gpu: bool, bf16: bool) -> GRPOConfig:
    values = _run_values(config, folder, on_gpu, bf16)
    try:
        return RunArguments(**values | _trl_values(config))
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        if not config.trl:
            raise
        raise UserError(f"TRL refuses the run with trl {config.trl}: {first_line(error)} Change trl") from error


def _trl_values(config: RunConfig) -> dict[str, Any]:
    """The fields of `trl`, each of the type that TRL's dataclass names; raises `UserError`."""
    known, held = get_type_hints(GRPOConfig), _run_values(config, Path("run"), False, False).keys() - _DEFAULTS.keys()
    values: dict[str, Any] = {}
    for name, value in config.trl.items():
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.0))
            raise UserError(f"trl has {name}, which TRL's GRPOConfig does not have; the nearest are {near}")
        if name in held or name in _UNKEPT or name.startswith(_RUNS_OWN):
            own = f"set {name} itself" if name in RunConfig.model_fields else "leave it out"
            raise UserError(f"trl has {name}, which a run decides by its own settings; {own}")
        try:
            values[name] = TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            raise UserError(f"trl.{name} is {value!r}: {error.errors()[0]['msg']}") from None
        if value not in _CHOICES.get(name, (value,)):
            raise UserError(f"trl.{name} is {value!r}; give one of {', '.join(_CHOICES[name])}")
    return values


_DEFAULTS = {"epsilon": 0.2, "scale_rewards": "group", "num_iterations": 1}
"""Fields that `trl` may change, by the values that they have otherwise whatever TRL's defaults are."""


def _run_values(config: RunConfig, folder: Path, on_gpu: bool, bf16: bool) -> dict[str, Any]:
    """The fields that a run decides by its own settings, and `_DEFAULTS`."""
    share = config.completions_per_step // world_size()
    size = share if config.micro_batch_size == "auto" else config.micro_batch_size  # auto: only to check the arguments
    micro = math.gcd(share, size) if size < share else share
    return _DEFAULTS | {
        "output_dir": str(folder / "checkpoints"),
        "max_steps": config.max_steps or -1,
        "num_train_epochs": config.num_epochs,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": share // micro,
        "steps_per_generation": share // micro,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "lr_scheduler_type": config.lr_schedule,
        "max_grad_norm": config.max_grad_norm,
        "beta": config.beta,
        "loss_type": config.loss_type,
        "reward_weights": list(config.rewards.values()),
        "shuffle_dataset": config.curriculum is None,
        "seed": config.seed,
        "use_cpu": not on_gpu,
        "bf16": bf16,
        "gradient_checkpointing": config.gradient_checkpointing is True,
        "ddp_broadcast_buffers": False,  # none ever changes, and processes may need different numbers of passes
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": None,  # old checkpoints are deleted once a newer one is complete, not before
        "report_to": list(config.report_to) or "none",
        "run_name": run_id(folder),
        "project": PROJECT,
        "trackio_static_space_id": False,  # nothing leaves this machine
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def tracker_environment(folder: Path) -> dict[str, str]:
    """Environment variables: the trackers write into the run folder, and continue a resumed run.

    >>> tracker_environment(Path("/runs/first"))["TENSORBOARD_LOGGING_DIR"]
    '/runs/first/tensorboard'
    """
    folder = folder.absolute()
    return {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", PROJECT),
        "WANDB_RUN_ID": run_id(folder),
        "WANDB_RESUME": "allow",
    }


def run_id(folder: Path) -> str:
    """An id that each start of a run shares and no other run has: its name with a hash of its path."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in folder.name)[:64]
    return f"{name}-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]}"
