"""The doctor as a process of its own: started by the page, by a Job before its trainer, and at a Space's first start.

    examination = Examination(settings)
    examination.start(config)                  # returns at once; raises `UserError` while one is under way
    examination.output, examination.report

A process of its own, since a driver that fails may take its process along, and the model's memory ends with it.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil

from inference.common.environment import hide_secrets, publisher_environment
from inference.common.errors import UserError
from inference.common.files import write_whole
from inference.common.settings import REPORTS, Settings, base_source
from inference.server.visitors import is_on_space, is_on_zero_gpu
from training.config.run_config import RunConfig, load_config
from training.doctor.report import Report, read_report
from training.runs.estimate.memory import GB, bytes_per_number, card_here, free_bytes_here
from training.runs.estimate.shapes import sizes_of
from training.runs.store import RunStore

_ROOT = Path(__file__).parents[2]
if TYPE_CHECKING:
    from inference.engine.engine import Engine

OUTPUT, ASKED = "doctor.log", "asked.json"
LINES = re.compile(r"\s*(?:(?:pass|warn|fail|skip|->) |error\b)")
"""Beginnings of the lines of output that are shown; libraries write others."""
QUIET_SECONDS = 60.0
"""Time without a question, after the model is loaded, before a new Space is looked at."""
NICENESS = 19
_MEMORY_FACTOR = 2.5
"""Free memory that a second copy of the model and its engine need, in sizes of the model."""
log = logging.getLogger(__name__)


def command(config: Path, *, short: bool) -> list[str]:
    """The command that looks at a run whose configuration is in a file."""
    return [sys.executable, "-m", "training", "doctor", "--config", str(config), *(["--short"] if short else [])]


def look_before(config: Path, env: Mapping[str, str], is_stopped: Callable[[], bool]) -> None:
    """Runs the short form and prints its lines, for a Job whose trainer starts next.

    `is_stopped` ends it early. What it finds does not keep the trainer from starting: that refuses by itself.
    """
    process = subprocess.Popen(command(config, short=True), cwd=_ROOT, env=dict(env), stdin=subprocess.DEVNULL)
    while process.poll() is None:
        if is_stopped():
            process.kill()
        time.sleep(0.2)


class Examination:
    """The doctor of one home, one at a time. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._folder = settings.home / REPORTS
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """True while it looks."""
        return self._process is not None and self._process.poll() is None

    def start(self, config: RunConfig, *, short: bool = False, nice: bool = False) -> None:
        """Starts it for a run. Raises `UserError` while one is under way, or for a disk that cannot be written."""
        with self._lock:
            if self.is_running:
                raise UserError("this machine is being looked at already; wait for its lines")
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_whole(self._folder / ASKED, config.model_dump_json())
                with (self._folder / OUTPUT).open("wb") as output:
                    process = subprocess.Popen(
                        command(self._folder / ASKED, short=short),
                        cwd=_ROOT,
                        env=publisher_environment(os.environ) | {"LOOKTHINK_HOME": str(self._settings.home)},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
            except OSError as error:
                raise UserError(f"the doctor cannot be started ({error.strerror}); check {self._folder}") from error
            self._process = process
        if nice:
            psutil.Process(process.pid).nice(NICENESS)

    def wait(self, seconds: float) -> bool:
        """Waits until it has ended; True if it has."""
        try:
            if self._process is not None:
                self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Ends it at once; the lines of that look are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def output(self) -> list[str]:
        """The lines that it has printed so far."""
        try:
            text = (self._folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in hide_secrets(text).splitlines() if LINES.match(line)]

    def report(self, config: RunConfig) -> Report | None:
        """The newest report for a run's base."""
        return read_report(base_source(config.base), self._settings)


class _Queue(Protocol):
    """The part of `inference.server.queue.RequestQueue` that is used here."""

    engine: Engine | None

    @property
    def is_answering(self) -> bool: ...
    @property
    def num_waiting(self) -> int: ...


class FirstLook:
    """Starts the short form once on a Space that has no report yet: after the model is loaded, when nobody asks.

    The page is up and answers by then; what is proven is used from the next start on.
    """

    def __init__(self, settings: Settings, queue: _Queue, store: RunStore, examination: Examination) -> None:
        self._settings, self._queue, self._store, self._examination = settings, queue, store, examination
        self._is_done = not is_on_space() or is_on_zero_gpu()
        self._config: RunConfig | None = None
        """The run that it was started for."""
        self._quiet_since: float | None = None

    def look(self) -> None:
        """Called every few seconds by the app's watcher."""
        if self._is_done:
            return
        if self._config is not None:
            self._end(self._config)
            return
        is_training = self._store.exists() and self._store.active() is not None
        is_asked = self._queue.engine is None or self._queue.is_answering or self._queue.num_waiting > 0
        if is_asked or is_training or self._examination.is_running:
            self._quiet_since = None
            return
        now = time.monotonic()
        self._quiet_since = self._quiet_since if self._quiet_since is not None else now
        if now - self._quiet_since >= QUIET_SECONDS:
            self._begin()

    def _begin(self) -> None:
        config = load_config(deployment=self._settings)
        if base_source(config.base) != self._settings.base:  # a Space without a card, for a base that needs one
            config = load_config("starter")
        if self._examination.report(config) is not None:
            self._is_done = True
            return
        if (words := _no_room(config)) is not None:
            self._is_done = True
            log.info("the doctor does not look at this machine: %s", words)
            return
        self._examination.start(config, short=True, nice=True)
        self._config = config

    def _end(self, config: RunConfig) -> None:
        if self._examination.is_running:
            return
        self._is_done = True
        report = self._examination.report(config)
        log.info("the doctor has looked at this machine: %s", report.summary if report else "it left no report")


def _no_room(config: RunConfig) -> str | None:
    """A sentence where a second copy of the model does not fit beside the one that answers."""
    width = bytes_per_number(config, card_here() is not None)
    need = _MEMORY_FACTOR * sizes_of(config.base, config.base_revision).parameters * width
    free = free_bytes_here()
    if need <= free:
        return None
    return f"{free / GB:.1f} GB are free beside the model that answers, and it needs about {need / GB:.1f}"
