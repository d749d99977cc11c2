"""The test Hub's Jobs: each really runs, as a process of this machine in an empty folder with what was asked for.

    jobs = Jobs.of(hub, tmp_path, {})  # then POST /api/jobs/<namespace> starts processes
    jobs.busy.add("a100-large")        # no machine of this kind is free: its Jobs stay in the queue
    jobs.end_all()

A Job's environment holds what was asked for and `jobs.image_env`, nothing of this process's. A volume is a folder: of
a bucket, which the test may hand the app as its own mount, or of a repository at a commit. Paths below a mount become
paths below its folder, and `uv run … python` this interpreter, for the image has everything installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hub_http import Answer, Refused, Request, as_json, routes
from tests.hub_repos import Hub

OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
_GPUS = {"t4-small": ("T4", "16 GB", 6667), "a10g-large": ("A10G", "24 GB", 25000), "l40sx1": ("L40S", "48 GB", 30000)}
_GPUS |= {"a100-large": ("A100", "80 GB", 41667), "h200": ("H200", "141 GB", 83333)}
HARDWARE = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None}
    | {"unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"}
] + [
    {"name": name, "prettyName": f"Nvidia {model}", "cpu": "12 vCPU", "ram": "142 GB"}
    | {"accelerator": {"type": "gpu", "model": model, "quantity": "1", "vram": vram, "manufacturer": "Nvidia"}}
    | {"unitCostMicroUSD": micro, "unitCostUSD": micro / 1e6, "unitLabel": "minute"}
    for name, (model, vram, micro) in _GPUS.items()
]
"""As the Hub lists it: costs are those of a minute."""


@dataclass
class Job:
    """One Job."""

    id: str
    namespace: str
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    lines: list[dict[str, str]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def labels(self) -> dict[str, str]:
        return self.spec.get("labels", {})

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    def info(self) -> dict[str, Any]:
        """As the Hub tells it."""
        now = time.time()
        waited = (self.started or self.ended or now) - self.created
        ran = None if self.started is None else int((self.ended or now) - self.started)
        durations = {"schedulingSecs": int(waited), "runningSecs": ran}
        shown = ("dockerImage", "spaceId", "command", "arguments", "environment", "flavor", "labels", "volumes")
        return {
            "id": self.id,
            "createdAt": _moment(self.created),
            "startedAt": self.started and _moment(self.started),
            "finishedAt": self.ended and _moment(self.ended),
            "status": {"stage": self.stage, "message": self.message},
            "durations": durations | {"totalSecs": int((self.ended or now) - self.created)},
            "owner": {"id": "0" * 24, "name": self.namespace, "type": "user"},
            "secrets": dict.fromkeys(self.spec.get("secrets", {}), ""),
        } | {name: self.spec[name] for name in shown if name in self.spec}

    def say(self, text: str) -> None:
        self.lines.append({"data": text, "timestamp": _moment(time.time())})


@dataclass
class Jobs:
    """All Jobs of a test Hub."""

    hub: Hub
    folder: Path
    image_env: dict[str, str] = field(default_factory=dict)
    """What the image itself sets; the test adds the Hub's address."""
    busy: set[str] = field(default_factory=set)
    """Kinds of machines of which none is free."""
    grace_seconds: float = 60.0
    """From SIGTERM to SIGKILL."""
    jobs: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def of(cls, hub: Hub, folder: Path, image_env: Mapping[str, str]) -> Jobs:
        hub.more["jobs"] = found = cls(hub, folder, dict(image_env))
        return found

    def bucket(self, name: str) -> Path:
        """The folder that is mounted for a bucket."""
        path = self.folder / "buckets" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, namespace: str, spec: dict[str, Any]) -> Job:
        job = Job(f"{len(self.jobs) + 1:024x}", namespace, spec)
        self.jobs[job.id] = job
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def active(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.is_over]

    def end(self, job: Job, stage: str, message: str | None = None) -> None:
        """SIGTERM, then SIGKILL for what has not ended in time; one that waits ends at once."""
        with self.hub.lock:
            if job.is_over or job.message is not None:
                return
            job.message = message or "ended"
            if job.process is None:
                job.stage, job.ended = stage, time.time()
                return
        job.spec["ends as"] = stage
        _signal(job.process, signal.SIGTERM)
        threading.Timer(self.grace_seconds, _signal, (job.process, signal.SIGKILL)).start()

    def end_all(self) -> None:
        """Kill whatever still runs."""
        for job in self.active():
            job.stage = "DELETED"
            if job.process is not None:
                _signal(job.process, signal.SIGKILL)
                job.process.wait(20)

    def _run(self, job: Job) -> None:
        while job.spec["flavor"] in self.busy and not job.is_over:
            time.sleep(0.02)
        mounts = {volume["mountPath"]: self._volume(volume) for volume in job.spec.get("volumes", ())}
        empty = self.folder / job.id
        (empty / "tmp").mkdir(parents=True)
        given = {**job.spec.get("environment", {}), **job.spec.get("secrets", {})}
        env = {name: _below(mounts, str(value)) for name, value in given.items()}
        base = {"PATH": os.environ["PATH"], "HOME": str(empty), "TMPDIR": str(empty / "tmp")}
        with self.hub.lock:
            if job.is_over:
                return
            job.process = subprocess.Popen(
                _locally([_below(mounts, part) for part in job.spec["command"]]),
                cwd=empty,
                env=base | self.image_env | env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            job.stage, job.started = "RUNNING", time.time()
        job.say("===== Job started")
        limit = threading.Timer(job.spec.get("timeoutSeconds", 1800), self.end, (job, "ERROR", "Job timeout"))
        limit.start()
        assert job.process.stdout is not None
        for line in job.process.stdout:
            job.say(line.decode(errors="replace").rstrip("\n"))
        status = job.process.wait()
        limit.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.process.pid, signal.SIGKILL)  # a container takes all of its processes along
        with self.hub.lock:
            if job.stage == "RUNNING":
                asked = job.spec.get("ends as")
                job.stage = asked or ("ERROR" if status else "COMPLETED")
                job.message = job.message or (f"Job failed with exit code: {status}" if status else None)
                job.ended = time.time()

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        if volume["type"] == "bucket":
            return self.bucket(volume["source"])
        repo = self.hub.repos[volume["type"], volume["source"]]
        sha = repo.resolve(volume.get("revision") or "main")
        folder = self.folder / "repos" / f"{repo.id.replace('/', '--')}-{sha}"
        for path, data in repo.commits[str(sha)].items() if not folder.exists() else ():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the first process alone, as a container's init hears it; SIGKILL to all."""
    with contextlib.suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _below(mounts: Mapping[str, Path], text: str) -> str:
    """A path below a mount as one of this machine."""
    for mount, folder in mounts.items():
        if text == mount or text.startswith(f"{mount}/"):
            return str(folder) + text[len(mount) :]
    return text


def _locally(command: list[str]) -> list[str]:
    """`uv run --with-requirements FILE … python` as this interpreter; a file that is not there is an error as in uv."""
    if command[:2] != ["uv", "run"]:
        return command
    at = command.index("python")
    for option, value in zip(command[2:at], command[3:at]):
        if option == "--with-requirements" and not Path(value).is_file():
            return [sys.executable, "-c", f"import sys; sys.exit('error: File not found: {value}')"]
    return [sys.executable, *command[at + 1 :]]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _jobs(hub: Hub, request: Request) -> Jobs:
    """For who may see the Jobs of the namespace."""
    namespace = request.parts.get("namespace", "")
    if request.user is None:
        raise Refused(401, "", "Invalid username or password.")
    if namespace and not hub.may_write(request.user, f"{namespace}/jobs"):
        raise Refused(403, "", f"You have no right to the Jobs of {namespace}")
    return hub.more["jobs"]


def _one(hub: Hub, request: Request) -> Job:
    job = _jobs(hub, request).jobs.get(request.parts["job"])
    if job is None:
        raise Refused(404, "", "Job not found")
    return job


def create(hub: Hub, request: Request) -> Answer:
    """Start one; 400 for what no machine can do."""
    jobs, spec = _jobs(hub, request), json.loads(request.body)
    if spec["flavor"] not in {kind["name"] for kind in HARDWARE}:
        raise Refused(400, "", f"flavor: Invalid option {spec['flavor']}")
    for volume in spec.get("volumes", ()):
        if volume["type"] != "bucket" and (volume["type"], volume["source"]) not in hub.repos:
            raise Refused(404, "RepoNotFound", f"{volume['type']} {volume['source']} not found")
    return as_json(jobs.start(request.parts["namespace"], spec).info())


def listed(hub: Hub, request: Request) -> Answer:
    """Those with all of these labels, and one of these stages, newest first."""
    wanted = [label.split("=", 1) for label in request.query.get("label", [])]
    stages = request.query.get("stage", [])
    jobs = [job for job in _jobs(hub, request).jobs.values() if job.namespace == request.parts["namespace"]]
    found = [job for job in jobs if all(job.labels.get(key) == value for key, value in wanted)]
    return as_json([job.info() for job in reversed(found) if not stages or job.stage in stages])


def look(hub: Hub, request: Request) -> Answer:
    return as_json(_one(hub, request).info())


def cancel(hub: Hub, request: Request) -> Answer:
    job = _one(hub, request)
    hub.more["jobs"].end(job, "CANCELED", "Job cancelled")
    return as_json(job.info())


def hardware(hub: Hub, request: Request) -> Answer:
    """Kinds of machines with what they cost."""
    return as_json(HARDWARE)


def logs(hub: Hub, request: Request) -> Answer:
    """Everything so far, then what comes, until the Job has ended."""
    job = _one(hub, request)
    tail = int(request.query.get("tail", ["0"])[0])

    def events() -> Iterator[bytes]:
        at = max(0, len(job.lines) - tail) if tail else 0
        while True:
            was_over = job.is_over
            for line in job.lines[at:]:
                at += 1
                yield f"data: {json.dumps(line)}\n\n".encode()
            if was_over and at == len(job.lines):
                return
            time.sleep(0.02)

    return Answer(200, headers={"Content-Type": "text/event-stream"}, stream=events())


_NAMESPACE, _JOB = r"/api/jobs/(?P<namespace>[\w.-]+)", r"(?P<job>[0-9a-f]{24})"
ROUTES = routes(
    ("GET", r"/api/jobs/hardware", hardware),
    ("POST", _NAMESPACE, create),
    ("GET", _NAMESPACE, listed),
    ("GET", rf"{_NAMESPACE}/{_JOB}", look),
    ("POST", rf"{_NAMESPACE}/{_JOB}/cancel", cancel),
    ("GET", rf"{_NAMESPACE}/{_JOB}/logs", logs),
)
