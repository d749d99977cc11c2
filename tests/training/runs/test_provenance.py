"""The versions of a start, those of the code included, and what has changed since the last one."""

import subprocess
from pathlib import Path

from training.runs.provenance import LIBRARIES, changed_versions, code_version, versions_here


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_code_is_known_by_its_commit(tmp_path: Path) -> None:
    unknown = {"code_commit": None, "code_dirty": None}
    assert code_version(tmp_path) == unknown
    git(tmp_path, "init", "-q")
    assert code_version(tmp_path) == unknown, "it has no commit yet"
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("a run's output")
    assert code_version(tmp_path) == {"code_commit": commit, "code_dirty": False}
    (tmp_path / "a.py").write_text("2")
    assert code_version(tmp_path) == {"code_commit": commit, "code_dirty": True}
    (tmp_path / "within").mkdir()
    assert code_version(tmp_path / "within") == unknown, "another project's repository is not this code's"


def test_every_library_is_there() -> None:
    found = versions_here()
    assert all(found[name] for name in LIBRARIES) and found["python"].count(".") == 2
    assert {"torch", "torchvision", "tokenizers", "safetensors", "huggingface-hub", "pillow", "numpy"} <= found.keys()
    assert changed_versions(found, found) == ""


def test_what_has_changed_is_said() -> None:
    before = {"time": 1.0, "step": 0, "torch": "2.15.0", "code_commit": "abc", "code_dirty": False}
    now = {"time": 2.0, "step": 9, "torch": "2.16.0", "code_commit": "abc", "code_dirty": True, "numpy": "2.4.6"}
    assert changed_versions(before, now) == "torch 2.15.0 before, 2.16.0 now; code dirty False before, True now"
