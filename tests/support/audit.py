"""`make audit`: asks pip-audit whether a release in constraints.txt has a known weakness; says what it could not ask.

Status 0: all were looked up and none is known; 1: some are; 2: for some, or for all, the data could not be had.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import ROOT


def main(arguments: list[str]) -> int:
    """`arguments` go to pip-audit, such as `--vulnerability-service osv`."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "constraints.txt"), *arguments]
        command += ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", f"--output={found}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not found.exists():
            reason = (done.stderr.strip().splitlines() or [f"pip-audit ended with status {done.returncode}"])[-1]
            print(f"Nothing was audited, as the data cannot be had from here: {reason}")
            return 2
        status, words = judged(json.loads(found.read_text("utf-8"))["dependencies"])
    print(words)
    return status


def judged(dependencies: list[dict[str, Any]]) -> tuple[int, str]:
    """The status and the words for what pip-audit found of each release."""
    known, skipped = [], []
    for one in dependencies:
        if "skip_reason" in one:
            skipped.append(one["name"])
        for weakness in one.get("vulns", ()):
            mended = ", ".join(weakness["fix_versions"]) or "no release yet"
            known.append(f"{one['name']} {one['version']}: {weakness['id']}, mended in {mended}")
    num_asked = len(dependencies) - len(skipped)
    words = [*known, f"{num_asked} of {len(dependencies)} releases were looked up; known weaknesses: {len(known)}."]
    if skipped:
        shown = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
        words.append(f"For {len(skipped)} the data cannot be had from here, so nothing is known of them: {shown}")
    return 1 if known else 2 if skipped or not dependencies else 0, "\n".join(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
