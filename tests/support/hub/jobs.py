"""The test Hub's routes for Jobs: start, list by labels, look at, cancel, the log as a stream, and their prices."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import psutil

from tests.support.hub.http import Answer, Refused, Request, as_json, routes
from tests.support.hub.machines import Job, Jobs
from tests.support.hub.repos import Hub

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
    if job.is_over:
        raise Refused(400, "", "Job is not running")
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


def metrics(hub: Hub, request: Request) -> Answer:
    """A sample a second while it runs: what its process uses, and a GPU's figures that are made up."""
    job = _one(hub, request)
    if job.is_over:
        raise Refused(406, "", "Job is not running")

    def events() -> Iterator[bytes]:
        while job.process is not None and not job.is_over:
            with contextlib.suppress(psutil.Error):
                used = psutil.Process(job.process.pid).memory_info().rss
                gpu = {"utilization": 40, "memory_used_bytes": 12_000_000_000, "memory_total_bytes": 80_000_000_000}
                sample = {"cpu_usage_pct": 0, "memory_used_bytes": used, "memory_total_bytes": 150_000_000_000}
                sample |= {"gpus": {"882fa930": gpu}, "replica": "57vr7"}
                yield f"event: metric\ndata: {json.dumps(sample)}\n\n".encode()
            time.sleep(1.0)

    return Answer(200, headers={"Content-Type": "text/event-stream"}, stream=events())


_NAMESPACE, _JOB = r"/api/jobs/(?P<namespace>[\w.-]+)", r"(?P<job>[0-9a-f]{24})"
ROUTES = routes(
    ("GET", r"/api/jobs/hardware", hardware),
    ("POST", _NAMESPACE, create),
    ("GET", _NAMESPACE, listed),
    ("GET", rf"{_NAMESPACE}/{_JOB}", look),
    ("POST", rf"{_NAMESPACE}/{_JOB}/cancel", cancel),
    ("GET", rf"{_NAMESPACE}/{_JOB}/logs", logs),
    ("GET", rf"{_NAMESPACE}/{_JOB}/metrics", metrics),
)
