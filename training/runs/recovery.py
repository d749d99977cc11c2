"""Run folders that the database does not know become records: after it was lost, or where a run was begun by hand.

A folder edited by hand is read for what can be read; what cannot is said in the record's reason.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import psutil

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.runs.folder import RunFolder
from training.runs.processes import Identity, identity_of, is_alive
from training.runs.record import RESUMABLE, STATUSES, RunRecord
from training.runs.run_request import REQUEST
from training.runs.store import RunStore
from training.runs.upkeep import finish_deletions

BY_HAND = "somebody goes on with it by hand, by `python -m training train --resume`"
PROCESS = "process.json"
"""Written by the process that executes a run, again and again: who it is, and how long it has run."""
_MAX_BYTES = 1_000_000
_TOO_LARGE = 1e15
MAX_FIGURE = 1e300
"""No figure of a run is larger, however it diverges."""
_HALF_MADE_SECONDS = 3600


def adopt_folders(store: RunStore) -> list[RunRecord]:
    """Make a record of each run folder that has none, in the order of asking; returns them."""
    known = {record.id for record in store.list()}
    found = [record_of(path) for path in _folders(store.folder) if path.name not in known]
    records = sorted(
        (record for record in found if record is not None),
        key=lambda r: (not is_alive(process_of(r.folder)), r.number or math.inf, r.asked_at, r.id),
    )
    return [added for record in records if (added := _add(store, record)) is not None]


def tidy(store: RunStore) -> None:
    """Finish what a kill cut off: deletions, and folders that were never given their own name."""
    finish_deletions(store)
    for path in store.folder.glob(".new-*"):
        if time.time() - path.stat().st_mtime > _HALF_MADE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def record_lost(store: RunStore) -> None:
    """Mark the records whose folder is gone as lost, and bring back those whose folder is there again."""
    for record in store.list():
        is_there = record.folder.is_dir()
        if not is_there and not record.is_active and record.status != "lost":
            store.transition(record, "lost", reason=f"its folder {record.folder} is gone")
        elif is_there and record.status == "lost":
            back = record_of(record.folder)
            status = back.status if back and back.status in ("succeeded", "failed", "cancelled") else "interrupted"
            store.transition(record, status, reason="its folder was gone and is there again")


def record_by_hand(store: RunStore) -> None:
    """Runs that ended early and that somebody went on with by hand: whether one does, and that it has succeeded."""
    for record in store.list():
        if record.status not in RESUMABLE or not (said := read_json(record.folder / "status.json")):
            continue
        if said.get("status") == "succeeded":
            store.transition(record, "succeeded", reason="it was gone on with by hand, to its end")
        elif said.get("status") == "running" and record.reason != BY_HAND and _is_trained_by_hand(record.folder):
            store.update(record, reason=BY_HAND)


def record_of(folder: Path) -> RunRecord | None:
    """The record that a run folder speaks of; `None` if it is no run, or one under way that was begun by hand."""
    request = read_json(folder / REQUEST)
    values = _checked(request or {})
    config = _config_of(folder, request)
    if request is None and not (folder / REQUEST).exists():
        return _by_hand(folder, config)
    if config is None:
        values |= {"status": "failed", "reason": f"{folder / 'config.json'} cannot be read; start a new run"}
    elif "status" not in values:
        values |= {"status": "interrupted", "reason": f"{folder / REQUEST} could not be read; what it said is lost"}
    record = RunRecord(**({"asked_at": folder.stat().st_mtime} | values), **_base(folder, config))
    process, launch = process_of(folder), (read_json(folder / PROCESS) or {}).get("launch")
    if process is not None and is_alive(process) and isinstance(launch, str):
        status: Any = record.status if record.status in ("running", "stopping") else "running"
        identity: dict[str, Any] = {"pid": process.pid, "pid_created": process.created, "boot_id": process.boot_id}
        record = replace(record, status=status, reason="", launch=launch, **identity)
    return record


def process_of(folder: Path) -> Identity | None:
    """Who executes the run, or did last, by its own word."""
    return Identity.from_json(read_json(folder / PROCESS))


def running_by_hand(store: RunStore) -> Path | None:
    """A folder in `<home>/runs` in which a trainer that nobody queued is at work."""
    return next((path for path in _folders(store.folder) if _is_trained_by_hand(path)), None)


def read_json(path: Path) -> dict[str, Any] | None:
    """A small JSON object; `None` if there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_number(value: Any, below: float = _TOO_LARGE) -> bool:
    """True for a number that can be counted with and kept: none of 400 digits, no infinity, no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < below


def _folders(runs: Path) -> Iterable[Path]:
    """Those that may be runs; a name that is no text cannot be kept, and is nobody's run."""
    named = (p for p in (runs.iterdir() if runs.is_dir() else ()) if p.name[0] != "." and p.name.isprintable())
    return sorted(p for p in named if p.is_dir())


def _add(store: RunStore, record: RunRecord) -> RunRecord | None:
    try:
        done = store.add(record)
    except sqlite3.IntegrityError:  # its number is taken, or another run is active
        status: Any = "interrupted" if record.is_active and store.active() else record.status
        reason = "another run was active when the records were made anew" if status != record.status else record.reason
        done = store.add(replace(record, number=0, status=status, reason=reason))
    return store.get(record.id) if done else None


def _by_hand(folder: Path, config: str | None) -> RunRecord | None:
    """A run of `python -m training train`, once it has ended."""
    said = read_json(folder / "status.json")
    if config is None or said is None or _is_trained_by_hand(folder):
        return None
    status: Any = said.get("status")
    if status not in ("succeeded", "failed", "interrupted"):
        status, said = "interrupted", {"reason": "it ended without a word", "step": None}
    return RunRecord(
        **_base(folder, config),
        asked_by="the command line",
        asked_at=folder.stat().st_mtime,
        status=status,
        reason=str(said.get("reason", ""))[:2000],
        step=said["step"] if isinstance(said.get("step"), int) and is_number(said["step"]) else 0,
    )


def _is_trained_by_hand(folder: Path) -> bool:
    """By the pid in `status.json`, if it is that of a trainer of ours."""
    said = read_json(folder / "status.json") or {}
    pid = said.get("pid")
    if said.get("status") != "running" or not isinstance(pid, int) or pid <= 0 or identity_of(pid) is None:
        return False
    try:
        return "training" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _base(folder: Path, config: str | None) -> dict[str, Any]:
    return {"id": folder.name, "folder": folder, "config": config or "{}"}


def _config_of(folder: Path, request: dict[str, Any] | None) -> str | None:
    """The configuration in `config.json`, which the trainer obeys, else the one that was asked for."""
    try:
        return RunFolder.open(folder)[1].model_dump_json()
    except (UserError, OSError):
        pass
    try:
        return RunConfig.model_validate((request or {}).get("config")).model_dump_json()
    except ValueError:
        return None


def _checked(request: dict[str, Any]) -> dict[str, Any]:
    """The values that are what the record's fields are; the others are left to their defaults."""
    found = {}
    for each in fields(RunRecord):
        value = request.get(each.name)
        if each.name not in ("id", "folder", "config") and each.name in request and _fits(each, value):
            found[each.name] = value
    if found.get("status") not in STATUSES:
        found.pop("status", None)
    return found


def _fits(each: Field[Any], value: Any) -> bool:
    kind = str(each.type)
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int | float):
        return is_number(value) and ("float" in kind or "int" in kind and value == int(value))
    if isinstance(value, dict):
        return kind.startswith("dict")
    return isinstance(value, str) and (kind == "str" or "str |" in kind or each.name == "status")
