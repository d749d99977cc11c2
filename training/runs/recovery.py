"""Run folders that the database does not know become records: after it was lost, or where a run was begun by hand.

A folder edited by hand is read for what can be read; what cannot is said in the record's reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import psutil

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.runs.folder import RunFolder
from training.runs.processes import Identity, identity_of, is_alive
from training.runs.record import STATUSES, RunRecord
from training.runs.run_request import REQUEST

PROCESS = "process.json"
"""Written by the process that executes a run, again and again: who it is, and how long it has run."""
_MAX_BYTES = 1_000_000
_TOO_LARGE = 1e15
MAX_FIGURE = 1e300
"""No figure of a run is larger, however it diverges."""


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


def run_folders(runs: Path) -> Iterable[Path]:
    """Those that may be runs; a name that is no text cannot be kept, and is nobody's run."""
    named = (p for p in (runs.iterdir() if runs.is_dir() else ()) if p.name[0] != "." and p.name.isprintable())
    return sorted(p for p in named if p.is_dir())


def _by_hand(folder: Path, config: str | None) -> RunRecord | None:
    """A run of `python -m training train`, once it has ended."""
    said = read_json(folder / "status.json")
    if config is None or said is None or is_trained_by_hand(folder):
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


def is_trained_by_hand(folder: Path) -> bool:
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
