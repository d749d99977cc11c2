"""The settings of a run as options of the command line: one for each field, `--data-…` for those of the data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from inference.errors import UserError
from training.config import PROFILES, RunConfig
from training.data_config import DataConfig

_PREFIX = "data_"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--profile`, `--config FILE`, and each setting; what is not given is left to the profile."""
    parser.add_argument("--profile", choices=sorted(PROFILES), help="the settings to start from (starter)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings that change the profile's")
    for name, field in RunConfig.model_fields.items():
        if name not in ("profile", "data"):
            _add(parser, name, name, field)
    add_data_options(parser, "data")


def add_data_options(parser: argparse.ArgumentParser, title: str) -> None:
    """`--dataset`, and `--data-…` for each other setting of the data."""
    group = parser.add_argument_group(title)
    for name, field in DataConfig.model_fields.items():
        _add(group, name if name == "dataset" else _PREFIX + name, _PREFIX + name, field)


def config_values(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as `load_config` takes them."""
    values: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for name, given in vars(args).items():
        if given is None:
            continue
        if name.removeprefix(_PREFIX) in DataConfig.model_fields and name.startswith(_PREFIX):
            data[name.removeprefix(_PREFIX)] = _value(name, given)
        elif name in RunConfig.model_fields and name not in ("profile", "data"):
            values[name] = _value(name, given)
    return values | ({"data": data} if data else {})


def _add(parser: Any, option: str, destination: str, field: Any) -> None:
    default = field.get_default(call_default_factory=True)
    parser.add_argument(
        f"--{option.replace('_', '-')}",
        dest=destination,
        metavar="VALUE",
        help=f"{(field.description or '').replace('%%', '%').replace('%', '%%')} ({str(default).replace('%', '%%')})",
    )


def _value(name: str, given: str) -> Any:
    """Lists and mappings are in YAML, `[q_proj, v_proj]` or `{accuracy_reward: 1}`; the rest is checked later."""
    if not given.strip().startswith(("[", "{")):
        return (given,) if name in ("lora_modules", "report_to") else given
    try:
        return yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise UserError(f"--{name.replace('_', '-')} is {given!r}, which is not a list or a mapping: {error}") from None
