"""The settings of a run as options of the command line: one for each field, the same in every command.

    >>> option("learning_rate"), option("data.split"), option("data.seed")
    ('--learning-rate', '--split', '--data-seed')

Data settings have their own names; only a name that the run has too (`seed`) gets `data-` before it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml
from pydantic.fields import FieldInfo

from inference.common.errors import UserError
from inference.common.files import Json
from training.config.data_config import DataConfig
from training.config.run_config import PROFILES, RunConfig

_PREFIX = "data_"
"""Begins the names of the data settings in parsed arguments."""


def option(setting: str) -> str:
    """The option of a setting, which files call `learning_rate` or `data.split`, for example."""
    name = setting.removeprefix("data.")
    if name != setting and name in RunConfig.model_fields:
        name = _PREFIX + name
    return f"--{name.replace('_', '-')}"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--profile`, `--config FILE`, and one option for each setting; the profile gives the rest."""
    parser.add_argument("--profile", choices=sorted(PROFILES), help="the settings to start from (for the base here)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings that change the profile's")
    for name, field in RunConfig.model_fields.items():
        if name not in ("profile", "data"):
            _add(parser, option(name), name, field)
    add_data_options(parser, "data")


def add_data_options(parser: argparse.ArgumentParser, title: str) -> None:
    """Adds one option for each data setting."""
    group = parser.add_argument_group(title)
    for name, field in DataConfig.model_fields.items():
        _add(group, option(f"data.{name}"), _PREFIX + name, field)


def config_values(args: argparse.Namespace) -> Json:
    """The settings on the command line, as `load_config` takes them."""
    values: Json = {}
    data: Json = {}
    for name, text in vars(args).items():
        if text is None:
            continue
        if name.removeprefix(_PREFIX) in DataConfig.model_fields and name.startswith(_PREFIX):
            data[name.removeprefix(_PREFIX)] = _value(f"data.{name.removeprefix(_PREFIX)}", text)
        elif name in RunConfig.model_fields and name not in ("profile", "data"):
            values[name] = _value(name, text)
    return values | ({"data": data} if data else {})


def data_values(args: argparse.Namespace) -> Json:
    """The data settings on the command line, as `read_data_config` takes them."""
    chosen = {name: value for name, value in vars(args).items() if name.startswith(_PREFIX)}
    return config_values(argparse.Namespace(**chosen)).get("data", {})


def _add(parser: argparse._ActionsContainer, name: str, destination: str, field: FieldInfo) -> None:
    default = field.get_default(call_default_factory=True)
    parser.add_argument(
        name,
        dest=destination,
        metavar="VALUE",
        help=f"{(field.description or '').replace('%%', '%').replace('%', '%%')} ({str(default).replace('%', '%%')})",
    )


def _value(setting: str, text: str) -> object:
    """The value of an option; it is validated later.

    Lists and mappings are YAML, as `[q_proj, v_proj]` or `{accuracy_reward: 1}`. `none` removes a profile's value.
    """
    is_list = setting in ("lora_modules", "report_to")
    if text.strip() == "none":
        return () if is_list else None
    if not text.strip().startswith(("[", "{")):
        return (text,) if is_list else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{option(setting)} is {text!r}, which is not a list or a mapping: {error}") from None
