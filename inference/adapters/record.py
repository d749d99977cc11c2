"""Adapters as folders on this machine, and the records beside them: base, scores, digest, origin.

The served adapter comes first, then the one that the settings name, then those in `adapters/` of the home folder, then
those of finished runs. `inference.adapters.served` decides which one is served. One that the settings name on the Hub
is the folder that it was fetched into (`inference.adapters.hub_fetch`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.adapters.hub_cache import cached_folder, hub_name, read_ref
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE, same_base
from inference.prompt.system_prompt import PROMPT_FILE, read_system_prompt

RECORD_FILE = "evaluation.json"
COMPARISON_FILE = "comparison.json"
"""The comparison of a run's adapter with the one served when the run ended (`training.evaluation.compare`)."""
ORIGIN_FILE = "origin.json"
"""In the folder of an adapter of the Hub: its name, its commit, and whether its repository says its system prompt."""
SAYS_PROMPT = "says_prompt"
SCALED_FILE = "scaled.json"
"""Beside an adapter at another strength: what it was made of (`training.learn.strength`), and its own digest."""
LEARN_FOLDER = "learn"
"""In an adapter's folder: the record of what its training changed (`training.learn.record`)."""
PROMOTION_FILE = "promotion.json"
"""In a promoted version: its origin, its digest, who promoted it and when (`inference.adapters.versions`)."""
MAX_JSON_BYTES = 16_000_000
BASE_NAME = "base"
"""The name of the base without an adapter on the page and in the endpoints; no adapter may have it."""
_TUNED, _BASE = "adapter-thinking", "base-thinking"
logger = logging.getLogger(__name__)


SAY_SO = (
    "If it is the same base under another name, say so: `python -m training promote ADAPTER --same-base` checks the "
    "shapes and keeps a copy that names this base."
)
"""The remedy where two names do not look like one base."""


class NotFetched(UserError):
    """An adapter of the Hub is not on this machine yet."""


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter and its scores on held-out problems, if there is an evaluation beside it."""

    name: str
    path: Path
    base: str | None
    """The base it was trained on, by its own settings."""
    test_accuracy: float | None = None
    """Lenient accuracy with the adapter, from 0 to 1: the last answer stated counts, with tags or without."""
    base_accuracy: float | None = None
    """The same for the base alone, on the same problems and prompt."""
    num_rows: int | None = None
    """Held-out problems in the evaluation."""
    system_prompt: str | None = None
    """Its own system prompt; `None` if it is asked with that of `inference.prompt.format`."""
    says_prompt: bool = True
    """False if it comes from elsewhere and nothing says which system prompt it was trained with."""

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
    out, with a line in the log. The adapter of a run that was promoted is listed once, as the promoted version.
    """
    records: dict[str, AdapterRecord] = {}
    for folder in filter(None, (served, named_folder(settings))):
        record = read_record(folder)
        records.setdefault(record.name, record)
    for folder in adapter_folders(settings.home):
        try:
            record = read_record(folder)
        except UserError as error:
            _warn_once(f"left out: {error}")
            continue
        if problem := base_problem(record, settings.base):
            _warn_once(f"left out: the adapter {record.name}: {problem}")
        elif records.setdefault(record.name, record) is not record and records[record.name].path != record.path:
            _warn_once(f"left out: {record.path}, since there is an adapter {record.name} already")
    return records


def base_problem(record: AdapterRecord, base: str) -> str:
    """The reason why an adapter does not fit the base that is served; empty if it does."""
    fits = same_base(record.base, base)
    return "" if fits else f"it was trained on {record.base}, but {Path(base).name} answers here"


def resolve(adapter: str, home: Path) -> Path:
    """The folder of an adapter; for one on the Hub, the folder that it was fetched into. Fetches nothing.

    Raises `NotFetched` for one of the Hub that is not here, `UserError` if there is no such folder.
    """
    name = hub_name(adapter)
    if name is not None:
        fetched = cached_folder(home, name)
        if fetched is None:
            problem = read_ref(home, name).problem
            state = f"could not be fetched: {problem}" if problem else "has not been fetched from the Hub yet."
            raise NotFetched(f"The adapter {name} {state}")
        return fetched
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder {adapter} with an adapter. Name one, or owner/name of the Hub.")
    return folder


def named_folder(settings: Settings) -> Path | None:
    """The folder of the adapter that the settings name; `None` if they name none, or one that is not fetched yet."""
    try:
        return resolve(settings.adapter, settings.home) if settings.adapter else None
    except NotFetched:
        return None


def read_record(folder: Path) -> AdapterRecord:
    """The record of the adapter in a folder. Raises `UserError` if it is incomplete or its files are broken."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not an adapter: {name} is missing. Name the folder that PEFT saved it in.")
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
        says_prompt=_says_prompt(folder),
    )


def _says_prompt(folder: Path) -> bool:
    """True for an adapter with a prompt beside it, and for those of this project, which were trained with its own."""
    ours = (PROMPT_FILE, RECORD_FILE, COMPARISON_FILE, PROMOTION_FILE)
    if any((folder / name).is_file() for name in ours):
        return True
    if (folder / ORIGIN_FILE).is_file():
        return read_beside(folder, ORIGIN_FILE).get(SAYS_PROMPT) is True
    return folder.name == "adapter" and (folder.parent / "config.json").is_file()


def adapter_digest(folder: Path) -> str:
    """A digest (64 hexadecimal digits) of its settings, its weights and its own system prompt if it has one.

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
    """`states` change when the files do, so unchanged files are read once."""
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def adapter_name(folder: Path) -> str:
    """The folder's name; a folder called `adapter` is named after what it belongs to."""
    folder = folder.absolute()
    return f"{folder.parent.name}-adapter" if folder.name == "adapter" else folder.name


def adapter_folders(home: Path) -> Iterator[Path]:
    """The folders in `adapters/`, then those of runs that have ended and whose adapter was not promoted as it is."""
    promoted: dict[str, set[str]] = {}
    for folder in sorted(home.glob("adapters/[!.]*")):
        if folder.is_dir():
            yield folder
            about = promotion_of(folder)
            if about.get("run"):
                promoted.setdefault(str(about["run"]), set()).add(str(about.get("digest")))
    for folder in sorted(path.parent for path in home.glob(f"runs/*/adapter/{WEIGHTS_FILE}")):
        digests = promoted.get(folder.parent.name)
        if not _is_training(folder.parent) and not (digests and digest_or_none(folder) in digests):
            yield folder


def promotion_of(folder: Path) -> Json:
    """The content of `PROMOTION_FILE`; empty if there is none or it is broken."""
    return read_beside(folder, PROMOTION_FILE)


def read_beside(folder: Path, name: str) -> Json:
    """An optional JSON object beside an adapter; empty if there is none or it is broken."""
    try:
        return _read_json(folder / name) if (folder / name).is_file() else {}
    except UserError as error:
        _warn_once(str(error))
        return {}


def evaluation_of(folder: Path) -> Json:
    """The evaluation beside an adapter; empty if there is none, or if it is of other weights."""
    return _of_these_weights(folder, read_beside(folder, RECORD_FILE))


def scaled_from(folder: Path) -> Json:
    """Says which adapter a copy at another strength was made of; empty for one as trained, and if of other weights."""
    about = read_beside(folder, SCALED_FILE)
    return about if about.get("digest") == digest_or_none(folder) else {}


def comparison_of(folder: Path) -> Json:
    """The comparison beside an adapter; empty if there is none, or if it is of other weights."""
    comparison = read_beside(folder, COMPARISON_FILE)
    return comparison if comparison.get("adapter") == digest_or_none(folder) else {}


def comparison_text(comparison: Mapping[str, object]) -> str:
    """The result of a comparison and its consequence, in a few sentences."""
    parts = (comparison.get(name) for name in ("reason", "outcome"))
    return " ".join(part for part in parts if isinstance(part, str) and part)


def _of_these_weights(folder: Path, evaluation: Json) -> Json:
    """The evaluation, unless it names the digest of other weights than those beside it."""
    about = evaluation.get("about")
    digest = about.get("adapter_digest") if isinstance(about, dict) else None
    if digest in (None, digest_or_none(folder)):
        return evaluation
    _warn_once(f"left out: {folder / RECORD_FILE}, the evaluation of other weights than those beside it")
    return {}


def _is_training(run: Path) -> bool:
    """True while the run's own record says that it is running: its adapter may still change."""
    try:
        return _read_json(run / "status.json").get("status") == "running"
    except UserError:
        return False


def digest_or_none(folder: Path) -> str | None:
    """As `adapter_digest`; `None` if a file cannot be read."""
    try:
        return adapter_digest(folder)
    except UserError:
        return None


def _read_json(path: Path) -> Json:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path} is larger than {MAX_JSON_BYTES / 1e6:.0f} MB. Save the adapter again.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). Save the adapter again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object. Save the adapter again.")
    return content


@functools.lru_cache(maxsize=1024)
def _warn_once(text: str) -> None:
    """The folders are read again and again; each problem is logged once."""
    logger.warning(text)


def _count(about: object) -> int | None:
    """The number of rows of an evaluation."""
    count = about.get("num_rows") if isinstance(about, dict) else None
    return count if type(count) is int and count > 0 else None


def _accuracy(evaluation: Mapping[str, object], condition: str) -> float | None:
    """The overall lenient accuracy of one condition of an evaluation's report; `None` if it was not measured."""
    value: object = evaluation
    for key in ("conditions", condition, "overall", "lenient", "value"):
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
