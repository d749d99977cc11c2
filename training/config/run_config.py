"""`RunConfig`: everything that decides a GRPO run, validated once.

    >>> load_config("a100", {"max_steps": 200}).num_generations
    8

A profile gives the values, a YAML file changes some of them, and single values change those again. Page, command line
and Job start runs through it. Standard library, pydantic and YAML only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_names import repository_problem
from inference.common.settings import Settings, base_source
from inference.common.validation import explain
from inference.prompt.system_prompt import NAMED_PROMPTS, check_system_prompt, chosen_prompt, prompt_text
from training.config.data_config import STARTER, DataConfig, read_data_config

CHANGEABLE = (
    "micro_batch_size",
    "gradient_checkpointing",
    "keep_checkpoints",
    "save_steps",
    "num_processes",
    "num_nodes",
    "shard_weights",
    "report_to",
    "max_hours",
    "stall_factor",
    "publish_to",
    "publish_every_minutes",
    "publish_public",
)
"""Settings that may change when a run is resumed: they change neither what a step samples nor what it learns."""
PINNED = ("base_revision", "data.revision")
"""Settings that a run resolves to a commit when it begins; a later `None` means that commit."""
RECIPE_DATA: Json = {
    "dataset": "lmms-lab/multimodal-open-r1-8k-verified",
    "split": "train[:5%]",
    "test_share": 0.2,
    "seed": 42,
    "validation_rows": 200,
    "max_pixels": None,
    "drop_repeats": False,
    "drop_unreadable": False,
}
"""The starting recipe's data: 307 train and 77 test rows as they come, and validation from outside its slice."""
PROFILES: dict[str, Json] = {
    "starter": {"max_steps": 30, "eval_conditions": "main", "data": {"train_rows": 1200, "test_rows": 480}},
    "recipe": {
        "base": "Qwen/Qwen2.5-VL-3B-Instruct",
        "data": RECIPE_DATA,
        "prompts_per_step": 1,
        "num_generations": 2,
        "micro_batch_size": 2,
        "max_completion_length": 1024,
        "temperature": 1.0,
        "top_p": 1.0,
        "system_prompt": "r1",
        "max_steps": 0,
        "num_epochs": 1.0,
        "learning_rate": 1e-5,
        "lr_schedule": "linear",
        "warmup_steps": 0,
        "max_grad_norm": 1.0,
        "beta": 0.0,
        "loss_type": "bnpo",
        "skip_zero_signal": False,
        "share_prompts": False,
        "lora_rank": 8,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "lora_modules": ("q_proj", "v_proj"),
        "rewards": {"cookbook_format_reward": 1.0, "cookbook_accuracy_reward": 1.0},
        "gradient_checkpointing": False,
        "logging_steps": 10,
        "save_steps": 10,
        "keep_checkpoints": None,
        "publish_every_minutes": 0.0,
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
        "max_completion_length": 768,
        "learning_rate": 2e-5,
        "lr_schedule": "cosine",
        "lora_rank": 32,
        "lora_alpha": 64,
        "save_steps": 20,
        "choose_checkpoint": True,
    },
}
PROFILES["40gb"] = PROFILES["a100"]
PROFILES["24gb"] = PROFILES["a100"] | {
    "data": PROFILES["a100"]["data"] | {"max_pixels": 200_704, "max_prompt_tokens": 768},
    "prompts_per_step": 4,
    "max_completion_length": 512,
}
"""Settings by profile; the others have `RunConfig`'s defaults. `recipe` reproduces the cookbook's run in all but the
words of its prompt, also what TRL had as defaults in August 2025; `a100` is for one GPU of 80 GB, `40gb` for one of 40
or 48 GB, on which micro-batches are smaller, `24gb` for one of 24 GB."""
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class RunConfig(BaseModel):
    """One GRPO run. The defaults are those of the profile `starter`, which `make train` runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # JSON has neither

    profile: str = Field("starter", description="the profile that gave the other values")
    base: str = Field("starter", description="local folder or Hub id of the base; `starter` is the shipped one")
    base_revision: str | None = Field(None, description="branch, tag or commit of a base on the Hub")
    start_adapter: str | None = Field(None, description="folder of an adapter to continue from; without it a new LoRA")
    data: DataConfig = Field(default_factory=lambda: read_data_config(), description="the dataset")

    system_prompt: str = Field(
        next(iter(NAMED_PROMPTS)),
        description=f"asks for the reasoning: {', '.join(NAMED_PROMPTS)}, a text file, or a text of your own",
    )

    max_steps: int = Field(0, ge=0, description="optimizer steps; 0 trains for `num_epochs` instead")
    num_epochs: float = Field(1.0, gt=0, le=1000, description="passes over the train rows where max_steps is 0")
    prompts_per_step: int = Field(8, ge=1, le=65_536, description="different prompts in a step")
    num_generations: int = Field(8, ge=2, le=65_536, description="completions of one prompt (the size of a group)")
    micro_batch_size: Annotated[int, Field(ge=1, le=2**32)] | Literal["auto"] = Field(
        "auto",
        description="completions in one forward and backward pass of a card; auto: the most that its free memory "
        "admits by the estimate",
    )
    max_completion_length: int = Field(96, ge=1, le=32_768, description="tokens a completion may have")
    temperature: float = Field(1.0, gt=0, le=5, description="sampling temperature of the rollouts")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the rollouts; 1 samples from everything")

    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="after the warm-up")
    warmup_steps: int = Field(10, ge=0, description="steps until the peak learning rate")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    beta: float = Field(0.0, ge=0, description="weight of the KL penalty; 0 needs no reference model")
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = Field("dapo", description="how token losses are averaged")

    lora_rank: int = Field(16, ge=1, le=512, description="rank of the LoRA matrices")
    lora_alpha: int = Field(32, ge=1, description="LoRA scale times rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of LoRA inputs dropped in training")
    lora_modules: tuple[str, ...] = Field(ALL_LINEAR, description="names of the adapted layers of the language model")

    rewards: dict[str, float] = Field(
        default_factory=lambda: {"format_reward": 0.5, "accuracy_reward": 1.0},
        description="reward functions, ours or `module:function`, and their weights",
    )
    skip_zero_signal: bool = Field(True, description="leave completions with advantage 0 out of the loss's passes")
    share_prompts: bool = Field(
        True, description="read each prompt once for its group in the loss, with one LoRA dropout for the group"
    )
    resample_rounds: int = Field(
        0, ge=0, le=8, description="rounds in a step that replace groups without signal by new prompts, at most"
    )
    curriculum: str | None = Field(
        None, description="JSON of `audit --with-model`: trains from high pass rates to low, without 0 and 1"
    )

    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto", description="recompute activations to save memory, for time; auto: only if it does not fit otherwise"
    )
    num_processes: int = Field(
        0, ge=0, le=64, description="processes of a machine that share each step; 0: one a card, or one"
    )
    num_nodes: int = Field(
        1, ge=1, le=64, description="machines that share each step: Jobs in one network, or started by hand on each"
    )
    shard_weights: bool = Field(
        False, description="each process holds a part of the base's weights (FSDP2), for a base that fits no card"
    )
    trl: dict[str, JsonValue] = Field(
        default_factory=dict, description="further fields of TRL's GRPOConfig, which get these values as they are"
    )

    logging_steps: int = Field(
        1, ge=1, description="steps between records of the metrics, each their mean since the last"
    )
    save_steps: int = Field(25, ge=1, description="steps between checkpoints")
    keep_checkpoints: int | None = Field(
        3, ge=1, description="checkpoints kept; older ones are deleted; none keeps all"
    )
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(
        ("tensorboard",), description="trackers that get the live metrics, besides the run folder"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seeds order, sampling and LoRA weights")
    eval_rows: int = Field(480, ge=0, description="test rows for the evaluation at the end; 0 skips it")
    eval_conditions: Literal["main", "all"] = Field(
        "all",
        description="the five conditions that the verdict needs, or all, which takes three times as long",
    )
    choose_checkpoint: bool = Field(
        False, description="takes the checkpoint that is best on the validation rows, not the last one"
    )
    max_hours: float | None = Field(
        None, gt=0, description="hours of training over all starts; stops at a checkpoint before"
    )
    stall_factor: float = Field(
        20.0,
        ge=0,
        le=10_000,
        description="times its usual seconds, at least ten minutes, after which a step is a stall: the run is ended at "
        "a checkpoint and resumed once; 0: never",
    )
    publish_to: str | None = Field(
        None, description="Hub repository owner/name for the adapter, during training and at its end"
    )
    publish_every_minutes: float = Field(
        30.0, ge=0, le=10_000, description="minutes between checkpoints that are published; 0 publishes each"
    )
    publish_public: bool = Field(False, description="make a new repository publish_to public, not private")

    @property
    def completions_per_step(self) -> int:
        return self.prompts_per_step * self.num_generations

    @property
    def system_prompt_text(self) -> str:
        """The system prompt, also of one that is named."""
        return prompt_text(self.system_prompt)

    @model_validator(mode="before")
    @classmethod
    def _without_vllm(cls, values: Any) -> Any:
        """Leaves out the two settings of vLLM, which runs recorded before `trl` have; they were off."""
        if not isinstance(values, dict) or "vllm" not in values:
            return values
        if values["vllm"] != "off":
            raise ValueError("vllm is no setting; write `trl: {use_vllm: true}` into a YAML file (docs/multi-gpu.md)")
        return {name: value for name, value in values.items() if name not in ("vllm", "vllm_url")}

    @field_validator("system_prompt")
    @classmethod
    def _is_a_prompt(cls, value: str) -> str:
        """A name or a text. Files are read by `load_config`, so that the run has their content wherever it goes on."""
        try:
            return value if value in NAMED_PROMPTS else check_system_prompt(value, "the system prompt")
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for problem in (self._rewards_problem(), self._batch_problem(), self._other_problem()):
            if problem:
                raise ValueError(problem)
        return self

    def _rewards_problem(self) -> str | None:
        if any(weight < 0 for weight in self.rewards.values()):
            return f"rewards has a weight below 0 ({self.rewards}); give 0 or more"
        if not any(self.rewards.values()):
            return f"no reward has a weight above 0 ({self.rewards}); give at least one, as in `accuracy_reward: 1.0`"
        return None

    def _batch_problem(self) -> str | None:
        size, total = self.micro_batch_size, self.completions_per_step
        if size != "auto" and total % size and size < total:
            small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
            fits = sorted({*small, *(total // n for n in small)})
            fits = sorted(sorted(fits, key=lambda n: abs(n - size))[:20])  # the nearest
            return (
                f"micro_batch_size {size} does not divide the {total} completions of a step "
                f"(prompts_per_step {self.prompts_per_step} × num_generations {self.num_generations}); "
                f"give one of {', '.join(map(str, fits))}"
            )
        return None

    def _other_problem(self) -> str | None:
        if self.max_steps and self.warmup_steps >= self.max_steps:
            return (
                f"warmup_steps {self.warmup_steps} is not below max_steps {self.max_steps}: the learning rate would "
                "never reach its peak; lower warmup_steps"
            )
        if not self.lora_modules or any(not re.fullmatch(r"\w+", name) for name in self.lora_modules):
            return f"lora_modules is {self.lora_modules}; give names of layers, such as q_proj v_proj"
        if self.base_revision and (self.base == STARTER or Path(self.base).is_absolute()):
            base = "the starter" if self.base == STARTER else f"{self.base}, a folder,"
            return f"base_revision is {self.base_revision!r}, but {base} has no revisions; leave it out"
        if self.eval_rows and not self.data.has_test_rows:
            none = f"data.test_{'share' if self.data.test_rows is None else 'rows'} is 0"
            return f"eval_rows is {self.eval_rows}, but {none}, which leaves no test rows; give some, or eval_rows 0"
        if self.choose_checkpoint and not self.data.validation_rows:
            return "choose_checkpoint needs rows to choose by, and data.validation_rows is 0; give at least 100"
        return None if self.publish_to is None else repository_problem("publish_to", self.publish_to)


def check_processes(config: RunConfig, num_processes: int) -> None:
    """Raises `UserError` if so many processes cannot share the steps."""
    if config.completions_per_step % num_processes:
        raise UserError(
            f"{config.completions_per_step} completions a step cannot be shared by {num_processes} processes; "
            f"make prompts_per_step × num_generations a multiple of {num_processes}, or set num_processes"
        )
    if config.resample_rounds and config.prompts_per_step % num_processes:
        raise UserError(
            f"resample_rounds is {config.resample_rounds}, and {config.prompts_per_step} prompts a step leave "
            f"{num_processes} processes no whole groups; make prompts_per_step a multiple of {num_processes}, or set "
            "resample_rounds to 0"
        )


def load_config(
    profile: str | None = None,
    values: Mapping[str, Any] | None = None,
    file: Path | None = None,
    deployment: Settings | None = None,
) -> RunConfig:
    """The configuration of a profile, changed by the deployment, by a YAML file and by single values.

    `data` may be partial. A deployment gives base, dataset and repository where nobody names others
    (`deployment_profile`, `deployment_values`). Raises `UserError` that names the value, what is wrong with it, and
    what to give instead.
    """
    from_file = read_config_file(file) if file else {}
    values = dict(values or {})
    name = profile or values.get("profile") or from_file.get("profile")
    if name is None:
        name = deployment_profile(deployment) if deployment else "starter"
    if name not in PROFILES:
        raise UserError(f"there is no profile {name!r}; there are {', '.join(PROFILES)}")
    merged: Json = {}
    of_deployment = deployment_values(deployment, name) if deployment else {}
    for layer in (PROFILES[name], of_deployment, _with_prompt(from_file), _with_prompt(values)):
        data = _mapping(layer.get("data", {}))
        before = merged.get("data", {})
        if data.get("dataset", STARTER) != STARTER and before.get("dataset", STARTER) == STARTER:
            before = {}  # the number of starter problems means nothing for another dataset
        merged |= {**layer, "data": {**before, **data}}
    return check_config(merged | {"profile": name}, file)


def deployment_profile(settings: Settings) -> str:
    """The profile that a run begins with where nobody names one: that of the base which answers here, or, where runs
    are Jobs, which need not fit this machine, of the base that space.yaml names."""
    is_job = settings.training.trainer == "job"
    is_starter = base_source(STARTER) == settings.named_base if is_job else settings.is_starter
    return "starter" if is_starter else "a100"


def deployment_values(settings: Settings, profile: str) -> Json:
    """The settings that space.yaml gives to a run of a profile.

    A profile for a real base gets the base that the deployment names, and its dataset, unless it is the recipe, which
    has its own and publishes at each save. Adapters of that base go to the deployment's repository.
    """
    is_starter_profile = PROFILES[profile].get("base", STARTER) == STARTER
    is_starter_here = base_source(STARTER) == settings.named_base
    if is_starter_profile != is_starter_here:
        return {}
    training = settings.training
    values: Json = {}
    if not is_starter_profile:
        values["base"] = settings.named_base
        values["data"] = {} if profile == "recipe" else {"dataset": training.dataset}
    if training.publish_to is not None:
        names = ["publish_to", "publish_public"] + ["publish_every_minutes"] * (profile != "recipe")
        values |= {name: getattr(training, name) for name in names}
    return values


def check_config(values: Json, file: Path | None = None) -> RunConfig:
    """The configuration of these values (`data` is a mapping), its paths absolute; raises `UserError`."""
    try:
        return RunConfig(**_with_absolute_paths(values))
    except ValidationError as error:
        raise UserError(f"{file}: {explain(error, RunConfig)}" if file else explain(error, RunConfig)) from None


def change_config(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some values changed (`data` may be partial), validated anew; raises `UserError`."""
    data = config.data.model_dump() | dict(values.get("data", {}))
    return check_config(config.model_dump() | _with_prompt(values) | {"data": data})


def differences(stored: RunConfig, other: RunConfig) -> dict[str, str]:
    """The differences of two configurations by the setting's name, as `name: stored, not other`.

    >>> before = load_config("starter")
    >>> differences(before, change_config(before, {"micro_batch_size": 8}))
    {'micro_batch_size': "micro_batch_size: 'auto', not 8"}
    """
    one, two = (_flat(config.model_dump(mode="json")) for config in (stored, other))
    names = [name for name in one | two if one.get(name) != two.get(name)]
    differing = [name for name in names if name not in PINNED or two.get(name) is not None]
    return {name: f"{name}: {one.get(name)!r}, not {two.get(name)!r}" for name in differing}


def _flat(values: Json, prefix: str = "") -> Json:
    flat: Json = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _with_prompt(values: Mapping[str, Any]) -> Json:
    """The settings with the content of the file that `system_prompt` names; `None` there is the project's own."""
    if "system_prompt" not in values:
        return dict(values)
    prompt = values["system_prompt"]
    return {**values, "system_prompt": next(iter(NAMED_PROMPTS)) if prompt is None else chosen_prompt(prompt)}


def _with_absolute_paths(values: Json) -> Json:
    """Makes paths absolute, so that a run can be resumed from another working directory."""
    data = values["data"]
    result = dict(values)
    for name in ("start_adapter", "curriculum"):
        if isinstance(values.get(name), str):
            result[name] = os.path.abspath(Path(values[name]).expanduser())
    base, dataset = values.get("base"), data.get("dataset")
    if isinstance(base, str) and base != STARTER and not values.get("base_revision"):
        result["base"] = _absolute(base)
    if isinstance(dataset, str) and dataset.strip() != STARTER and not data.get("revision"):
        result["data"] = data | {"dataset": _absolute(dataset.strip())}
    return result


def _absolute(name: str) -> str:
    """The absolute path of something that exists; anything else, such as a Hub id, unchanged."""
    path = Path(name).expanduser()
    return os.path.abspath(path) if path.exists() else name


def _mapping(value: object) -> Json:
    if isinstance(value, DataConfig):
        return value.model_dump(exclude_unset=True)
    if not isinstance(value, Mapping):
        raise UserError(f"data is {value!r}; give settings, such as `dataset: owner/name` on a line of its own")
    return dict(value)


def read_config_file(file: Path) -> Json:
    """The settings in a YAML file, not validated yet. Raises `UserError`."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the configuration {file} cannot be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the configuration {file} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"the configuration {file} is not a list of `name: value` lines")
    return content
