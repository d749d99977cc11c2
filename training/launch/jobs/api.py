"""Calls of the Hub's Jobs: start, find by labels, look, cancel, read the log.

    hub = JobsHub("me")
    job = hub.start(spec)
    hub.look(job.id).stage          # 'SCHEDULING', then 'RUNNING', then one of `OVER`

Every call ends within `deadline_seconds`, and raises `HubError` if the Hub refuses or does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_errors import HubError, HubUnreachable, status_of, write_error
from training.runs.metrics import is_number

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo, Volume

OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
APP = "lookthink"
"""The label `app` of every Job of LookThink."""
DEADLINE_SECONDS = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class JobSpec:
    """The request for a Job: arguments of `HfApi.run_job`. Its `repr` has no secrets."""

    image: str
    command: list[str]
    env: dict[str, Any]
    flavor: str
    timeout: int
    """Seconds."""
    labels: dict[str, str]
    volumes: list[Volume]
    name: str
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    network_group: str | None = None
    network_aliases: list[str] | None = None
    """The Job's names in the network of the Jobs with the same `network_group`."""


@dataclass(frozen=True)
class Job:
    """The state of a Job."""

    id: str
    stage: str
    message: str
    flavor: str
    url: str
    labels: Mapping[str, str]
    created: float
    """Seconds since 1970."""
    waited_seconds: float
    """Seconds in the Hub's queue."""
    seconds: float
    """Seconds that it has run."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    @property
    def is_helper(self) -> bool:
        """True for one of several Jobs of a start that is not the first, which keeps the records."""
        return self.labels.get("node", "0") != "0"


class JobsHub:
    """The Jobs of one namespace: a user or an organisation, who pays for them."""

    def __init__(self, namespace: str, token: str | None = None, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """`token` is the machine's own unless given."""
        self.namespace, self.deadline_seconds = namespace, deadline_seconds
        self._token = token
        self._asking: dict[str, threading.Thread] = {}
        """The thread of the newest call of each kind: the client retries by itself for as long as the Hub asks."""

    def start(self, spec: JobSpec) -> Job:
        """Starts a Job. After a `HubError` it may have started all the same: call `find` before another try."""
        return self._ask("start", lambda api: _job_of(api.run_job(**vars(spec), namespace=self.namespace)))

    def find(self, **labels: str) -> list[Job]:
        """The Jobs of LookThink with these labels, oldest first."""
        labels = {"app": APP} | labels
        jobs = self._ask(
            "find", lambda api: [_job_of(j) for j in api.list_jobs(labels=labels, namespace=self.namespace)]
        )
        ours = (job for job in jobs if all(job.labels.get(key) == value for key, value in labels.items()))
        return sorted(ours, key=lambda job: (job.created, job.id))

    def look(self, job_id: str) -> Job | None:
        """The state of a Job; `None` if there is no such Job any more."""
        try:
            return self._ask("look", lambda api: _job_of(api.inspect_job(job_id=job_id, namespace=self.namespace)))
        except HubError as trouble:
            if _status(trouble) == 404:
                return None
            raise

    def cancel(self, job_id: str) -> None:
        """Asks a Job to end, and does not wait for it. Does nothing for one that has ended or is deleted."""
        try:
            self._ask("cancel", lambda api: api.cancel_job(job_id=job_id, namespace=self.namespace))
        except HubError as error:
            if isinstance(error, HubUnreachable) or _status(error) in (401, 403):
                raise
            job = self.look(job_id)
            if job is not None and not job.is_over:
                raise

    def log(self, job_id: str, *, is_over: bool) -> Iterator[str]:
        """All lines of the log from the first on; for a Job that is not over it blocks and yields them as they come.

        The client may end early if the connection was lost: read the log once more when the Job `is_over`.
        """
        try:
            for text in self._api().fetch_job_logs(job_id=job_id, namespace=self.namespace, follow=not is_over):
                yield from text.split("\n")
        except Exception as error:  # of the client, its HTTP library, or the JSON that the Hub sent
            raise write_error(self._what, error) from error

    def usage(self, job_id: str) -> Json:
        """The present use of a running Job: `memory` and, for each GPU, `gpus`, in bytes as [used, total], and
        `gpu_shares`, how busy each GPU is from 0 to 1. Empty where the Hub has no figures yet."""

        def ask(api: HfApi) -> Json:
            samples = api.fetch_job_metrics(job_id=job_id, namespace=self.namespace, follow=False)
            return next((usage_of(sample) for sample in samples), {})

        return self._ask("usage", ask)

    def revision(self, space: str) -> str:
        """The commit that a Space runs now; its newest one if that is not known."""

        def ask(api: HfApi) -> str:
            info = api.space_info(space)
            running = (getattr(info.runtime, "raw", None) or {}).get("sha")
            return str(running or info.sha)

        return self._ask("revision", ask)

    @property
    def _what(self) -> str:
        return f"the Jobs of {self.namespace}"

    def _api(self) -> HfApi:
        import huggingface_hub

        return huggingface_hub.HfApi(token=self._token)

    def _ask(self, kind: str, call: Callable[[HfApi], _T]) -> _T:
        """Makes a call in a thread, since the client has no deadline; refuses a second of its kind meanwhile."""
        before = self._asking.get(kind)
        if before is not None and before.is_alive():
            raise HubUnreachable("the Hub has not answered the last request yet, or asks to wait")
        answers: list[_T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(call(self._api()))
            except Exception as error:  # raised in the calling thread
                errors.append(error)

        thread = self._asking[kind] = threading.Thread(target=run, name="jobs-hub", daemon=True)
        thread.start()
        thread.join(self.deadline_seconds)
        if answers:
            return answers[0]
        if not errors:
            raise HubUnreachable(f"the Hub has not answered for {self.deadline_seconds:.0f} s")
        if isinstance(errors[0], UserError):
            raise errors[0]
        raise write_error(self._what, errors[0]) from errors[0]


def usage_of(sample: Mapping[str, Any]) -> Json:
    """Reads one sample of the Hub's figures; what is no figure is left out.

    >>> usage_of({"memory_used_bytes": 1, "memory_total_bytes": 4, "gpus": {"a": {"utilization": 50}}})
    {'memory': [1, 4], 'gpus': [], 'gpu_shares': [0.5]}
    """

    def pair(values: Mapping[str, Any]) -> list[float] | None:
        both = [values.get("memory_used_bytes"), values.get("memory_total_bytes")]
        return [value for value in both if is_number(value)] if all(map(is_number, both)) else None

    found = sample.get("gpus")
    gpus = [gpu for gpu in found.values() if isinstance(gpu, Mapping)] if isinstance(found, Mapping) else []
    shares = [gpu["utilization"] / 100 for gpu in gpus if is_number(gpu.get("utilization"))]
    return {"memory": pair(sample), "gpus": list(filter(None, map(pair, gpus))), "gpu_shares": shares}


def _status(error: HubError) -> int | None:
    return status_of(error.__cause__) if isinstance(error.__cause__, Exception) else None


def _job_of(info: JobInfo) -> Job:
    """Reads the Hub's answer."""
    durations = info.durations
    created = info.created_at.timestamp() if info.created_at else time.time()
    return Job(
        id=str(info.id),
        stage=str(getattr(info.status.stage, "value", info.status.stage)),
        message=str(info.status.message or "")[:500],
        flavor=str(getattr(info.flavor, "value", info.flavor) or ""),
        url=str(info.url),
        labels={str(key): str(value) for key, value in (info.labels or {}).items()},
        created=created,
        waited_seconds=float((durations and durations.scheduling_secs) or 0.0),
        seconds=float((durations and durations.running_secs) or 0.0),
        env={str(key): str(value) for key, value in (info.environment or {}).items()},
    )
