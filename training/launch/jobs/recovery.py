"""Runs whose Jobs go on while nothing is known of them here, because the home was lost: made anew from the Jobs.

A Job has the run, the start, the Space and whose records it belongs to as labels, and in its environment the record as
it was when it started. A home that still has the run's folder needs none of this: `training.runs.recovery` reads the
record there.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from dataclasses import asdict, replace
from typing import Any

from training.config.run_config import RunConfig
from training.launch.jobs.api import Job, JobsHub
from training.launch.jobs.spec import JobPlace
from training.launch.jobs.worker import ORDER
from training.runs.processes import own_identity
from training.runs.record import RunRecord, leave_to_bucket
from training.runs.recovery import REQUEST, make_folder, record_of
from training.runs.store import RunStore

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_LAUNCH = re.compile(r"[0-9a-f]{16}")
log = logging.getLogger(__name__)


def adopt_jobs(store: RunStore, hub: JobsHub, place: JobPlace) -> list[str]:
    """Make records of the runs whose Jobs are not over and that are not here; their ids.

    Raises `HubError`, and `UserError` where the home cannot be written.
    """
    known = {record.id for record in store.list()} if store.exists() else set()
    found = []
    for job in hub.find(space=place.space.replace("/", "--"), home=place.home):
        run_id = job.labels.get("run", "")
        if job.is_over or run_id in known or not _RUN_ID.fullmatch(run_id) or (store.folder / run_id).exists():
            continue
        if _adopt(store, job, hub, run_id):
            known.add(run_id)
            found.append(run_id)
    return found


def _adopt(store: RunStore, job: Job, hub: JobsHub, run_id: str) -> bool:
    """One run, as its Job tells of it; false for a Job that tells nothing that can be used."""
    try:
        asked: dict[str, Any] = json.loads(job.env[ORDER])["record"]
        config = RunConfig.model_validate(_of_here(asked["config"]))
        assert _LAUNCH.fullmatch(job.labels["launch"])
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        log.warning("the Job %s of run %s cannot be understood (%s)", job.id, run_id, type(error).__name__)
        return False
    bare = RunRecord(run_id, store.folder / run_id, config.model_dump_json())
    make_folder(bare, config)
    leave_to_bucket(bare)
    (bare.folder / REQUEST).write_text(json.dumps(asked | {"config": config.model_dump(mode="json")}), encoding="utf-8")
    read = record_of(bare.folder) or bare  # field by field, as of a folder that was edited by hand
    about = {"id": job.id, "namespace": hub.namespace, "flavor": job.flavor, "url": job.url, "created": job.created}
    record = replace(
        read,
        status="starting",
        reason="its Job was found on the Hub after the records were lost",
        launcher="job",
        launch=job.labels["launch"],
        job=about | {"revision": job.labels.get("revision", "")},
        starter=asdict(own_identity()),
        number=0,
        pid=None,
    )
    try:
        return store.add(record)
    except sqlite3.IntegrityError:  # another run is active here: this one is looked after when that has ended
        return store.add(replace(record, status="interrupted", reason=f"its Job {job.id} goes on; resume it then"))


def _of_here(config: Any) -> dict[str, Any]:
    """Without the files that came along in the bucket: they are needed at the start only."""
    values = dict(config)
    for name in ("start_adapter", "curriculum"):
        values[name] = None if str(values.get(name) or "").startswith("state:") else values.get(name)
    return values
