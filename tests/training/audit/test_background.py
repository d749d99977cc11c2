"""The audit behind the page: its progress with the time left, and what is kept of one that ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference.common.errors import UserError
from training.audit import background
from training.audit.background import SetAudits

BEGUN = "reading rows:   0%|          | 0/8000 [00:00<?, ?row/s]"
HALF = f"{BEGUN}\rreading rows:  50%|█████     | 4000/8000 [00:20<00:20, 199.50row/s]"
LONG = f"{HALF}\rreading rows:  60%|██████    | 4800/8000 [10:00<1:05:07,  1.50s/row]"
DONE = f"{HALF}\rreading rows: 100%|██████████| 8000/8000 [00:40<00:00, 199.50row/s]"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "the libraries are being loaded"),
        ("a warning of a library\n", "the libraries are being loaded"),
        (BEGUN, "reading rows: 0 of 8,000"),
        (HALF, "reading rows: 4,000 of 8,000, 0:20 left"),
        (LONG, "reading rows: 4,800 of 8,000, 1:05:07 left"),
        (DONE, "reading rows: 8,000 of 8,000"),
    ],
)
def test_progress_says_what_is_done_and_what_is_left(log: str, words: str, tmp_path: Path) -> None:
    audits = SetAudits(tmp_path)
    audits.name, folder = "bars", tmp_path / "sets" / background.FOLDER
    folder.mkdir(parents=True)
    (folder / "bars.log").write_text(log, encoding="utf-8")
    assert audits.progress == words


def test_an_audit_comes_after_the_app_and_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its priority is below the app's own, whatever that is, and not the lowest, which gets nothing beside a run."""
    popen = background.subprocess.Popen

    def slow(command: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(background.subprocess, "Popen", slow)
    audits = SetAudits(tmp_path)
    audits.start("bars", tmp_path)
    assert audits.is_running and audits.found("bars", tmp_path) is None
    [child] = [one for one in psutil.Process().children() if "time.sleep(60)" in " ".join(one.cmdline())]
    own = psutil.Process().nice()
    assert own < child.nice() < 19 or own >= 14
    with pytest.raises(UserError, match="The set bars is being audited"):
        audits.start("circles", tmp_path)
    audits.forget("bars")
    assert not audits.is_running and audits.found("bars", tmp_path) is None


def test_an_audit_that_fails_says_why(tmp_path: Path) -> None:
    """The real command on a set that is not there."""
    audits, folder = SetAudits(tmp_path), tmp_path / "sets" / "bars"
    audits.start("bars", folder)
    assert audits._process is not None
    audits._process.wait(120)
    found = audits.found("bars", folder)
    assert found is not None and str(folder) in found.error and not found.is_current
