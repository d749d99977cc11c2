"""What a run was asked for: its record and folder made together, `request.json` beside its configuration, its budget.

`request.json` is the record as it stands, so that the list of runs survives the database.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import time
from pathlib import Path

from inference.errors import UserError
from training.config import RunConfig
from training.run_folder import RunFolder, write_whole
from training.run_record import RunRecord

REQUEST = "request.json"
log = logging.getLogger(__name__)


def new_record(runs: Path, asked_by: str) -> RunRecord:
    """A record with an id that no other has, for a folder in the folder `runs`."""
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return RunRecord(id=run_id, folder=runs / run_id, config="{}", asked_by=asked_by[:200], asked_at=time.time())


def make_folder(record: RunRecord, config: RunConfig) -> None:
    """The run's folder, under another name first: one that has its own name is whole."""
    new = record.folder.with_name(f".new-{record.id}")
    try:
        record.folder.parent.mkdir(parents=True, exist_ok=True)
        RunFolder.create(new, config)
        write_whole(new / REQUEST, json.dumps(record.to_json(), indent=1))
        new.rename(record.folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise UserError(
            f"the run folder {record.folder} cannot be made ({error.strerror}); make room or make the folder "
            "writable, or set LOOKTHINK_HOME to another one"
        ) from error


def keep_copy(record: RunRecord) -> None:
    """Write `request.json`; what cannot be written now is written at the next change."""
    if not record.folder.is_dir():
        return
    try:
        write_whole(record.folder / REQUEST, json.dumps(record.to_json(), indent=1))
    except OSError as error:
        log.warning("%s cannot be written: %s", record.folder / REQUEST, error.strerror)


def check_budget(record: RunRecord) -> None:
    """Raise `UserError` for a budget that cannot be kept."""
    for name in ("max_hours", "max_dollars", "dollars_per_hour"):
        value = getattr(record, name)
        if value is not None and not 0 < value < 1e6:
            raise UserError(f"{name} is {value:g}; give a number above 0")
    if record.max_dollars is not None and record.dollars_per_hour is None:
        raise UserError("max_dollars needs dollars_per_hour, what an hour of this machine costs; give both")


def with_budget(config: RunConfig, record: RunRecord) -> RunConfig:
    """The configuration with the record's budget, which the trainer keeps by itself while nobody watches."""
    return config.model_copy(update={"max_hours": record.budget_hours})
