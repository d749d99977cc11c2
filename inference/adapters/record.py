"""Which adapters this deployment can serve, and what is known of them: folders on this machine.

The served one comes first, then the one that the settings name, then those in `adapters/` of the home folder, then
those that finished runs there have made. Which one is served: `inference.adapters.served`. One that the settings name on the
Hub is the folder that it was fetched into (`inference.adapters.hub_fetch`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.adapters.hub_cache import cached_folder, hub_name, read_ref
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from inference.prompt.system_prompt import PROMPT_FILE, read_system_prompt

RECORD_FILE = "evaluation.json"
COMPARISON_FILE = "comparison.json"
"""How a run's adapter did against the one that was served when the run ended (`training.evaluation.compare`)."""
PROMOTION_FILE = "promotion.json"
"""In a promoted version: where it came from, its digest, who promoted it and when (`inference.adapters.versions`)."""
MAX_JSON_BYTES = 16_000_000
BASE_NAME = "base"
"""What the page and the endpoints call the base without an adapter; no adapter may have that name."""
_TUNED, _BASE = "adapter-thinking", "base-thinking"
logger = logging.getLogger(__name__)


class NotFetched(UserError):
    """An adapter of the Hub is not on this machine, for now."""


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
    system_prompt: str | None = None
    """Its own, where it was not trained with the one of `inference.prompt.format`."""

    @property
    def scores(self) -> str:
        """For the header: `test 94 % (base 78 %)`; empty without an evaluation."""
        if self.test_accuracy is None:
            return ""
        base = f" (base {100 * self.base_accuracy:.0f} %)" if self.base_accuracy is not None else ""
        return f"test {100 * self.test_accuracy:.0f} %{base}"


def available_adapters(settings: Settings, served: Path | None = None) -> dict[str, AdapterRecord]:
    """The adapters of the served base by name: `served` (if given) first, then the one that the settings name.

    Raises `UserError` if one of these two is unusable. Others that are incomplete or belong to another base are left
    out, with a line in the log. A run whose adapter was promoted stands there once, as the promoted version.
    """
    records: dict[str, AdapterRecord] = {}
    for named in filter(None, (served, named_folder(settings))):
        record = read_record(named)
        records.setdefault(record.name, record)
    for folder in adapter_folders(settings.home):
        try:
            record = read_record(folder)
        except UserError as error:
            _say_once(f"left out: {error}")
            continue
        if not same_base(record.base, settings.base):
            _say_once(f"left out: the adapter {record.name} belongs to the base {record.base}")
        elif records.setdefault(record.name, record) is not record and records[record.name].path != record.path:
            _say_once(f"left out: {record.path}, since there is an adapter {record.name} already")
    return records


def same_base(one: str | None, other: str) -> bool:
    """True if two names may stand for one base: a path and an id are compared by their last part; `None` is any."""
    return one is None or Path(one).name == Path(other).name


def resolve(adapter: str, home: Path) -> Path:
    """The folder of an adapter, of one on the Hub the one it was fetched into. Nothing is fetched here.

    Raises `NotFetched` for one of the Hub that is not here, `UserError` for what is neither.
    """
    name = hub_name(adapter)
    if name is not None:
        fetched = cached_folder(home, name)
        if fetched is None:
            why = read_ref(home, name).problem
            raise NotFetched(
                f"The adapter {name} could not be fetched: {why}"
                if why
                else f"The adapter {name} has not been fetched from the Hub yet."
            )
        return fetched
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        raise UserError(f"The adapter {adapter} is no folder on this machine. Name one, or owner/name of the Hub.")
    return folder


def named_folder(settings: Settings) -> Path | None:
    """The folder of the adapter that the settings name; `None` if they name none, or one that is not fetched yet."""
    try:
        return resolve(settings.adapter, settings.home) if settings.adapter else None
    except NotFetched:
        return None


def read_record(folder: Path) -> AdapterRecord:
    """What the adapter's folder says of it. Raises `UserError` if it is incomplete or its files are broken."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no adapter: {name} is missing. Name the folder that PEFT saved it in.")
    if adapter_name(folder) == BASE_NAME:
        raise UserError(f"The adapter {folder} is called {BASE_NAME}, which stands for no adapter; rename its folder.")
    base = _read_json(folder / CONFIG_FILE).get("base_model_name_or_path")
    evaluation = _of_these_weights(folder, _read_json(folder / RECORD_FILE)) if (folder / RECORD_FILE).is_file() else {}
    return AdapterRecord(
        name=adapter_name(folder),
        path=folder,
        base=base if isinstance(base, str) and base else None,
        test_accuracy=_accuracy(evaluation, _TUNED),
        base_accuracy=_accuracy(evaluation, _BASE),
        num_rows=_count(evaluation.get("about")),
        system_prompt=read_system_prompt(folder),
    )


def adapter_digest(folder: Path) -> str:
    """64 hexadecimal digits of what the adapter is: its settings, its weights and its own system prompt if it has one.

    Raises `UserError` if a file cannot be read.
    """
    try:
        names = [CONFIG_FILE, WEIGHTS_FILE, *([PROMPT_FILE] if (folder / PROMPT_FILE).is_file() else [])]
        states = [(folder / name).stat() for name in names]
        return _digest(folder, tuple(names), tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in states))
    except OSError as error:
        raise UserError(f"The adapter {folder} cannot be read ({error.strerror}). Save it again.") from error


@functools.lru_cache(maxsize=256)
def _digest(folder: Path, names: tuple[str, ...], states: tuple[tuple[int, int, int], ...]) -> str:
    """`states` change when the files do, so that files are read once."""
    found = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def adapter_name(folder: Path) -> str:
    """The folder's name; a folder called `adapter` is named after what it belongs to."""
    folder = folder.absolute()
    return f"{folder.parent.name}-adapter" if folder.name == "adapter" else folder.name


def adapter_folders(home: Path) -> Iterator[Path]:
    """Those in `adapters/`, then those of runs that do not train any more and were not promoted as they are."""
    promoted: dict[str, set[str]] = {}
    for folder in sorted(home.glob("adapters/[!.]*")):
        if folder.is_dir():
            yield folder
            about = promotion_of(folder)
            if about.get("run"):
                promoted.setdefault(str(about["run"]), set()).add(str(about.get("digest")))
    for folder in sorted(path.parent for path in home.glob(f"runs/*/adapter/{WEIGHTS_FILE}")):
        digests = promoted.get(folder.parent.name)
        if not _is_training(folder.parent) and not (digests and _digest_or_none(folder) in digests):
            yield folder


def promotion_of(folder: Path) -> dict[str, Any]:
    """What stands in `PROMOTION_FILE`; empty where there is none or it is broken."""
    return read_beside(folder, PROMOTION_FILE)


def read_beside(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object beside an adapter that it can do without; empty where there is none or it is broken."""
    try:
        return _read_json(folder / name) if (folder / name).is_file() else {}
    except UserError as error:
        _say_once(str(error))
        return {}


def evaluation_of(folder: Path) -> dict[str, Any]:
    """The evaluation beside an adapter; empty where there is none, or it was made of other weights."""
    return _of_these_weights(folder, read_beside(folder, RECORD_FILE))


def comparison_of(folder: Path) -> dict[str, Any]:
    """The comparison beside an adapter; empty where there is none, or it was made of other weights."""
    found = read_beside(folder, COMPARISON_FILE)
    return found if found.get("adapter") == _digest_or_none(folder) else {}


def _of_these_weights(folder: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The evaluation, unless it names the digest of another adapter: somebody has put other weights beside it."""
    about = evaluation.get("about")
    digest = about.get("adapter_digest") if isinstance(about, dict) else None
    if digest in (None, _digest_or_none(folder)):
        return evaluation
    _say_once(f"left out: {folder / RECORD_FILE}, the evaluation of other weights than those beside it")
    return {}


def _is_training(run: Path) -> bool:
    """True while the run's own record says so: its adapter may still change."""
    try:
        return _read_json(run / "status.json").get("status") == "running"
    except UserError:
        return False


def _digest_or_none(folder: Path) -> str | None:
    try:
        return adapter_digest(folder)
    except UserError:
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path} is larger than {MAX_JSON_BYTES / 1e6:.0f} MB. Save the adapter again.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as JSON ({error}). Save the adapter again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object. Save the adapter again.")
    return content


@functools.lru_cache(maxsize=1024)
def _say_once(text: str) -> None:
    """The folders are looked at again and again; what is wrong with one is said when it is first seen."""
    logger.warning(text)


def _count(about: Any) -> int | None:
    """The number of rows that an evaluation was on."""
    found = about.get("num_rows") if isinstance(about, dict) else None
    return found if type(found) is int and found > 0 else None


def _accuracy(evaluation: dict[str, Any], condition: str) -> float | None:
    """The overall lenient accuracy of one condition of an evaluation's report; `None` if it was not measured."""
    found: Any = evaluation
    for key in ("conditions", condition, "overall", "lenient", "value"):
        found = found.get(key) if isinstance(found, dict) else None
    is_share = isinstance(found, int | float) and math.isfinite(found) and 0 <= found <= 1
    return float(found) if is_share else None
