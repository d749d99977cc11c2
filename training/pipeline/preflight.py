"""What is refused before a run has a folder and before anything large loads: all that can be known by then."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from inference.common.errors import UserError
from inference.common.settings import base_source
from training.config.run_config import RunConfig
from training.data.curriculum import read_pass_rates
from training.grading.reward_loading import load_reward
from training.grpo.distributed import check_processes
from training.runs.failures import REFUSED, UNREACHABLE, hub_trouble


def check_run(config: RunConfig) -> None:
    """Raise `UserError` for what cannot be done as asked, the cheapest to find first."""
    check_processes(config)
    if config.curriculum:
        read_pass_rates(Path(config.curriculum))
    check_tools(config)
    check_data(config)
    check_base(config)
    if config.start_adapter:
        check_start_adapter(config)


def check_tools(config: RunConfig) -> None:
    """The reward functions, the places for live figures and vLLM, where it is asked for, must be there."""
    for name in config.rewards:
        load_reward(name)
    missing = [name for name in config.report_to if find_spec(name) is None]
    if missing:
        raise UserError(
            f"report_to names {', '.join(missing)}, which is not installed; pip install {' '.join(missing)}, "
            "or leave it out"
        )
    if config.vllm != "off" and find_spec("vllm") is None:
        raise UserError(
            f"vllm is {config.vllm!r}, and vLLM is not installed; pip install -r requirements-vllm.txt in an "
            "environment of its own, or set vllm to off"
        )


def check_data(config: RunConfig) -> None:
    """A local dataset must be there, with its splits, columns and enough rows; one of the Hub must be readable."""
    if config.data.is_hub:
        from training.data.hub_source import resolve_commit

        resolve_commit(config.data.dataset, config.data.revision)
        return
    from training.data.source import column_mapping, open_source
    from training.data.splits import allot, splits_to_open

    source = open_source(config.data, splits_to_open(config.data))
    allot(config.data, source.sizes)
    for split in source.sizes:
        column_mapping(config.data, source.columns(split))


def check_base(config: RunConfig) -> None:
    """There must be such a base, of a family that the engine can serve."""
    from transformers import PreTrainedConfig

    from inference.model.families import check_family

    try:
        found, _ = PreTrainedConfig.get_config_dict(base_source(config.base), revision=config.base_revision)
    except (OSError, ValueError) as error:
        raise UserError(_base_message(config, error)) from error
    check_family(config.base, found.get("model_type"))


def _base_message(config: RunConfig, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    revision = f" at revision {config.base_revision}" if config.base_revision else ""
    remedy = (
        "Name a folder that holds a model in safetensors with its processor, or a Hub id that this machine can reach"
    )
    trouble = hub_trouble(error)
    if trouble == REFUSED:
        remedy = "Accept its terms on its page if it is gated, and set HF_TOKEN to a token that may read it"
    elif trouble == UNREACHABLE:
        remedy = (
            "The Hub cannot be reached: connect this machine, or name a folder that holds the model; what was loaded "
            "before is used with HF_HUB_OFFLINE=1"
        )
    return f"the base {config.base}{revision} cannot be loaded: {reason} {remedy}"


def check_start_adapter(config: RunConfig) -> None:
    """The adapter to train on from must fit the base: its shapes are compared with a model that has no weights."""
    from inference.model.lora_file import check_adapter

    folder = Path(str(config.start_adapter)).expanduser()
    if not folder.is_dir():
        raise UserError(f"start_adapter is {config.start_adapter}, and there is no such folder; name an adapter's")
    try:
        check_adapter(folder, base_source(config.base), config.base_revision)
    except UserError as error:
        raise UserError(
            f"start_adapter {config.start_adapter} cannot be trained on from: {error} "
            "Or leave start_adapter out, for a fresh one"
        ) from error
