"""`kill -9` of the trainer, of the app and of both, at random moments: no record lies, no run is lost, none is doubled.

`make torture` prints one line that says what was done and seen.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from inference.common.environment import MARK
from inference.common.files import read_lines
from tests import ROOT
from tests.support.app_process import Process
from training.config.run_config import RunConfig, load_config
from training.launch.local import LocalLauncher
from training.runs.folder import RunFolder, step_of
from training.runs.processes import is_alive
from training.runs.record import RunRecord
from training.runs.recovery import process_of
from training.runs.store import RunStore

PATIENCE = 1800.0
"""Seconds to wait for something that takes a few on an idle machine."""
NOTICED_SECONDS = 10.0
"""A dead trainer is noticed in this time, where an app watches."""


def config(steps: int) -> RunConfig:
    small = {"prompts_per_step": 2, "num_generations": 4, "micro_batch_size": 8, "max_completion_length": 24}
    other = {"warmup_steps": 0, "save_steps": 1, "eval_rows": 0, "report_to": []}
    data = {"train_rows": 40, "test_rows": 4}
    return load_config("starter", {"max_steps": steps, "data": data, **small, **other})


class Siege:
    """A home, its app, and who kills them; a second thread looks at all of it without a pause.

    The app is `python app.py` if `whole`, else its watcher of runs (`tests.support.run_keeper`), which starts sooner.
    """

    def __init__(self, home: Path, seed: int, *, whole: bool = False) -> None:
        self.whole = whole
        self.home, self.store = home, RunStore(home)
        self.app: subprocess.Popen[bytes] | subprocess.Popen[str]
        self.rng = random.Random(seed)
        self.wrong: list[str] = []
        self.noticed: list[float] = []
        self.counts: Counter[str] = Counter()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Siege":
        self.start_app()
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()
        self.app.kill()
        self.app.wait()
        for record in self.store.list():
            LocalLauncher(self.store).cancel(record.id) if record.is_active else None
        for process in self.processes():
            process.kill()

    def start_app(self) -> None:
        if self.whole:
            self.server = Process(self.home)
            self.app = self.server.popen
        else:
            self.app = subprocess.Popen([sys.executable, "-m", "tests.support.run_keeper", str(self.home)], cwd=ROOT)

    def kill(self, who: str) -> bool:
        """At a random moment: of its start, or, one time in two, after a new step.

        The app is started again at once, as by whoever keeps a service up. Returns false where the trainer had just
        ended, and nothing was killed.
        """
        if self.whole and who == "trainer":
            self.server.wait_for("Admin token")  # only an app that has started can notice it
            self.server.wait_ready()
        if who != "app":
            self.wait_for(lambda: self._trainer() is not None or not self._is_busy(), PATIENCE)
        if self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(0, 12))
        else:
            self._wait_for_a_step()
            time.sleep(self.rng.uniform(0, 3))
        identity, before = self._trainer(), self.store.active()
        if who != "app" and identity is None:
            return False
        if who in ("app", "both"):
            self.app.kill()
        if struck := who != "app":
            try:
                os.kill(identity.pid, signal.SIGKILL)
            except ProcessLookupError:
                struck = False
        killed = time.monotonic()
        if who in ("app", "both"):
            self.app.wait()
            self.start_app()
        if struck and before is not None:
            self.wait_for(lambda: self._is_noticed(before), PATIENCE)
            if who == "trainer":  # else there was no app to notice it
                self.noticed.append(time.monotonic() - killed)
        self.counts[who] += (is_done := struck or who == "app")
        return is_done

    def ended(self, run_id: str, seconds: float) -> RunRecord:
        """The run when it has succeeded; one that was given up after three deaths in a row is resumed."""
        end = time.monotonic() + seconds
        while (record := self.store.get(run_id)).status != "succeeded":
            assert time.monotonic() < end, record
            self.resume_failed([record])
            time.sleep(0.2)
        return record

    def resume_failed(self, runs: list[RunRecord]) -> None:
        """Go on with those that were given up after three deaths in a row, the only way to fail here."""
        for record in map(self.store.get, [run.id for run in runs]):
            if record.status == "failed":
                assert "died 3 times in a row" in record.reason, record
                self.counts["given up and resumed"] += 1
                LocalLauncher(self.store).resume(record.id)

    def wait_for(self, condition, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.store.list()
            time.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        """Every process of a run of this home."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.Error, OSError):
                continue
            if MARK in environment and environment.get("LOOKTHINK_HOME") == str(self.home):
                found.append(process)
        return found

    def _trainer(self):
        alive = [process_of(record.folder) for record in self.store.list()]
        return next((identity for identity in alive if is_alive(identity)), None)

    def _is_busy(self) -> bool:
        return any(record.is_active or record.status == "queued" for record in self.store.list())

    def _wait_for_a_step(self) -> None:
        """Until the active run has made one more, or there is none or another."""
        before = self.store.active()
        if before is not None:
            reached = len(RunFolder(before.folder).history())
            self.wait_for(lambda: len(RunFolder(before.folder).history()) > reached or self._is_over(before), PATIENCE)

    def _is_over(self, before: RunRecord) -> bool:
        now = self.store.get(before.id)
        return not now.is_active and now.status != "queued"

    def _is_noticed(self, before: RunRecord) -> bool:
        now = self.store.get(before.id)
        return now.launch != before.launch or not now.is_active

    def _look(self) -> None:
        """Two trainers at once, two active records, or an end that a living process belies."""
        while not self._over.wait(0.1):
            records = self.store.list()
            alive = [r for r in records if is_alive(process_of(r.folder))]
            if len(alive) > 1:
                self.wrong.append(f"two trainers: {[r.id for r in alive]}")
            if sum(r.is_active for r in records) > 1:
                self.wrong.append("two active records")
            for record in alive:
                now = self.store.get(record.id)
                if not now.is_active and is_alive(process_of(now.folder)):
                    self.wrong.append(f"{now.id} is {now.status}, and its process lives")


def check_whole(record: RunRecord, steps: int) -> None:
    """Every step once, and the record as the folder has it."""
    folder = RunFolder(record.folder)
    history = folder.history()
    assert [row["step"] for row in history] == list(range(1, steps + 1))
    assert sum(len(group["completions"]) for group in read_lines(folder.rollouts)) == 8 * steps
    assert folder.status()["status"] == "succeeded" and (folder.adapter / "adapter_model.safetensors").is_file()
    assert (record.step, record.max_steps, record.metrics["reward"]) == (steps, steps, history[-1]["reward"])
    took = record.ended_at - record.asked_at
    assert sum(row["step_time"] for row in history) / 3600 <= record.hours <= took / 3600


def survive(home: Path, kills: list[str], steps: int, seed: int) -> str:
    """Runs, two of them queued at a time, under these kills; returns what was done and seen."""
    with Siege(home, seed, whole=True) as siege:
        runs: list[RunRecord] = []
        for who in kills:
            is_done = False
            while not is_done:
                while sum(not siege._is_over(run) for run in runs) < 2:
                    runs.append(siege.store.submit(config(steps), "the test"))
                is_done = siege.kill(who)
                siege.resume_failed(runs)
        for run in runs:
            check_whole(siege.ended(run.id, PATIENCE), steps)
        siege.wait_for(lambda: siege.processes() == [], 10)
    assert siege.wrong == []
    assert max(siege.noticed) <= NOTICED_SECONDS
    done = ", ".join(f"{count} {who}" for who, count in siege.counts.items())
    return (
        f"kill -9: {done}; {len(runs)} runs of {len(runs)} ended with every step once, records and folders agree, "
        f"a dead trainer was noticed within {max(siege.noticed):.1f} s, never two at once, no process left"
    )


@pytest.mark.torture
def test_runs_survive_twenty_five_kills(home, figure) -> None:
    kills = ["trainer"] * 10 + ["app"] * 10 + ["both"] * 5
    random.Random(3).shuffle(kills)
    figure(survive(home, kills, steps=25, seed=4))


@pytest.mark.long
@pytest.mark.slow
def test_a_run_survives_three_kills_a_cancel_and_a_resume(home) -> None:
    with Siege(home, seed=1) as siege:
        launcher = LocalLauncher(siege.store)
        run, other = siege.store.submit(config(200), "the test"), siege.store.submit(config(1), "the test")
        for who in ("app", "trainer", "both"):
            assert siege.kill(who)
        siege.wait_for(lambda: siege._trainer() is not None, PATIENCE)
        siege._wait_for_a_step()  # of this start: before it, the newest checkpoint may be of an earlier step
        launcher.cancel(run.id)
        siege.wait_for(lambda: siege.store.get(run.id).status == "cancelled", PATIENCE)
        cancelled, newest = siege.store.get(run.id), RunFolder(run.folder).newest_checkpoint()
        assert newest is not None and step_of(newest) == cancelled.step >= 1 and newest.name in cancelled.reason
        launcher.cancel(other.id)  # it is queued or has just begun
        siege.wait_for(lambda: siege.store.get(other.id).status == "cancelled", 60)
        siege.wait_for(lambda: siege.processes() == [], 10)
    assert siege.wrong == []
    assert siege.counts == {"app": 1, "trainer": 1, "both": 1} and max(siege.noticed) <= NOTICED_SECONDS
