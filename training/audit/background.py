"""The audit of a set as a process of its own, started by the page: its memory ends with it, and the page goes on.

audits = SetAudits(settings.home)
audits.start("bars", folder)          # returns at once; raises `UserError` while one is under way
audits.progress, audits.found("bars", folder)
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.files import read_json
from training.runs.processes import log_tail, progress_words, start_command

FOLDER = ".audits"
MAX_REPORT_BYTES = 50_000_000


@dataclass(frozen=True)
class FoundAudit:
    """The last audit of a set."""

    findings: Sequence[str]
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    """Title, headings and cells of each."""
    is_current: bool
    """False if the set has changed since."""
    error: str = ""
    """The reason why there is none, in words."""


class SetAudits:
    """The audits of one home's sets, one at a time. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self._folder, self._home = home / "sets" / FOLDER, home
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.name = ""
        """The set of the audit that was started last."""

    @property
    def is_running(self) -> bool:
        """True while one is under way."""
        return self._process is not None and self._process.poll() is None

    def start(self, name: str, folder: Path) -> None:
        """Starts the audit of a set. Raises `UserError` while one is under way."""
        with self._lock:
            if self.is_running:
                raise UserError(f"The set {self.name} is being audited; wait for its end.")
            output = self._folder / f"{name}.json"
            command = ["audit", "--dataset", str(folder), "--output", str(output)]
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                output.unlink(missing_ok=True)
                self._process, self.name = start_command(command, self._home, self._log(name)), name
            except OSError as error:
                raise UserError(f"The audit cannot be started ({error.strerror}); check {self._folder}") from error

    @property
    def progress(self) -> str:
        """The work of the audit that is under way, as in `reading rows: 40 of 100, 0:05 left`."""
        return progress_words(self._tail(self.name))

    def found(self, name: str, folder: Path) -> FoundAudit | None:
        """The last audit of a set; `None` if there was none, or while it is under way."""
        if self.is_running and self.name == name:
            return None
        path = self._folder / f"{name}.json"
        report: dict[str, Any] | None = read_json(path, MAX_REPORT_BYTES)
        if report is None:
            lines = [line for line in self._tail(name).splitlines() if line.startswith("error: ")]
            if lines or self._log(name).exists():
                why = lines[-1].removeprefix("error: ") if lines else "The audit broke off. Start it again."
                return FoundAudit([], [], self._is_current(self._log(name), folder), why)
            return None
        tables = [(one["title"], one["headings"], one["cells"]) for one in report["tables"]]
        return FoundAudit(report["findings"], tables, self._is_current(path, folder))

    def forget(self, name: str) -> None:
        """Deletes what is kept of a set's audit, and ends one that is under way."""
        if self.is_running and self.name == name and self._process is not None:
            self._process.kill()
            self._process.wait()
        for path in (self._folder / f"{name}.json", self._log(name)):
            path.unlink(missing_ok=True)

    def _is_current(self, path: Path, folder: Path) -> bool:
        """True if the rows of a set are older than what is kept of its audit."""
        rows = folder / "metadata.jsonl"
        return rows.exists() and rows.stat().st_mtime_ns <= path.stat().st_mtime_ns

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _tail(self, name: str) -> str:
        return log_tail(self._log(name))
