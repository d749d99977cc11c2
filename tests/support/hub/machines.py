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
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.hub.repos import Hub

OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
LOOPBACK = "127.0.0."
"""Before a Job's name in its network group, which must be a number here: there is no name server."""


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
            "createdAt": moment(self.created),
            "startedAt": self.started and moment(self.started),
            "finishedAt": self.ended and moment(self.ended),
            "status": {"stage": self.stage, "message": self.message},
            "durations": durations | {"totalSecs": int((self.ended or now) - self.created)},
            "owner": {"id": "0" * 24, "name": self.namespace, "type": "user"},
            "secrets": dict.fromkeys(self.spec.get("secrets", {}), ""),
        } | {name: self.spec[name] for name in shown if name in self.spec}

    def say(self, text: str) -> None:
        self.lines.append({"data": text, "timestamp": moment(time.time())})


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
    hold_at: re.Pattern[str] | None = None
    """All processes of the first Job that says such a line stand still from then on, until the Job is to end."""
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
        _signal_all(self.folder / job.id, signal.SIGCONT)
        threading.Timer(self.grace_seconds, _signal_all, (self.folder / job.id, signal.SIGKILL)).start()

    def end_all(self) -> None:
        """Kill whatever still runs."""
        for job in self.active():
            job.stage = "DELETED"
            if job.process is not None:
                _signal_all(self.folder / job.id, signal.SIGKILL)
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
        if "network" in job.spec:
            base["HF_NETWORK_GROUP_PREFIX"] = LOOPBACK
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
            if self.hold_at is not None and self.hold_at.search(job.lines[-1]["data"]):
                self.hold_at = None
                _signal_all(empty, signal.SIGSTOP)
        status = job.process.wait()
        limit.cancel()
        _signal_all(empty, signal.SIGKILL)  # a container takes all of its processes along
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
        with self.hub.lock:  # Jobs that start together wait until it is whole
            for path, data in repo.commits[str(sha)].items() if not folder.exists() else ():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        return folder


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the first process, as a container's init hears it."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _signal_all(empty: Path, number: signal.Signals) -> None:
    """What no process can refuse: to all of the container's, in whatever session they are."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(empty / "tmp"):
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


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"
