"""What a Job needs of this machine: copied to the bucket before it starts, as plain files under `inputs/<run>/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from inference.adapters.served import serving
from inference.common.errors import UserError
from inference.common.settings import Settings
from training.hub.backup.mirror import mirror_run
from training.launch.jobs.spec import JobPlace, in_bucket
from training.runs.folder import RunFolder, step_of
from training.runs.record import RunRecord


def bring_inputs(record: RunRecord, place: JobPlace, settings: Settings) -> str | None:
    """Copy what the run reads, and where its last start was a process here, its folder; the served adapter's place.

    `None` where the base alone is served, or the bucket is not mounted here. Raises `UserError` for what is missing.
    """
    state, config = place.state, record.run_config
    newest = RunFolder(record.folder).newest_checkpoint()
    if state is None:
        if newest is not None and record.job.get("was") == "local":
            raise UserError(
                f"run {record.id} is at step {step_of(newest)} on this machine, and the bucket is not mounted here; "
                "set LOOKTHINK_STATE to its mount, so that a Job can go on from there"
            )
        return None
    if not state.is_dir():  # a mount that is missing must not become a folder of this machine
        raise UserError(f"LOOKTHINK_STATE is {state}, which is not there; mount the bucket there, then resume it")
    try:
        if newest is not None and record.job.get("was") == "local":
            mirror_run(record.folder, state)
        for name in ("start_adapter", "curriculum"):
            if source := getattr(config, name):
                _copy(Path(source), state / in_bucket(record.id, name))
        served = serving(settings)
        if served.path is None:
            return None
        place_there = in_bucket(record.id, f"served/{served.name}")
        _copy(served.path, state / place_there)
        return place_there
    except OSError as error:
        words = f"{state} cannot be written ({error.strerror}); see to the bucket's mount, then resume it"
        raise UserError(words) from error


def _copy(source: Path, target: Path) -> None:
    """A file, or a folder of files. Raises `OSError`."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copyfile(path, target / path.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
