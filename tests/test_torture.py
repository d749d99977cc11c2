"""`make torture` goes on where it was cut: what has passed is left out, and what passes is recorded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests import ROOT

FILE = "tests/inference/prompt/test_system_prompt.py"
TESTS = [f"{FILE}::{name}" for name in ("test_most_adapters_have_none", "test_a_file_is_taken_by_its_content")]


def test_what_has_passed_is_not_run_again(tmp_path: Path) -> None:
    """Two tests after one of them has passed, and once more after both have."""
    record = tmp_path / "passed"
    record.write_text(f"0.1\t{TESTS[0]}\n")
    env = os.environ | {"LOOKTHINK_TORTURE": "1", "LOOKTHINK_TORTURE_RECORD": str(tmp_path)}
    again = f"pytest.main({['-q', '-p', 'no:cacheprovider', *TESTS]!r})"
    command = [sys.executable, "-c", f"import pytest; print([{again}, {again}])"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("1 passed, 1 deselected") == done.stdout.count("2 deselected") == 1, done.stdout
    assert done.stdout.endswith("[<ExitCode.OK: 0>, <ExitCode.OK: 0>]\n"), done.stdout
    assert [line.split("\t")[1] for line in record.read_text().splitlines()] == TESTS


def test_every_line_of_the_promises_names_what_shows_it() -> None:
    """A row of the table in docs/reliability.md has a promise, tests that there are, a figure and a command."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0] == ["promise", "test", "figure", "command"]
    for promise, test, figure, command in rows[2:]:
        assert promise and figure and command.startswith("`") and command.endswith("`"), promise
        names = re.findall("`([^`]+)`", test)
        assert names, promise
        for file, _, name in (each.partition("::") for each in names):
            assert (ROOT / file).is_file(), test
            assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test
