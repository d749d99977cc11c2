"""The process that grades or samples for the page: `python -m training rewards FOLDER …`, one at a time in a home.

    process = LabProcess(home)
    process.start(folder, other)        # fills the `GradeStore` with what `other` needs
    process.progress, process.error, process.notes

A process of its own, since a reward function may be anybody's, and can then be stopped.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from inference.common.errors import UserError
from inference.common.files import Json, write_json
from training.config.run_config import RunConfig
from training.runs.processes import log_tail, progress_words, start_command

FOLDER = ".rewards"
"""Of what the process is asked and says, in the home."""


class LabProcess:
    """The process that grades or samples, one at a time in a home. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self._home, self._lock = home, threading.Lock()
        self._log, self._asked_path = home / FOLDER / "rewards.log", home / FOLDER / "asked.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self.folder: Path | None = None
        """The folder whose rollouts it worked on last."""
        self.asked: RunConfig | None = None
        """The settings that it graded by last; `None` for a sample."""

    @property
    def is_running(self) -> bool:
        """True while it works."""
        return self._process is not None and self._process.poll() is None

    def start(self, folder: Path, other: RunConfig) -> None:
        """Starts to grade; returns at once. Raises `UserError` while it works already."""
        values: Json = {"rewards": other.rewards, "max_completion_length": other.max_completion_length}
        values["data"] = {"tolerance": other.data.tolerance}
        self._start(folder, ["--config", str(self._asked_path)], values, other)

    def start_sample(self, folder: Path, dataset: str, num_problems: int) -> None:
        """Starts to sample a dataset into a new folder (`training.learn.fresh_sample`); otherwise as `start`."""
        self._start(folder, ["--sample", str(num_problems), f"--dataset={dataset}"], {})

    def _start(self, folder: Path, options: Sequence[str], values: Json, asked: RunConfig | None = None) -> None:
        with self._lock:
            if self.is_running:
                raise UserError("Rollouts are being graded or sampled already; wait for the end, or press Stop.")
            try:
                self._asked_path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._asked_path, values)
                command = ["rewards", str(folder), *options]
                self._process, self.folder = start_command(command, self._home, self._log), folder
                self.asked, self._is_stopped = asked, False
            except OSError as error:
                raise UserError(f"It cannot be started ({error.strerror}); check {self._asked_path.parent}") from error

    def stop(self) -> None:
        """Ends it and its children at once; the grades of the steps that it has finished are kept."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            self._is_stopped = True
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
            process.kill()
            process.wait()

    @property
    def progress(self) -> str:
        """Its work in words, as in `grading: 400 of 9,600, 0:05 left`."""
        return progress_words(log_tail(self._log))

    @property
    def error(self) -> str:
        """The reason why the last one broke off, in words; "" if it did not, or was stopped."""
        process = self._process
        if process is None or self._is_stopped or not process.poll():
            return ""
        if process.returncode == -signal.SIGKILL:
            return "It was killed from outside, as where the machine's memory runs out. Free some, and start it again."
        return (self._said("error: ") or ["It broke off without a word. Start it again."])[-1]

    @property
    def has_ended(self) -> bool:
        """True if the last one has come to its end by itself."""
        return self._process is not None and not self._is_stopped and self._process.poll() is not None

    @property
    def notes(self) -> list[str]:
        """The words of the last one about what it left out."""
        return [] if self._process is None or self.is_running else list(dict.fromkeys(self._said("note: ")))

    def _said(self, start: str) -> list[str]:
        lines = log_tail(self._log).splitlines()
        return [line.removeprefix(start) for line in lines if line.startswith(start)]
