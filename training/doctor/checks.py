"""The table of the doctor's lines, and the examination that looks at each.

    report = examine(Subject(config, settings), "full", before=read_report(base, settings), say=print)

Lines that hold for a key (machine, driver, libraries, code, base) are kept once they pass or warn, and not looked at
again; lines on the surroundings are, and so is whatever failed or was not reached.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from inference.common.errors import UserError, first_line
from inference.engine.fast_paths import NAMES, TITLES
from training.doctor import model_checks, step_check, surroundings
from training.doctor.model_checks import NOT_HERE, FastPathCheck, Finding
from training.doctor.report import Form, Line, Report, harmless, new_report
from training.doctor.subject import Subject
from training.runs.failures import is_out_of_memory

LIMIT_SECONDS = 180.0
"""Time for all lines after the base is loaded; what is not reached is left for the next time."""


@dataclass(frozen=True)
class Check:
    """A line to look at."""

    name: str
    title: str
    look: Callable[[Subject], Finding]
    is_short: bool = True
    """True if it belongs to the short form too."""
    is_kept: bool = False
    """True if its result holds for the key."""
    needs_card: bool = False
    needs: str = ""
    """The line without which this one cannot be looked at."""
    of_settings: bool = False
    """True if it depends on the run's settings."""


CHECKS: tuple[Check, ...] = (
    Check("versions", "Card and versions", surroundings.versions),
    Check("disk", "Disk", surroundings.disk),
    Check("clock", "Clock", surroundings.clock),
    Check("token", "Hub token", surroundings.token),
    Check("licence", "Licence of the base", surroundings.licence),
    Check("data", "Data set", surroundings.data),
    Check("bucket", "Bucket", surroundings.bucket),
    Check("port", "Port of the page", surroundings.port, is_short=False),
    Check("base", "Base", model_checks.base_loads, is_kept=True),
    Check("prompts", "Prompts", model_checks.prompts_agree, is_kept=True, needs="base"),
    Check("tokens", "Greedy tokens", model_checks.tokens_agree, is_kept=True, needs="prompts"),
    Check("attention", "Attention kernels", model_checks.attention_agrees, is_kept=True, needs="base"),
    *(
        Check(name, TITLES[name], FastPathCheck(name), is_kept=True, needs_card=True, needs="tokens")
        for name in ("runs_ahead", "flash_attention", "cuda_graphs")
    ),
    Check("step", "GRPO step", step_check.step, is_short=False, is_kept=True, needs="base", of_settings=True),
    Check("gradient", "Gradient", step_check.gradient, is_short=False, is_kept=True, needs="base", of_settings=True),
)
_OF_NO_RUN = {
    *("profile", "max_steps", "num_epochs", "eval_rows", "eval_conditions", "choose_checkpoint", "max_hours"),
    *("publish_to", "publish_every_minutes", "publish_public", "report_to", "save_steps", "keep_checkpoints"),
}
"""Settings that change neither a step nor its gradient."""


def examine(
    subject: Subject,
    form: Form,
    *,
    before: Report | None = None,
    say: Callable[[Line], object] = lambda line: None,
    dollars_per_hour: float | None = None,
    checks: Sequence[Check] = CHECKS,
) -> Report:
    """Looks at each line of the form, except those that `before` has; `say` gets each line as soon as it is there."""
    began = time.monotonic()
    about = _digest_of_settings(subject)
    kept = {line.name: line for line in before.lines} if before is not None else {}
    subject.proven |= set(before.proven) if before is not None else set()
    lines: dict[str, Line] = {}
    end = float("inf")
    for check in checks:
        old = kept.get(check.name)
        of = about if check.of_settings else ""
        is_done = old is not None and check.is_kept and old.status in ("pass", "warn") and old.about == of
        if form == "short" and not check.is_short:
            if old is not None:
                lines[check.name] = old
            continue
        line = old if is_done and old is not None else _look(check, subject, lines, end, of)
        lines[check.name] = line
        if check.name == "base":
            end = time.monotonic() + LIMIT_SECONDS
        say(line)
    subject.free()
    steps = [*subject.steps, *(before.steps if before is not None else ())]
    return new_report(
        subject.base,
        "full" if form == "full" or before is not None and before.form == "full" else "short",
        list(lines.values()),
        time=time.time(),
        seconds=round(time.monotonic() - began, 2),
        dollars_per_hour=dollars_per_hour,
        proven=tuple(name for name in NAMES if name in subject.proven),
        steps=tuple(steps[:8]),
    )


def _look(check: Check, subject: Subject, lines: dict[str, Line], end: float, about: str) -> Line:
    """One line; whatever it raises becomes its finding."""
    began = time.monotonic()
    finding = _finding(check, subject, lines, end)
    return Line(
        name=check.name,
        title=check.title,
        status=finding.status,
        evidence=harmless(finding.evidence),
        remedy=harmless(finding.remedy),
        seconds=round(time.monotonic() - began, 2),
        about=about,
    )


def _finding(check: Check, subject: Subject, lines: dict[str, Line], end: float) -> Finding:
    if check.needs_card and not torch.cuda.is_available():
        return Finding("skip", f"{NOT_HERE}this machine has no card")
    needed = lines.get(check.needs)
    if needed is not None and needed.status not in ("pass", "warn"):
        return Finding("skip", f"not looked at, because of the line {needed.title!r}")
    if time.monotonic() > end:
        words = f"not reached in {LIMIT_SECONDS:.0f} s"
        return Finding("skip", words, "run it again: what is done is kept")
    try:
        return check.look(subject)
    except UserError as error:
        evidence, _, remedy = str(error).partition(". ")
        if not remedy:
            evidence, _, remedy = str(error).partition("; ")
        return Finding("fail", evidence, remedy or "see docs/training.md")
    except Exception as error:  # an untried machine may raise anything, and the other lines still tell something
        subject.free()
        if is_out_of_memory(error):
            return Finding("fail", "out of memory", "lower micro_batch_size or max_completion_length, or free the card")
        words = f"{type(error).__name__}: {first_line(error)}"
        return Finding("fail", words, "attach this report to a bug report")


def _digest_of_settings(subject: Subject) -> str:
    values = subject.config.model_dump(mode="json", exclude=_OF_NO_RUN)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
