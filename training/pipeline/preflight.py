"""Checks of a run before its folder is made and anything large loads; they open the run's inputs.

    inputs = check_run(load_config("starter"))      # or a `UserError`; the cheapest check is first
    splits = inputs.load_rows()

The dataset and the base are looked up once: branches and tags of the Hub are replaced by commits, and a dataset on this
machine is opened. The run uses these inputs.
"""

from __future__ import annotations

import netrc
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from transformers import AutoProcessor, PreTrainedConfig

from inference.common.errors import UserError, first_line
from inference.common.settings import base_source
from inference.model.families import check_family, is_known
from inference.model.lora_file import check_adapter
from training.config.run_config import RunConfig, check_processes
from training.data.dataset import Splits, load_rows, read_pass_rates
from training.data.open_source import open_source
from training.data.source import Source, row_shape
from training.data.splits import assign_rows, splits_to_open
from training.grading.reward_loading import load_reward
from training.grpo.arguments import check_trl, rolls_out_by_trl
from training.grpo.distributed import world_size
from training.runs.failures import REFUSED, UNREACHABLE, hub_trouble
from training.runs.provenance import base_commit


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, looked up once."""

    config: RunConfig
    """The configuration with commits instead of branches and tags of the Hub."""
    source: Source | None = None
    """The opened dataset; `None` for one on the Hub, which is downloaded when its rows are read."""

    def with_config(self, config: RunConfig) -> RunInputs:
        """These inputs with the configuration of another process of the run."""
        return RunInputs(config, self.source if config.data == self.config.data else None)

    def load_rows(self, progress: bool = False) -> Splits:
        """The rows, without those whose prompt is longer than `data.max_prompt_tokens` of the base's processor."""
        data, processor = self.config.data, None
        if data.max_prompt_tokens is not None:
            base = base_source(self.config.base)
            processor = AutoProcessor.from_pretrained(base, revision=self.config.base_revision)
        source = self.source or open_source(data, splits_to_open(data), commit=data.revision)
        prompt = self.config.system_prompt_text
        return load_rows(data, processor, system_prompt=prompt, source=source, progress=progress)


def check_run(config: RunConfig) -> RunInputs:
    """Checks a configuration and opens its inputs; raises `UserError`. The cheapest check is first."""
    check_processes(config, world_size())
    if config.curriculum:
        read_pass_rates(Path(config.curriculum))
    check_tools(config)
    check_trl(config)
    if config.data.is_hub:
        from training.data.hub_source import resolve_commit

        source = None
        commit = resolve_commit(config.data.dataset, config.data.revision)
        data = config.data.model_copy(update={"revision": commit})
    else:
        data, source = config.data, _open_local(config)
    revision = _check_base(config)
    config = config.model_copy(update={"data": data, "base_revision": revision})
    if config.start_adapter:
        check_start_adapter(config)
    return RunInputs(config, source)


def check_tools(config: RunConfig) -> None:
    """Checks that the reward functions and the trackers of `report_to` are installed."""
    for name in config.rewards:
        load_reward(name)
    missing = [name for name in config.report_to if find_spec(name) is None]
    if missing:
        raise UserError(
            f"report_to names {', '.join(missing)}, which is not installed; pip install {' '.join(missing)}, "
            "or leave it out"
        )
    if "wandb" in config.report_to:
        _check_wandb()


def check_train_rows(config: RunConfig, num_rows: int) -> None:
    """Raises `UserError` where the train rows are fewer than the different prompts of a step."""
    if num_rows < config.prompts_per_step:
        raise UserError(
            f"{config.data.dataset} has {num_rows} train rows, and each step takes prompts_per_step "
            f"{config.prompts_per_step} different ones; set prompts_per_step to at most {num_rows}, or give more rows "
            "(fewer eval_rows, test rows or validation rows leave more for training)"
        )


def _check_wandb() -> None:
    """Raises `UserError` if W&B would ask for a login: no key in the environment or in `.netrc`, and not offline."""
    if os.environ.get("WANDB_MODE", "online") != "online" or os.environ.get("WANDB_API_KEY"):
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        logins = None
    if logins is None or logins.authenticators(host) is None:
        raise UserError(
            "report_to names wandb, which is not logged in on this machine; set WANDB_API_KEY, run `wandb login`, set "
            "WANDB_MODE=offline, or leave wandb out"
        )


def check_start_adapter(config: RunConfig) -> None:
    """Checks that `start_adapter` fits the base; this needs the shapes of the base, not its weights."""
    folder = Path(str(config.start_adapter)).expanduser()
    if not folder.is_dir():
        raise UserError(f"start_adapter is {config.start_adapter}, and there is no such folder; name an adapter's")
    try:
        check_adapter(folder, base_source(config.base), config.base_revision)
    except UserError as error:
        raise UserError(
            f"start_adapter {config.start_adapter} cannot be used: {error} Or leave start_adapter out, for a new one"
        ) from error


def _open_local(config: RunConfig) -> Source:
    """Opens the dataset on this machine, and checks its splits, its columns and the number of its rows."""
    source = open_source(config.data, splits_to_open(config.data))
    assignment = assign_rows(config.data, source.sizes)
    for split in source.sizes:
        row_shape(config.data, source, split)
    check_train_rows(config, assignment.sizes["train"])
    return source


def _check_base(config: RunConfig) -> str | None:
    """The commit of a base on the Hub, else its revision; raises `UserError` if the engine does not know its family."""
    try:
        revision = base_commit(config.base, config.base_revision) or config.base_revision
        settings, _ = PreTrainedConfig.get_config_dict(base_source(config.base), revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_base_message(config, error)) from error
    model_type = settings.get("model_type")
    check_family(config.base, model_type)
    if config.shard_weights and (rolls_out_by_trl(config) or not is_known(str(model_type))):
        raise UserError(
            "shard_weights is true, which the engine's rollouts alone can use, and those of this run are TRL's (by "
            f"trl, or as the engine does not know the family {model_type}); set shard_weights to false"
        )
    return revision


def _base_message(config: RunConfig, error: Exception) -> str:
    revision = f" at revision {config.base_revision}" if config.base_revision else ""
    remedy = "Name a folder with a model in safetensors and its processor, or a Hub id that this machine can reach"
    trouble = hub_trouble(error)
    if trouble == REFUSED:
        remedy = "Accept its terms on its page if it is gated, and set HF_TOKEN to a token that may read it"
    elif trouble == UNREACHABLE:
        remedy = (
            "The Hub cannot be reached: connect this machine, or name a folder with the model; with HF_HUB_OFFLINE=1 a "
            "copy that was loaded before is used"
        )
    return f"the base {config.base}{revision} cannot be loaded: {first_line(error)} {remedy}"
