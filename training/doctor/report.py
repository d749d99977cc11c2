"""The doctor's report: a line for each thing that was looked at, kept by machine, versions, code and base.

    report = read_report(base, settings)
    keep_report(report, settings)        # in the home, and in the bucket where one is mounted

It has no token and no path of a home, so that it can be attached to a bug report.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from inference.common.environment import hide_secrets
from inference.common.files import Json, write_whole
from inference.common.settings import Settings, report_folders
from inference.common.validation import Strict
from inference.engine.fast_paths import MachineKey, base_name, machine_key, read_proof
from training.hub.backup.copies import write_stream
from training.hub.space.prices import dollars

Status = Literal["pass", "warn", "fail", "skip"]
Form = Literal["short", "full"]
log = logging.getLogger(__name__)


class Line(Strict):
    """One thing that was looked at."""

    name: str
    title: str
    status: Status
    evidence: str
    """The figures that were found, or the reason why it was not looked at."""
    remedy: str = ""
    """The thing to do; empty if there is nothing."""
    seconds: float = 0.0
    about: str = ""
    """A digest of the run's settings, for a line that depends on them."""

    @property
    def words(self) -> str:
        """The line as text, with its remedy below it."""
        remedy = f"\n{'':6}{'':20}-> {self.remedy}" if self.remedy else ""
        return f"{self.status:6}{self.title + ':':32} {self.evidence}{remedy}"


class Report(Strict):
    """The lines of one machine, with one base."""

    version: Literal[1] = 1
    key: MachineKey
    base: str
    """As `inference.engine.fast_paths.base_name` gives it."""
    form: Form
    time: float
    """Seconds since 1970, of the newest look."""
    seconds: float
    """Of the newest look; lines that were kept from earlier ones took none."""
    dollars_per_hour: float | None = None
    lines: tuple[Line, ...] = ()
    proven: tuple[str, ...] = ()
    """Names of `FastPaths` that were seen right, and faster, here."""
    steps: tuple[Json, ...] = Field((), description="as `training.runs.estimate.measured` reads them")

    @property
    def is_good(self) -> bool:
        """True if no line fails."""
        return not any(line.status == "fail" for line in self.lines)

    @property
    def cost(self) -> str:
        """The time and the price of the newest look."""
        took = f"{self.seconds:.0f} s"
        if self.dollars_per_hour is None:
            return f"{took}; the price of this machine is not known (--dollars-per-hour)"
        price = self.seconds / 3600 * self.dollars_per_hour
        return f"{took}, {dollars(round(price, 4))} at {dollars(self.dollars_per_hour)} an hour"

    @property
    def summary(self) -> str:
        """The number of lines by their status."""
        counts = {status: sum(line.status == status for line in self.lines) for status in ("pass", "warn", "fail")}
        skipped = sum(line.status == "skip" for line in self.lines)
        words = ", ".join(f"{num} {status}" for status, num in counts.items())
        return f"{words}, {skipped} not looked at"


def read_report(base: str, settings: Settings, key: MachineKey | None = None) -> Report | None:
    """The newest report on a base, by default of this machine; `None` if there is none that can be read."""
    found = read_proof(base, key or machine_key(), report_folders(settings))
    try:
        return Report.model_validate(found) if found is not None else None
    except ValidationError:  # damaged, or of another version
        return None


def keep_report(report: Report, settings: Settings) -> list[Path]:
    """Writes the report to the home and the bucket; returns the files. A folder that refuses is logged."""
    content, kept = report.model_dump_json(indent=1) + "\n", []
    for folder in report_folders(settings):
        path = folder / report.key.file_name(report.base)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.parent == settings.state:  # a bucket's mount knows no renaming
                write_stream(path, [content.encode()])
            else:
                write_whole(path, content)
            kept.append(path)
        except OSError as error:
            log.warning("the doctor's report cannot be written to %s (%s)", folder, error.strerror)
    return kept


def new_report(base: str, form: Form, lines: Sequence[Line], **values: object) -> Report:
    """A report of this machine."""
    return Report.model_validate(
        {"key": machine_key(), "base": base_name(base), "form": form, "lines": tuple(lines)} | values
    )


def harmless(text: str) -> str:
    """A text without secrets and without the path of the user's home."""
    return hide_secrets(text).replace(os.path.expanduser("~"), "~")
