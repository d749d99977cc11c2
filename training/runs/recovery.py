"""The record of a run in its folder: `request.json`, written at each change and read back without a database.

    write_request(record)           # by `training.runs.store`
    record_of(record.folder)        # the same record, as far as a folder that was edited by hand can be read

A run that was started by hand has no `request.json`; its `status.json` has its end.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import cast

from inference.common.errors import UserError
from inference.common.files import Json, read_json, write_json
from training.config.run_config import RunConfig
from training.runs.folder import RunFolder
from training.runs.metrics import is_number
from training.runs.processes import Identity, is_alive
from training.runs.record import STATUSES, RunRecord, RunStatus

REQUEST = "request.json"
PROCESS = "process.json"
"""The sign of life of a run in the background, rewritten by its process: its identity and its seconds so far."""
_INTERRUPTED: Json = {"reason": "its process ended without giving a reason", "step": None}
log = logging.getLogger(__name__)


def make_folder(record: RunRecord, config: RunConfig) -> None:
    """Makes a new run's folder, under another name until it is complete. Raises `UserError`."""
    new = record.folder.parent / f".new-{record.id}"
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        RunFolder.create(new, config)
        write_json(new / REQUEST, record.to_json())
        new.rename(record.folder)
    except (OSError, UserError) as error:
        shutil.rmtree(new, ignore_errors=True)
        cause = error if isinstance(error, OSError) else error.__cause__
        words = cause.strerror if isinstance(cause, OSError) else str(error)
        raise UserError(
            f"the run folder {record.folder} cannot be made ({words}); make room (`python -m training disk` says what "
            "takes it) or make the folder writable, or set LOOKTHINK_HOME to another one"
        ) from error


def write_request(record: RunRecord) -> None:
    """Writes `request.json`; if it cannot be written now, the next change writes it."""
    if not record.folder.is_dir():
        return
    try:
        write_json(record.folder / REQUEST, record.to_json())
    except OSError as error:
        log.warning("%s cannot be written: %s", record.folder / REQUEST, error.strerror)


def records_of(runs: Path) -> list[RunRecord]:
    """The records of all run folders in `runs`: runs whose process is alive first, then in the order of asking."""
    records = [record for path in run_folders(runs) if (record := _record_or_trouble(path)) is not None]
    return sorted(records, key=lambda r: (not is_alive(process_of(r.folder)), r.number or math.inf, r.asked_at, r.id))


def _record_or_trouble(folder: Path) -> RunRecord | None:
    """The record of a folder; of one that cannot be read a failed run that says so, so that the others are listed."""
    try:
        return record_of(folder)
    except OSError as error:
        reason = f"{folder} cannot be read ({error.strerror}); change its permissions, or check the disk"
        return RunRecord(id=folder.name, folder=folder, config="{}", status="failed", reason=reason)


def record_of(folder: Path) -> RunRecord | None:
    """The record of a run folder; `None` for other folders, and for a run started by hand that has not ended."""
    request = read_json(folder / REQUEST)
    values = _valid_fields(request or {})
    config = _config_of(folder, request)
    if request is None and not (folder / REQUEST).exists():
        return _by_hand(folder, config)
    if config is None:
        values |= {"status": "failed", "reason": folder_problem(folder)}
    elif "status" not in values:
        values |= {"status": "interrupted", "reason": f"{folder / REQUEST} cannot be read; its content is lost"}
    values = facts_of_starts(folder) | values
    record = RunRecord(id=folder.name, folder=folder, config=config or "{}", **values)
    process, launch = process_of(folder), (read_json(folder / PROCESS) or {}).get("launch")
    if process is not None and is_alive(process) and isinstance(launch, str):
        if record.status not in ("running", "stopping") or record.launch != launch:
            record = replace(record, status="running", reason="", launch=launch)
        record = replace(record, pid=process.pid, pid_created=process.created, boot_id=process.boot_id)
    return record


def folder_problem(folder: Path) -> str:
    """The reason why a folder is no whole run, in words; empty for one that is."""
    try:
        if not any((folder / name).exists() for name in (REQUEST, "config.json")):
            return f"{folder} has no config.json: it is half deleted, or no run"
        RunFolder.open(folder)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror}); change its permissions, or check the disk"
    return ""


def process_of(folder: Path) -> Identity | None:
    """The process of the run's newest start, running or not."""
    return Identity.from_json(read_json(folder / PROCESS))


def is_trained_by_hand(folder: Path) -> bool:
    """True while a trainer that was started by hand runs in the folder, by the folder's lock."""
    return (
        (read_json(folder / "status.json") or {}).get("status") == "running"
        and RunFolder(folder).is_locked()
        and not is_alive(process_of(folder))
    )


def run_folders(runs: Path) -> list[Path]:
    """The folders that may be runs, in order; names that are not printable text are left out."""
    paths = (p for p in (runs.iterdir() if runs.is_dir() else ()) if p.name[0] != "." and p.name.isprintable())
    return sorted(p for p in paths if p.is_dir())


def _by_hand(folder: Path, config: str | None) -> RunRecord | None:
    """A run of `python -m training train`, once it has ended."""
    state = read_json(folder / "status.json")
    if state is None or is_trained_by_hand(folder):
        return None
    status = state.get("status")
    if config is None:
        status, state = "failed", {"reason": folder_problem(folder)}
    elif status not in ("succeeded", "failed", "interrupted"):
        status, state = "interrupted", _INTERRUPTED
    read = RunConfig.model_validate_json(config) if config else None
    return RunRecord(
        id=folder.name,
        folder=folder,
        config=config or "{}",
        asked_by="the command line",
        status=cast(RunStatus, status),
        reason=str(state.get("reason", ""))[:2000],
        step=step if is_number(step := state.get("step")) and isinstance(step, int) else 0,
        max_steps=read.max_steps or None if read else None,
        max_hours=read.max_hours if read else None,
        **facts_of_starts(folder),
    )


def facts_of_starts(folder: Path) -> Json:
    """Fields of the record as `hours.json` tells them: when the run began, and the hours of all its starts; without
    it the time of the folder's newest change."""
    listed = (read_json(folder / "hours.json") or {}).get("starts")
    starts = [row for row in (listed if isinstance(listed, list) else []) if isinstance(row, dict)]
    seconds = [row["seconds"] for row in starts if is_number(row.get("seconds")) and row["seconds"] >= 0]
    times = [row["time"] for row in starts if is_number(row.get("time")) and row["time"] > 0]
    if not times:
        return {"asked_at": folder.stat().st_mtime, "hours": sum(seconds) / 3600}
    return {"asked_at": min(times), "started_at": min(times), "hours": sum(seconds) / 3600}


def _config_of(folder: Path, request: Json | None) -> str | None:
    """The configuration in `config.json`, which the trainer reads, else the one in the request."""
    try:
        return RunFolder.open(folder)[1].model_dump_json()
    except (UserError, OSError):
        pass
    try:
        return RunConfig.model_validate((request or {}).get("config")).model_dump_json()
    except ValueError:
        return None


def _valid_fields(request: Json) -> Json:
    """The values that have the types of the record's fields; the other fields keep their defaults."""
    values = {}
    for each in fields(RunRecord):
        value = request.get(each.name)
        if each.name not in ("id", "folder", "config") and each.name in request and _fits(each, value):
            values[each.name] = value
    if values.get("status") not in STATUSES:
        values.pop("status", None)
    return values


def _fits(each: Field[object], value: object) -> bool:
    kind = str(each.type)
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int | float):
        return is_number(value) and ("float" in kind or "int" in kind and value == int(value))
    if isinstance(value, dict):
        return kind == "Json"
    return isinstance(value, str) and (kind == "str" or "str |" in kind or each.name == "status")
