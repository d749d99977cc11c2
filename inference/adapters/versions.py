"""Versions: promoted adapters, copied to `adapters/` of the home folder under names that never change their content.

    adapters/20261122-143000-a1b2-3f9c0d12/
        adapter_config.json, adapter_model.safetensors      copied, then checked, then hashed
        prompt.json                                         likewise, or the system prompt that the owner chose
        evaluation.json, comparison.json, scaled.json, learn/    copied from beside it
        promotion.json                                      its run, its digest, who promoted it and when

A name ends in the first digits of the digest of the content. The weights of a version do not change, and the deletion
of the run that it came from does not touch it; what is put on record of that run later is copied too.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inference.adapters.record import (
    COMPARISON_FILE,
    LEARN_FOLDER,
    MAX_JSON_BYTES,
    ORIGIN_FILE,
    PROMOTION_FILE,
    RECORD_FILE,
    SAY_SO,
    SCALED_FILE,
    AdapterRecord,
    adapter_digest,
    base_problem,
    comparison_of,
    digest_or_none,
    evaluation_of,
    promotion_of,
    read_beside,
    read_record,
    scaled_from,
)
from inference.common.errors import UserError
from inference.common.files import sync_folder, write_json, write_whole
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE, check_size
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import (
    NAMED_PROMPTS,
    PROMPT_FILE,
    check_system_prompt,
    prompt_name,
    write_system_prompt,
)

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")
"""Names that a version may have: a folder inside `adapters/`, and nothing outside."""
_COPIED = (CONFIG_FILE, WEIGHTS_FILE)
_BESIDE = {RECORD_FILE: evaluation_of, COMPARISON_FILE: comparison_of, SCALED_FILE: scaled_from}
_INCOMING = ".incoming-"
MAX_LEARN_BYTES = 8_000_000
_NAME_DIGITS = 8


@dataclass(frozen=True)
class Stored:
    """A version in the home folder."""

    name: str
    digest: str
    folder: Path


def version_folder(home: Path, name: str) -> Path:
    """The folder of the version of that name."""
    return home / "adapters" / name


class PromptUnknown(UserError):
    """The repository of an adapter does not say its system prompt, and nobody has chosen one."""


def store_version(
    home: Path,
    adapter: Path,
    base: str,
    by: str,
    expected: str | None = None,
    system_prompt: str | None = None,
    same_base: bool = False,
) -> Stored:
    """Copy the adapter in the folder `adapter` to a version, unless it is one or has been copied before.

    The copy is checked whole (files, sizes, base, plain LoRA, shapes, finite numbers), not the original, which somebody
    may change meanwhile. `expected` is the digest it must have, if given. `system_prompt` is the text chosen for an
    adapter that does not say which it was trained with. With `same_base` the copy names `base` as the one that it was
    trained on, whatever the adapter's settings call it. Call it with `served.json` locked. Raises `UserError`
    (`PromptUnknown` if there is no choice and it is of the Hub), and leaves nothing behind then.
    """
    chosen = _choice(read_record(adapter), system_prompt)
    check_size(adapter / WEIGHTS_FILE)
    adapters = home / "adapters"
    adapters.mkdir(parents=True, exist_ok=True)
    for leftover in adapters.glob(f"{_INCOMING}*"):  # of a promotion that was killed: the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    if (known := _known(home, adapter)) is not None:
        _check(known.folder, base)
        return known
    incoming = adapters / f"{_INCOMING}{secrets.token_hex(6)}"
    incoming.mkdir()
    try:
        for name in (*_COPIED, *([PROMPT_FILE] if (adapter / PROMPT_FILE).is_file() else [])):
            shutil.copyfile(adapter / name, incoming / name)
        if chosen is not None:
            write_system_prompt(incoming, chosen)
        if same_base:
            settings = read_beside(incoming, CONFIG_FILE) | {"base_model_name_or_path": base}
            write_whole(incoming / CONFIG_FILE, json.dumps(settings, indent=1))
        _check(incoming, base, shown=adapter)
        digest = adapter_digest(incoming)
        if expected not in (None, digest):
            raise UserError(f"The files of the adapter {adapter} have changed since it was compared. Compare it again.")
        source = _source_name(adapter)
        stored = _new_version(home, source, digest)
        if not stored.folder.exists():
            record = {"name": stored.name, "digest": digest, "run": run_of(adapter), "source": source}
            record |= {"by": by, "at": now()}
            write_json(incoming / PROMOTION_FILE, record)
            _copy_beside(adapter, incoming)
            sync_folder(incoming)
            incoming.rename(stored.folder)
            sync_folder(adapters)
        else:
            _copy_beside(adapter, stored.folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return stored


def problem_of(home: Path, name: str, digest: str | None, base: str) -> str:
    """The reason why a version cannot be served now; empty if it can. The weights are hashed, not loaded."""
    folder = version_folder(home, name)
    if not folder.is_dir():
        return f"its folder {folder} is gone"
    try:
        record = read_record(folder)
        if problem := base_problem(record, base):
            return problem
        current = adapter_digest(folder)
    except UserError as error:
        return str(error)
    if digest is not None and current != digest:
        return f"its files in {folder} are not those that were promoted"
    return ""


def now() -> str:
    """The time as records hold it: `2026-11-22T14:30:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _choice(record: AdapterRecord, system_prompt: str | None) -> str | None:
    """The system prompt to keep with a version of this adapter; `None` if it needs none."""
    if record.says_prompt:
        if system_prompt not in (None, record.system_prompt or THINK_PROMPT):
            own = prompt_name(record.system_prompt or THINK_PROMPT)
            raise UserError(f"The adapter {record.name} says its system prompt, {own}. Promote it without another one.")
        return None
    if system_prompt is None and (record.path / ORIGIN_FILE).is_file():
        raise PromptUnknown(
            f"The repository of {record.name} does not say which system prompt it was trained with. Choose one "
            f"({', '.join(NAMED_PROMPTS)}, or its text) and promote it again."
        )
    return None if system_prompt is None else check_system_prompt(system_prompt, "the system prompt")


def _known(home: Path, adapter: Path) -> Stored | None:
    """The version that the folder is already; `None` if it is none."""
    if adapter.resolve().parent != (home / "adapters").resolve():
        return None
    about = promotion_of(adapter)
    if about.get("name") != adapter.name or about.get("digest") != adapter_digest(adapter):
        return None
    return Stored(adapter.name, str(about["digest"]), version_folder(home, adapter.name))


def _check(folder: Path, base: str, shown: Path | None = None) -> None:
    """Check everything that can be known before the engine loads it. Raises `UserError`."""
    record = read_record(folder)
    if problem := base_problem(record, base):
        name = (shown or folder).name
        raise UserError(f"The adapter {name} cannot be served: {problem}. Promote an adapter of this base. {SAY_SO}")
    from inference.model.lora_file import check_adapter  # it loads torch, which listing versions does not need

    try:
        check_adapter(folder, base)
    except UserError as error:
        raise UserError(str(error).replace(folder.name, (shown or folder).name)) from error


def _new_version(home: Path, source: str, digest: str) -> Stored:
    """The version with this content, or the first free name for it."""
    digits = _NAME_DIGITS
    while True:
        name = f"{source}-{digest[:digits]}"
        folder = version_folder(home, name)
        if digits >= len(digest) or not folder.exists() or digest_or_none(folder) == digest:
            return Stored(name, digest, folder)
        digits *= 2


def _source_name(adapter: Path) -> str:
    """The first part of its name: its run's or its folder's, in characters that a name may have."""
    adapter = adapter.absolute()
    name = adapter.parent.name if adapter.name == "adapter" else adapter.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:60] or "adapter"


def run_of(adapter: Path) -> str | None:
    """The name of the run whose result it is."""
    adapter = adapter.absolute()
    run = adapter.parent
    is_result = adapter.name == "adapter" and (run.parent.name == "runs" or (run / "metrics.jsonl").is_file())
    if is_result:
        return run.name
    named = promotion_of(adapter).get("run")
    return named if isinstance(named, str) and NAME.fullmatch(named) else None


def update_records(home: Path, adapter: Path) -> list[str]:
    """Copies what was put on record of an adapter after its promotion to the versions of it; returns their names."""
    digest, names = digest_or_none(adapter), []
    for version in sorted((home / "adapters").glob("*")) if digest else ():
        if NAME.fullmatch(version.name) and promotion_of(version).get("digest") == digest:
            _copy_beside(adapter, version)
            names.append(version.name)
    return names


def _copy_beside(adapter: Path, target: Path) -> None:
    """Copy what is on record of these weights and is newer than what is there."""
    for name, read in _BESIDE.items():
        source = adapter / name
        if read(adapter) and source.stat().st_size <= MAX_JSON_BYTES and _is_newer(source, target / name):
            write_whole(target / name, source.read_bytes())
    if evaluation_of(adapter) or scaled_from(adapter):  # else `learn` may be of other weights
        _copy_learn(adapter / LEARN_FOLDER, target / LEARN_FOLDER)


def _copy_learn(source: Path, target: Path) -> None:
    """Copy the record of what training changed: its JSON and its pictures, up to `MAX_LEARN_BYTES`."""
    left = MAX_LEARN_BYTES
    for path in sorted(source.glob("*")) if source.is_dir() and not source.is_symlink() else ():
        if path.suffix not in (".json", ".jpg") or path.is_symlink() or not path.is_file():
            continue
        left -= path.stat().st_size
        if left < 0:
            return
        if _is_newer(path, target / path.name):
            target.mkdir(exist_ok=True)
            write_whole(target / path.name, path.read_bytes())


def _is_newer(source: Path, target: Path) -> bool:
    return not target.exists() or source.stat().st_mtime_ns > target.stat().st_mtime_ns
