"""The settings of Start outside its form: as a command, as a YAML file, those of the last run, and a look at the rows.

command_line("starter", {"max_steps": "20"}, {"promote": True})
# python -m training start --profile starter --max-steps 20 --promote
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import yaml

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.html import escape
from training.config.data_config import DataConfig
from training.config.options import option
from training.config.run_config import RunConfig, read_config_file
from training.data.open_source import open_source
from training.data.own_sets.sets import SeenRow, seen
from training.data.refusals import Refusal
from training.data.source import row_shape
from training.ui.sections.data_cards import preview_html

MAX_FILE_BYTES = 200_000
SEEN_ROWS = 3
"""Rows of a dataset that Start shows."""


def command_line(profile: str, changes: Mapping[str, object], more: Mapping[str, object]) -> str:
    """The command that starts the same run; `changes` are those of `Fields.values`, `more` the options of `start`."""
    words = ["python", "-m", "training", "start", "--profile", profile]
    for name, value in _flat(changes).items():
        text = _as_option(value)
        words += [f"{option(name)}={text}"] if text.startswith("-") else [option(name), text]
    for name, value in more.items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif value not in (None, "", False):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _flat(changes: Mapping[str, object]) -> dict[str, object]:
    data = changes.get("data")
    flat = {name: value for name, value in changes.items() if name != "data"}
    return flat | ({f"data.{name}": value for name, value in data.items()} if isinstance(data, Mapping) else {})


def _as_option(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping | list | tuple):
        plain = dict(value) if isinstance(value, Mapping) else list(value)
        return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return str(value).lower() if isinstance(value, bool) else str(value)


def command_html(profile: str, changes: Mapping[str, object], more: Mapping[str, object]) -> str:
    """The command, and the settings as a file to save."""
    text = yaml.safe_dump({"profile": profile, **_plain(changes)}, sort_keys=False, allow_unicode=True)
    address = "data:application/yaml;base64," + base64.b64encode(text.encode()).decode()
    return (
        f'<p class="lt-note lt-quiet">The same as this command:</p><pre class="lt-command" tabindex="0" role="group" '
        f'aria-label="Command">{escape(command_line(profile, changes, more))}</pre>'
        f'<p class="lt-note"><a download="settings.yaml" href="{address}">Save the settings as a file</a> '
        '<span class="lt-quiet">(for Load here, or for --config FILE)</span></p>'
    )


def _plain(value: object) -> Json:
    """Settings as YAML has them."""
    return yaml.safe_load(yaml.safe_dump(value)) if isinstance(value, dict) else {}


def read_settings(path: object) -> Json:
    """The settings in an uploaded YAML file, not validated yet. Raises `UserError`."""
    if not isinstance(path, str):
        raise UserError("There is no file. Choose a YAML file, such as Save made.")
    size = Path(path).stat().st_size
    if size > MAX_FILE_BYTES:
        raise UserError(f"The file has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Give a file of settings.")
    return read_config_file(Path(path))


def rows_html(config: RunConfig) -> str:
    """The first rows of a run's dataset as the model and the grader get them. Raises `UserError`."""
    data: DataConfig = config.data
    split = data.split.split("[")[0]
    source = open_source(data, [split])
    if split not in source.sizes:
        raise UserError(f"The dataset {data.dataset} has no split {split!r}; it has {', '.join(source.names)}.")
    shape = row_shape(data, source, split)
    rows: list[SeenRow] = []
    positions = range(min(SEEN_ROWS, source.sizes[split]))
    for raw in islice(source.rows(split, positions, source.columns(split)), SEEN_ROWS):
        try:
            if isinstance(raw.cells, Refusal):
                raise raw.cells
            rows.append(seen(shape.cells(raw.cells), raw.folders))
        except Refusal as refusal:
            rows.append(SeenRow(None, "", "", "", False, refusal))
    return preview_html(rows, source.sizes[split], shape.words, title="")
