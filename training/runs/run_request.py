"""The record of a run in its own folder, `request.json`: what is asked for at first, and as it stands at each change.

The database goes before it; from it the database is made anew.
"""

from __future__ import annotations

import json
import logging
import shutil

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.runs.folder import RunFolder, write_whole
from training.runs.record import RunRecord

REQUEST = "request.json"
log = logging.getLogger(__name__)


def make_folder(record: RunRecord, config: RunConfig) -> None:
    """A new run's folder, under another name first: one that has its own name is whole. Raises `UserError`."""
    new = record.folder.parent / f".new-{record.id}"
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
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
