"""The settings of a run as fields of a form: one component for each field of `RunConfig` and of its data.

    form = Fields()
    with gr.Row():
        form.add("max_steps", "Steps")
    values = form.values(profile, *sent)     # what differs from the profile, as `load_config` takes it

Nothing is checked here: `load_config` does that, for the page as for the command line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import gradio as gr
import yaml
from gradio.components import Component
from pydantic.fields import FieldInfo

from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.ui.components import LiveDropdown
from training.config.data_config import DataConfig
from training.config.run_config import RunConfig, load_config
from training.ui.base.html import capitalised

NOT_IN_FORM = ("profile", "start_adapter", "data", "trl")
"""The form has its own fields for these, and none for `trl`, which a YAML file gives."""
BUDGETS = ("max_hours",)
"""A budget belongs to the record of a run, which puts it into the configuration."""
LABELS = {
    "data.seed": "Seed of the data",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_modules": "LoRA modules",
    "lr_schedule": "Learning rate schedule",
    "max_grad_norm": "Largest gradient norm",
    "max_pixels": "Most pixels",
    "num_epochs": "Passes over the data",
    "num_nodes": "Machines",
    "num_processes": "Processes of a machine",
    "shard_weights": "Sharded weights (FSDP2)",
    "top_p": "Top p",
}
"""Labels of settings whose name, in words, is not the usual label."""
BUDGET_LABELS = {
    "max_hours": "Stop after (hours)",
    "max_dollars": "Stop after (dollars)",
    "dollars_per_hour": "Dollars per hour",
}
MAX_CHARS = 4_000
_DATA = "data."


class Fields:
    """Components by the dotted names of settings, in the order they were added.

    They begin with the values of the profile that fits this deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self.components: dict[str, Component] = {}
        self._settings = settings
        self._labels = dict(BUDGET_LABELS)

    def add(self, name: str, label: str = "", info: str = "") -> None:
        """Make the component of a setting, filled from the deployment's profile."""
        field = _field(name)
        common: dict[str, Any] = {
            "label": label or LABELS.get(name) or capitalised(name.removeprefix(_DATA).replace("_", " ")),
            "info": info or capitalised(field.description or ""),
            "elem_id": f"train-{name.replace('.', '-').replace('_', '-')}",
        }
        self._labels |= dict.fromkeys((name, name.removeprefix(_DATA)), common["label"])
        [value], kind = self.shown(self.config(None), [name]), _kind(field.annotation)
        if isinstance(value, bool):
            component: Component = gr.Checkbox(value, **common)
        elif name == "data.dataset":  # its choices come with the form's refresh, behind the guard
            component = LiveDropdown([value], value=value, allow_custom_value=True, **common)
        elif choices := _choices(kind):
            component = gr.Dropdown(choices, value=value, filterable=False, **common)
        else:
            lines = 6 if name == "system_prompt" else 1
            component = gr.Textbox(value, max_length=MAX_CHARS, max_lines=lines, **common)
        self.components[name] = component

    def config(self, profile: str | None, changes: Mapping[str, object] | None = None) -> RunConfig:
        """A profile's configuration (`None`: the deployment's profile) with changes; raises `UserError`."""
        return load_config(profile, changes, deployment=self._settings)

    def in_words(self, message: str) -> str:
        """A refusal with the form's labels in the place of the settings' names."""
        names = "|".join(map(re.escape, sorted(self._labels, key=len, reverse=True)))
        pattern = re.compile(rf"(?<![\w-])(?:--)?({names})(?![\w(])")
        return pattern.sub(lambda match: f"“{self._labels[match[1]]}”", message)

    def shown(self, config: RunConfig, names: list[str] | None = None) -> list[str | bool]:
        """The values of the components (or of `names`) for a profile's configuration, in their order."""
        return [shown(name, config) for name in names or self.components]

    def values(self, profile: str, *sent: object) -> dict[str, object]:
        """The settings that differ from the profile's, as `load_config` takes them. Raises `UserError`."""
        config = self.config(profile)
        changes: dict[str, object] = {}
        data: dict[str, object] = {}
        for name, value in zip(self.components, sent, strict=True):
            if value == shown(name, config):
                continue
            target, key = (data, name.removeprefix(_DATA)) if name.startswith(_DATA) else (changes, name)
            target[key] = _read(name, value)
        return changes | ({"data": data} if data else {})


def all_names() -> list[str]:
    """Every setting that the form has."""
    own = [name for name in RunConfig.model_fields if name not in (*NOT_IN_FORM, *BUDGETS)]
    return own + [_DATA + name for name in DataConfig.model_fields]


def shown(name: str, config: RunConfig) -> str | bool:
    """A setting's value in its component: text, or a switch; empty if it is not set."""
    value = getattr(config.data if name.startswith(_DATA) else config, name.removeprefix(_DATA))
    if isinstance(value, bool):
        return str(value).lower() if _choices(_kind(_field(name).annotation)) else value
    if value is None:
        return ""
    if isinstance(value, dict | tuple):
        plain = list(value) if isinstance(value, tuple) else value
        return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{value:g}" if isinstance(value, float) else str(value)


def number_field(label: str, info: str, name: str) -> gr.Textbox:
    """A field for a number that may be left empty; read it with `read_number`."""
    return gr.Textbox(
        "",
        label=label,
        info=info,
        max_lines=1,
        max_length=20,
        placeholder="none",
        min_width=90,
        elem_id=f"train-{name}",
    )


def read_number(name: str, value: object, example: str = "2.5") -> float | None:
    """The number typed into a `number_field`; `None` if it is empty. Raises `UserError`, with `example`, for others."""
    text = str("" if value is None else value).strip().removeprefix("$").replace(",", "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name} is {text[:40]!r}; give a number such as {example}, or leave it empty")
    return number


def _read(name: str, value: object) -> object:
    """The typed text, for `load_config`; an empty field is "not set"."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > MAX_CHARS:
        raise UserError(f"{name} has {len(text):,} characters; at most {MAX_CHARS:,} are read. Shorten it.")
    if not text:
        return None
    annotation = _field(name).annotation
    if any(get_origin(kind) in (dict, tuple) for kind in (annotation, *get_args(annotation))):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"{name} is {text[:80]!r}; write a list, [a, b], or a mapping, {{a: 1, b: 2}}") from None
    return text


def _field(name: str) -> FieldInfo:
    fields = DataConfig.model_fields if name.startswith(_DATA) else RunConfig.model_fields
    return fields[name.removeprefix(_DATA)]


def _choices(kind: object) -> list[str]:
    """The values of a setting that has few: those of a `Literal`, with `true` and `false` if it may be a switch too."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    others = [value for part in get_args(kind) if get_origin(part) is Literal for value in get_args(part)]
    return [*others, "true", "false"] if others and bool in get_args(kind) else []


def _kind(annotation: object) -> object:
    """The type of a setting, without the `None` of an optional one."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation
