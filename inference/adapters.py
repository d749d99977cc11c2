"""Which adapters this deployment can serve, and what is known of them: folders on this machine.

The served one comes first, then those in `adapters/` of the home folder, then those that runs there have made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import UserError
from inference.settings import Settings

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
RECORD_FILE = "evaluation.json"
BASE_NAME = "base"
"""What the page and the endpoints call the base without an adapter; no adapter may have that name."""
_TUNED, _BASE = "adapter-thinking", "base-thinking"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter and its scores on held-out problems, where an evaluation stands beside it."""

    name: str
    path: Path
    base: str | None
    """The base it was trained on, by its own record."""
    test_accuracy: float | None = None
    """Share right with the adapter, as a fraction of 1; the last answer stated counts, tags or not."""
    base_accuracy: float | None = None
    """The same for the base alone, on the same problems and prompt."""
    num_rows: int | None = None
    """Held-out problems in the evaluation."""

    @property
    def scores(self) -> str:
        """For the header: `test 94 % (base 78 %)`; empty without an evaluation."""
        if self.test_accuracy is None:
            return ""
        base = f" (base {100 * self.base_accuracy:.0f} %)" if self.base_accuracy is not None else ""
        return f"test {100 * self.test_accuracy:.0f} %{base}"


def available_adapters(settings: Settings) -> dict[str, AdapterRecord]:
    """The adapters of the served base by name, the served one first. Raises `UserError` if that one is unusable.

    Others that are incomplete or belong to another base are left out, with a line in the log.
    """
    records: dict[str, AdapterRecord] = {}
    if settings.adapter is not None:
        record = read_record(resolve(settings.adapter))
        records[record.name] = record
    for folder in _folders(settings.home):
        try:
            record = read_record(folder)
        except UserError as error:
            logger.warning("left out: %s", error)
            continue
        if record.base is not None and Path(record.base).name != Path(settings.base).name:
            logger.info("left out: the adapter %s belongs to the base %s", record.name, record.base)
        elif records.setdefault(record.name, record) is not record and records[record.name].path != record.path:
            logger.warning("left out: %s, since there is an adapter %s already", record.path, record.name)
    return records


def resolve(adapter: str) -> Path:
    """The folder of an adapter. Raises `UserError` for a Hub id, which is not served from here yet."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"The adapter {adapter} is no folder on this machine, and adapters on the Hub are not fetched. Download "
            "it and name its folder."
        )
    return folder


def read_record(folder: Path) -> AdapterRecord:
    """What the adapter's folder says of it. Raises `UserError` if it is incomplete or its files are broken."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no adapter: {name} is missing. Name the folder that PEFT saved it in.")
    if _name(folder) == BASE_NAME:
        raise UserError(f"The adapter {folder} is called {BASE_NAME}, which stands for no adapter; rename its folder.")
    base = _read_json(folder / CONFIG_FILE).get("base_model_name_or_path")
    evaluation = _read_json(folder / RECORD_FILE) if (folder / RECORD_FILE).is_file() else {}
    return AdapterRecord(
        name=_name(folder),
        path=folder,
        base=base if isinstance(base, str) and base else None,
        test_accuracy=_accuracy(evaluation, _TUNED),
        base_accuracy=_accuracy(evaluation, _BASE),
        num_rows=(evaluation.get("about") or {}).get("num_rows"),
    )


def _name(folder: Path) -> str:
    """The folder's name; a folder called `adapter` is named after what it belongs to."""
    folder = folder.absolute()
    return f"{folder.parent.name}-adapter" if folder.name == "adapter" else folder.name


def _folders(home: Path) -> Iterator[Path]:
    yield from sorted(path for path in home.glob("adapters/*") if path.is_dir())
    yield from sorted(path.parent for path in home.glob(f"runs/*/adapter/{WEIGHTS_FILE}"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). Save the adapter again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object. Save the adapter again.")
    return content


def _accuracy(evaluation: dict[str, Any], condition: str) -> float | None:
    """The overall lenient accuracy of one condition of an evaluation's report; `None` if it was not measured."""
    found: Any = evaluation
    for key in ("conditions", condition, "overall", "lenient", "value"):
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None
