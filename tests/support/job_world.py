"""A Space with Jobs, whole but for the network: its code on a test Hub, a bucket, a token, and a launcher.

world = JobWorld(hub, url, tmp_path, monkeypatch)
record = world.ask(max_steps=2)
world.until(record, "succeeded")
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.common.settings import Settings
from inference.common.space_file import TrainingSection
from tests import ROOT
from tests.support.hub.client import client_env, point
from tests.support.hub.machines import Job, Jobs
from tests.support.hub.repos import Hub
from tests.support.samples import SMALL_RUN, STARTER
from training.config.run_config import load_config
from training.launch.jobs.job import Pace
from training.launch.jobs.launcher import JobLauncher
from training.runs.record import RunRecord
from training.runs.store import RunStore

TOKEN = "hf_of_the_owner"
SPACE, BUCKET = "me/lookthink", "me/lookthink-runs"
QUICK = Pace(
    look=0.1,
    others=0.5,
    longest_wait=0.5,
    in_queue=0.5,
    cancel_again=1.0,
    records=0.2,
    log=20.0,
    bucket=2.0,
    mirror=0.5,
)
QUICK_JOB = """
import hashlib, json, os, signal, sys, time
order = json.loads(os.environ["LOOKTHINK_JOB"])
launch = order["record"]["launch"]
state = os.environ["LOOKTHINK_STATE"] + "/runs/" + order["record"]["id"]
files = {"config.json": json.dumps(order["record"]["config"])}
names = os.listdir(state) if os.path.isdir(state) else []
number = max([int(name[9:17]) for name in names if name[:8] == "manifest"], default=0)
def keep(**changed):
    global number
    number += 1
    files.update({name.replace("__", "/"): text for name, text in changed.items()})
    pass_name = f"{number:08d}-abcdef"
    kept = {}
    for name, text in files.items():
        path = f"{pass_name}/{name}"
        os.makedirs(os.path.dirname(f"{state}/{path}"), exist_ok=True)
        open(f"{state}/{path}", "w").write(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        kept[name] = {"mtime_ns": number, "parts": [{"digest": digest, "size": len(text.encode()), "path": path}]}
    manifest = {"number": number, "at": time.time(), "files": kept}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    json.dump({"manifest": manifest, "digest": digest}, open(f"{state}/.part", "w"))
    os.replace(f"{state}/.part", f"{state}/manifest-{pass_name}.json")
def whole(name, **values):
    keep(**{name: json.dumps(values)})
def metrics(step):
    keep(**{"metrics.jsonl": files.get("metrics.jsonl", "") + json.dumps({"step": step, "reward": 0.5}) + chr(10)})
def checkpoint(step):
    keep(**{f"checkpoints/checkpoint-{step}/complete.json": json.dumps({"step": step, "files": {}})})
def end(status, reason=""):
    if status == 0:
        whole("adapter/adapter_config.json")
    whole("exit.json", launch=launch, status=status, reason=reason, seconds=3.0)
    sys.exit(status)
def on_sigterm(*_):
    end(75, "stopped while training, at step 1")
signal.signal(signal.SIGTERM, on_sigterm)
print(f"@lookthink {launch} begins", flush=True)
"""
"""A Job of milliseconds that writes a run's files, for tests of the launcher without a trainer."""


class JobWorld:
    """What stands around a Job."""

    def __init__(
        self, hub: Hub, url: str, folder: Path, patch: pytest.MonkeyPatch, pace: Pace = QUICK, code: str | None = None
    ) -> None:
        """`code` runs in the trainer's place in each Job, after `QUICK_JOB`; else it is this checkout."""
        self.hub, self.folder, self.pace = hub, folder, pace
        self.pause = 0.05 if code is not None else 0.3
        hub.tokens[TOKEN] = "me"
        files = {} if code is not None else {name: (ROOT / name).read_bytes() for name in _code()}
        if code is not None:
            main = (QUICK_JOB + code).encode()
            files = {"training/__init__.py": b"", "training/launch/jobs/worker.py": main, "requirements.txt": b""}
        self.code = hub.repo("space", SPACE).commit(dict(files))
        self.jobs = Jobs.of(hub, folder / "jobs", client_env(url, folder / "job-cache"))
        self.jobs.image_env |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        point(patch, url, folder / "cache").log_in(TOKEN)
        patch.setenv("SPACE_ID", SPACE)
        self.state = self.jobs.bucket(BUCKET)
        self.home = folder / "home"
        self.launcher = self.new_launcher()

    def new_launcher(self, pace: Pace | None = None, **options: Any) -> JobLauncher:
        """As of an app that has just been started."""
        section = TrainingSection(trainer="job", bucket=BUCKET)
        settings = Settings(
            base=str(STARTER),
            base_reason="",
            named_base=str(STARTER),
            adapter=str(STARTER / "adapter"),
            home=self.home,
            state=self.state,
            training=section,
        )
        return JobLauncher(RunStore(self.home), settings, pace=pace or self.pace, **options)

    @property
    def store(self) -> RunStore:
        return self.launcher.store

    def ask(self, *, budget: dict[str, Any] | None = None, **values: Any) -> RunRecord:
        """A small run of the starter."""
        data = {"train_rows": 40, "test_rows": 4, "validation_rows": 2}
        config = load_config(
            "starter", SMALL_RUN | {"data": data, "max_completion_length": 24, "save_steps": 1, "eval_rows": 0} | values
        )
        self.launcher.check(config)
        return self.store.submit(config, "owner", **(budget or {}))

    def until(self, record: RunRecord, *statuses: str, seconds: float = 240) -> RunRecord:
        """The run when it has one of these statuses."""
        self.wait(lambda: self.store.get(record.id).status in statuses, seconds)
        return self.store.get(record.id)

    def wait(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Look after the runs until it holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.store.list(), self.logs())
            self.launcher.reconcile()
            time.sleep(self.pause)

    def logs(self) -> list[str]:
        """The last lines of every Job."""
        return [f"{job.stage} {job.message} {line['data'][:300]}" for job in self.all() for line in job.lines[-12:]]

    def all(self) -> list[Job]:
        """Every Job so far, the oldest first."""
        return list(self.jobs.jobs.values())


def _code() -> list[str]:
    """The files of this checkout that a Job needs, tracked or about to be."""
    asked = ["git", "ls-files", "-co", "--exclude-standard", "inference", "training", "space.yaml", "requirements*.txt"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [name for name in found if name and "/ui/" not in name and (ROOT / name).is_file()]
