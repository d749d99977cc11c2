"""Makes the request for a Job: the Space's code at its commit, the run, a timeout above the estimate, and the bucket.

    target = target_of(settings, os.environ)                 # raises `UserError` for what is missing
    served = copy_inputs(record, target, settings)           # the files of this machine that it reads, into the bucket
    spec = job_spec(record, target, revision, seconds, served=served)

The code is the Space's repository, mounted at the commit that the Space runs; `uv` installs its requirements. The run
goes along in the environment, the token as a secret, and nothing of this machine's paths.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.adapters.served import serving
from inference.common.environment import MARK
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import STARTER_NAME, Settings
from training.config.run_config import RunConfig
from training.hub.backup.mirror import mirror_run
from training.launch.jobs.api import APP, JobSpec
from training.launch.jobs.worker import MIRROR_SECONDS, ORDER, Order
from training.launch.spawn import secrets_for
from training.runs.estimate.hardware import machine
from training.runs.estimate.measured import read_measured_run
from training.runs.estimate.run_estimate import estimate_run
from training.runs.folder import RunFolder, step_of
from training.runs.record import RunRecord

CODE, STATE = "/code", "/state"
"""The mount paths of the Space's repository and the bucket in a Job."""
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
MIN_SECONDS, MAX_SECONDS = 1_800, 86_400
UNKNOWN_SECONDS = 21_600
"""The timeout of a run without an estimate; one that takes longer continues in a next Job."""
LOADING_SECONDS = 1_200
"""Seconds to load the image, the requirements, the base and the data."""
_MARGIN = 1.5
_RESERVE_SHARE, _MAX_RESERVE_SECONDS = 0.1, 300.0
_SPACE_VARIABLES = ("SPACE_ID", "LOOKTHINK_SPACE")
ON_SPACE = "space"


@dataclass(frozen=True)
class JobTarget:
    """The code, the bucket and the hardware of this deployment's Jobs."""

    space: str
    """`owner/name`, whose code runs; the owner pays."""
    bucket: str
    flavor: str
    state: Path | None
    """The bucket's mount on this machine; `None` where it has none."""
    home: str = ON_SPACE
    """The home that a Job belongs to: `space`, or a name of another machine, the same after the home was lost."""

    @property
    def namespace(self) -> str:
        return self.space.split("/")[0]


def target_of(settings: Settings, env: Mapping[str, str] = os.environ) -> JobTarget:
    """The target of Jobs. Raises `UserError` that names all that is missing."""
    space = next(filter(None, (env.get(name, "").strip() for name in _SPACE_VARIABLES)), "")
    missing = []
    if "/" not in space:
        missing.append("whose code it is to run: set LOOKTHINK_SPACE to the Space, as owner/name")
    if not settings.training.bucket:
        missing.append("a bucket for its checkpoints: name one in space.yaml (training.bucket), as owner/name")
    if not _token(env):
        missing.append("a token that may start Jobs: set HF_TOKEN (on a Space as a secret)")
    if missing:
        raise UserError(f"training.trainer is job, and a Job needs {'; and '.join(missing)}")
    assert settings.training.bucket is not None
    home = ON_SPACE if env.get("SPACE_ID", "").strip() else _name_of(settings.home)
    return JobTarget(space, settings.training.bucket, settings.training.job_hardware, settings.state, home)


def check_config(config: RunConfig, target: JobTarget) -> None:
    """Raises `UserError` for a path that a Job cannot read: a file that does not come along in the bucket."""
    for name, value in (("base", config.base), ("dataset", config.data.dataset)):
        if value != STARTER_NAME and Path(value).expanduser().exists():
            raise UserError(
                f"{name} is {value}, a path of this machine, and the run is a Job on another one; put it on the Hub "
                "and name it as owner/name"
            )
    brought = [name for name in ("start_adapter", "curriculum") if getattr(config, name)]
    if brought and target.state is None:
        raise UserError(
            f"{' and '.join(brought)} must come along in the bucket, and it is not mounted here; set LOOKTHINK_STATE "
            "to its mount, or start the run from the Space"
        )


def timeout_seconds(
    record: RunRecord, records: Sequence[RunRecord], flavor: str, doctor_folders: Sequence[Path] = ()
) -> int:
    """Half as much again as the longest time of the estimate on this hardware, and the time to load; never beyond what
    the budget leaves.

    Times measured on the same hardware count, in earlier Jobs and by the doctor.
    """
    try:
        on = machine(hardware_of_jobs(records, flavor))
        found = estimate_run(record.run_config, records, on, doctor_folders=doctor_folders)
        seconds = found.hours_high * 3600 * _MARGIN + LOADING_SECONDS
    except (ValueError, UserError):  # of another version, or of a base, data or hardware that are not known
        seconds = UNKNOWN_SECONDS
    if record.budget_hours is not None:
        seconds = min(seconds, max(0.0, record.budget_hours - record.hours) * 3600 + LOADING_SECONDS)
    return int(min(MAX_SECONDS, max(MIN_SECONDS, seconds)))


def reserve_seconds(timeout: float) -> float:
    """Seconds before a Job's timeout at which its trainer is asked to stop: for a step, a checkpoint and its copy."""
    return min(_MAX_RESERVE_SECONDS, timeout * _RESERVE_SHARE)


def job_spec(
    record: RunRecord,
    target: JobTarget,
    revision: str,
    seconds: int,
    *,
    node: int = 0,
    served: str | None = None,
    mirror_seconds: float = MIRROR_SECONDS,
    env: Mapping[str, str] = os.environ,
) -> JobSpec:
    """The Job of one start of a run; of several, which reach each other by their numbers from 1, that of a `node`."""
    from huggingface_hub import Volume

    is_shared = record.run_config.num_nodes > 1
    order = Order(_for_the_job(record), seconds, reserve_seconds(seconds), served, mirror_seconds, node)
    run = ["uv", "run", "--no-project", "--with-requirements", f"{CODE}/requirements.txt"]
    variables = {ORDER: order.to_json(), "LOOKTHINK_STATE": STATE, "PYTHONPATH": CODE, MARK: record.launch}
    variables |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    labels = {"app": APP, "run": record.id, "launch": record.launch, "space": target.space.replace("/", "--")}
    labels |= {"home": target.home}
    return JobSpec(
        image=IMAGE,
        command=[*run, "python", "-m", "training.launch.jobs.worker"],
        env=variables,
        secrets=secrets_for(record, _with_token(env)),
        flavor=target.flavor,
        timeout=seconds,
        labels=labels | {"revision": revision} | ({"node": str(node)} if is_shared else {}),
        volumes=[
            Volume(type="space", source=target.space, mount_path=CODE, revision=revision),
            Volume(type="bucket", source=target.bucket, mount_path=STATE),
        ],
        name=f"lookthink-{record.id}",
        network_group=f"lookthink-{record.launch}" if is_shared else None,
        network_aliases=[str(node + 1)] if is_shared else None,
    )


def in_bucket(run_id: str, name: str) -> str:
    """The path in the bucket of a file that a run reads."""
    return f"inputs/{run_id}/{name}"


def copy_inputs(record: RunRecord, target: JobTarget, settings: Settings) -> str | None:
    """Copies to the bucket the files that the run reads, and its folder where its last start was a process here.

    Returns the path of the served adapter in the bucket; `None` where the base alone is served, or the bucket is not
    mounted here. Raises `UserError` for what is missing.
    """
    state, newest = target.state, RunFolder(record.folder).newest_checkpoint()
    goes_on_from_here = newest is not None and record.job.get("was") == "local"
    if state is None:
        if newest is not None and goes_on_from_here:
            raise UserError(
                f"run {record.id} is at step {step_of(newest)} on this machine, and the bucket is not mounted here; "
                "set LOOKTHINK_STATE to its mount, so that a Job can go on from there"
            )
        return None
    if not state.is_dir():  # a mount that is missing must not become a folder of this machine
        raise UserError(f"LOOKTHINK_STATE is {state}, which is not there; mount the bucket there, then resume it")
    try:
        if goes_on_from_here:
            mirror_run(record.folder, state)
        for name in ("start_adapter", "curriculum"):
            if source := getattr(record.run_config, name):
                _copy(Path(source), state / in_bucket(record.id, name))
        served = serving(settings)
        if served.path is None:
            return None
        served_in_bucket = in_bucket(record.id, f"served/{served.name}")
        _copy(served.path, state / served_in_bucket)
        return served_in_bucket
    except OSError as error:
        words = f"{state} cannot be written ({error.strerror}); check the bucket's mount, then resume it"
        raise UserError(words) from error


def _copy(source: Path, target: Path) -> None:
    """Copies a file, or a folder of files. Raises `OSError`."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copyfile(path, target / path.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _for_the_job(record: RunRecord) -> Json:
    """The record without the values of this machine."""
    values = record.to_json() | {"starter": {}, "job": {}, "pid": None, "pid_created": None, "boot_id": None}
    config = values["config"]
    for name in ("start_adapter", "curriculum"):
        if config.get(name):
            config[name] = f"state:{in_bucket(record.id, name)}"
    return values


def hardware_of_jobs(records: Sequence[RunRecord], flavor: str) -> str:
    """The name that torch gave the card of such a Job; the flavor's own where none has run."""
    for record in records:
        if record.job.get("flavor") == flavor:
            try:
                return str(read_measured_run(record.folder).hardware)
            except UserError:  # too few steps
                continue
    return flavor


def _name_of(home: Path) -> str:
    """The name of a home folder that is not a Space's; it does not give away the machine's name or paths."""
    return hashlib.sha256(f"{platform.node()}:{home.resolve()}".encode()).hexdigest()[:16]


def _token(env: Mapping[str, str]) -> str | None:
    if token := env.get("HF_TOKEN", "").strip():
        return token
    from huggingface_hub import get_token

    return get_token()


def _with_token(env: Mapping[str, str]) -> dict[str, str]:
    token = _token(env)
    return dict(env) | ({"HF_TOKEN": token} if token else {})
