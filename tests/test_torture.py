"""`make torture` goes on where it was cut: what has passed is left out, and what passes is recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import ROOT

FILE = "tests/inference/prompt/test_system_prompt.py"
TESTS = [f"{FILE}::{name}" for name in ("test_most_adapters_have_none", "test_a_file_is_taken_by_its_content")]


def begin(record: Path, passed: list[str]) -> subprocess.Popen[str]:
    """Both tests, as `make torture` runs them, after these have passed."""
    record.mkdir()
    (record / "passed").write_text("".join(f"0.1\t{test}\n" for test in passed))
    env = os.environ | {"LOOKTHINK_TORTURE": "1", "LOOKTHINK_TORTURE_RECORD": str(record)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_what_has_passed_is_not_run_again(tmp_path: Path) -> None:
    cut, done = begin(tmp_path / "cut", TESTS[:1]), begin(tmp_path / "done", TESTS)
    said = [process.communicate(timeout=120)[0] for process in (cut, done)]
    assert [cut.returncode, done.returncode] == [0, 0], said
    assert "1 passed, 1 deselected" in said[0] and "2 deselected" in said[1] and "passed" not in said[1]
    for name in ("cut", "done"):
        lines = (tmp_path / name / "passed").read_text().splitlines()
        assert [line.split("\t")[1] for line in lines] == TESTS


def test_every_line_of_the_promises_names_what_shows_it() -> None:
    """A row of the table in docs/reliability.md has a promise, a test there is, a figure and a command."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0] == ["promise", "test", "figure", "command"]
    for promise, test, figure, command in rows[2:]:
        assert promise and figure and command.startswith("`") and command.endswith("`"), promise
        file, _, name = test.strip("`").partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test
        assert (ROOT / file).is_file(), test
