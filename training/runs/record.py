"""`RunRecord`: a run's request and status, and the transitions between statuses.

    >>> may_follow("queued", "starting"), may_follow("succeeded", "running")
    (True, False)

A record is plain data, in `request.json` of the run's folder and in a row of `training.runs.store`. Importing this does
not load torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from inference.common.errors import UserError
from inference.common.files import Json, json_object, write_json
from training.config.run_config import RunConfig

IN_BUCKET = "in-bucket.json"
"""The mark in the folder of a run whose newest files are only in the bucket: nothing is copied there from here."""
RunStatus = Literal[
    "queued", "starting", "running", "stopping", "succeeded", "failed", "cancelled", "interrupted", "lost"
]
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
"""The form of a run's id, which names its folder."""
STATUSES: tuple[str, ...] = get_args(RunStatus)
ACTIVE = ("starting", "running", "stopping")
"""The statuses of which at most one run of a home has one."""
RESUMABLE = ("interrupted", "failed", "cancelled", "lost")
_NEXT = {
    "queued": ("starting", "cancelled", "failed", "lost"),
    "starting": ("starting", "running", "stopping", "succeeded", "failed", "cancelled", "interrupted", "lost"),
    "running": ("starting", "stopping", "succeeded", "failed", "interrupted", "lost"),
    "stopping": ("starting", "succeeded", "failed", "cancelled", "interrupted", "lost"),
    "succeeded": ("lost",),
    "failed": ("queued", "lost", "succeeded"),
    "cancelled": ("queued", "lost", "succeeded"),
    "interrupted": ("queued", "lost", "succeeded"),
    "lost": ("queued", "failed", "cancelled", "interrupted", "succeeded"),
}


def may_follow(status: str, following: str) -> bool:
    """True if a run may change from the one status to the other."""
    return following in _NEXT[status]


@dataclass(frozen=True)
class RunRecord:
    """One run. Times are seconds since 1970 if nothing else is stated; `None` is "not known" or "not yet"."""

    id: str
    """The name of its folder in `<home>/runs`, as in `20261122-143000-a1b2`."""
    folder: Path
    config: str
    """`RunConfig` as JSON."""
    title: str = ""
    """The name that people see, if somebody gave it one; its id stays."""
    note: str = ""
    """What somebody wrote about it."""
    asked_by: str = ""
    asked_at: float = 0.0
    number: int = 0
    """Place in the queue: the lowest queued number starts next."""
    promote: bool = False
    """Put the adapter into service automatically if it is better than the served one."""
    max_hours: float | None = None
    """The trainer's time over all its starts, in hours; the run stops at a checkpoint before."""
    max_dollars: float | None = None
    dollars_per_hour: float | None = None
    """The price of an hour of this machine."""
    status: RunStatus = "queued"
    reason: str = ""
    """The reason of the status, in words; may be empty."""
    launcher: str = "local"
    """The launcher of its newest start: `local`, a process of this machine, or `job`, a Hugging Face Job."""
    job: Json = field(default_factory=dict)
    """The Job of its newest start, as `training.launch.jobs.launcher` stores it; empty before the first."""

    launch: str = ""
    """The id of one start of the trainer; a process of an earlier start can no longer claim the run."""
    starter: Json = field(default_factory=dict)
    """The identity of the process that starts the trainer, while the status is `starting`."""
    pid: int | None = None
    pid_created: float | None = None
    """Seconds from the machine's start to the process's; changing the clock does not change it."""
    boot_id: str | None = None
    stop_asked: float | None = None
    """The time of the request to stop, in seconds since the machine's start."""
    stop_sent: bool = False
    """True once SIGTERM was sent to the trainer for this."""
    stop_for: str = ""
    """The reason of the stop: `cancel`, `budget` or `stall`."""
    started_at: float | None = None
    ended_at: float | None = None
    hours_before: float = 0.0
    """Hours of the starts that have ended."""
    hours: float = 0.0
    """Hours of all starts."""
    step: int = 0
    max_steps: int | None = None
    metrics: Json = field(default_factory=dict)
    """The newest line of `metrics.jsonl`."""
    deaths: int = 0
    """Deaths of the trainer in a row without a new checkpoint."""
    checkpoint_step: int = 0
    """The step of the newest complete checkpoint at the last death."""
    exception: str = ""
    """The exception of the last death, if it came before the first step; empty for other deaths."""
    stalls: int = 0
    """Times that it was ended because no step came."""

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def cost_dollars(self) -> float | None:
        """Its cost so far; `None` where the price of an hour is unknown."""
        return None if self.dollars_per_hour is None else self.hours * self.dollars_per_hour

    @property
    def budget_hours(self) -> float | None:
        """The hours that both budgets allow, counted from its first start."""
        limits = [self.max_hours]
        if self.max_dollars is not None and self.dollars_per_hour:
            limits.append(self.max_dollars / self.dollars_per_hour)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def run_config(self) -> RunConfig:
        """The configuration; raises `ValueError` for one of another version that is no longer valid."""
        return RunConfig.model_validate_json(self.config)

    def to_json(self) -> Json:
        """Plain data for `request.json`; `training.runs.recovery.record_of` reads it."""
        values = asdict(self) | {"config": json.loads(self.config)}
        return {name: value for name, value in values.items() if name != "folder"}


def check_budget(record: RunRecord) -> None:
    """Raises `UserError` for a budget that cannot be kept."""
    for name in ("max_hours", "max_dollars", "dollars_per_hour"):
        value = getattr(record, name)
        if value is not None and not 0 < value < 1e6:
            raise UserError(f"{name} is {value:g}; give a number above 0")
    if record.max_dollars is not None and record.dollars_per_hour is None:
        raise UserError("max_dollars needs dollars_per_hour, the price of an hour of this machine; give both")


def with_budget(config: RunConfig, record: RunRecord) -> RunConfig:
    """The configuration with the record's budget, which the trainer itself keeps, also while no app runs."""
    return config.model_copy(update={"max_hours": record.budget_hours})


COLUMNS = tuple(f.name for f in fields(RunRecord) if f.name != "folder")
"""The fields in the order of the database's columns."""
_AS_JSON = ("metrics", "starter", "job")
_AS_BOOL = ("promote", "stop_sent")


def to_cell(name: str, value: object) -> object:
    """One field as a cell of the database."""
    if isinstance(value, str) and not value.isascii():  # a file edited by hand can contain half a character
        return value.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(value) if name in _AS_JSON else int(bool(value)) if name in _AS_BOOL else value


def from_row(row: Mapping[str, Any], runs: Path) -> RunRecord:
    """The record of a row; `runs` is the folder that its folder is in."""
    values = {name: row[name] for name in COLUMNS}
    values |= {name: json_object(values[name]) or {} for name in _AS_JSON}
    values |= {name: bool(values[name]) for name in _AS_BOOL}
    return RunRecord(**values, folder=runs / row["id"])


def leave_to_bucket(record: RunRecord) -> None:
    """Marks the run: from now on its newest files are those of its Job."""
    write_json(record.folder / IN_BUCKET, {"job": record.job.get("id")}, indent=None)


def is_away(record: RunRecord) -> bool:
    """True if the run's newest files are only in the bucket."""
    return (record.folder / IN_BUCKET).is_file()
