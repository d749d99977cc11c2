"""What a Space is made of: the files that git tracks, as they stand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.support.checkouts import git, git_checkout
from training.hub.space.plan import Checkout, digest, read_checkout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small repository with one commit."""
    return git_checkout(tmp_path / "clone", {"a.txt": b"one", "sub/ä b.txt": b"two", ".gitignore": b"out/\n"})


def test_tracked_files_as_they_stand(folder: Path) -> None:
    (folder / "untracked.txt").write_text("x")
    (folder / "out").mkdir()
    (folder / "out" / "secret.env").write_text("HF_TOKEN=x")
    (folder / "a.txt").write_bytes(b"changed")
    checkout = read_checkout(folder)
    head = subprocess.check_output(["git", "-C", str(folder), "rev-parse", "HEAD"], text=True).strip()
    assert checkout == Checkout(folder, (".gitignore", "a.txt", "sub/ä b.txt"), head[:12], ("a.txt",))
    assert checkout.path("sub/ä b.txt").read_bytes() == b"two"


def test_the_digests_are_those_of_git_and_of_the_hub(folder: Path) -> None:
    git = subprocess.check_output(["git", "-C", str(folder), "hash-object", "a.txt"], text=True).strip()
    assert digest(b"one").blob_id == git
    assert digest(b"").sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_cannot_be_deployed_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").unlink()
    with pytest.raises(UserError, match="a.txt is tracked by git, but"):
        read_checkout(folder)
    (folder / "a.txt").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="a.txt is tracked by git, but"):
        read_checkout(folder)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="not a git repository"):
        read_checkout(tmp_path / "bare")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not installed"):
        read_checkout(folder)


def test_git_is_told_no_secret_and_no_other_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository can have git run a program of its own while it lists files."""
    made = git_checkout(tmp_path / "clone", {"a.txt": b"a"})
    told = tmp_path / "told"
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\nenv > {told}\n")
    spy.chmod(0o755)
    git(made, "config", "core.fsmonitor", str(spy))
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert read_checkout(made).files == ("a.txt",)
    assert told.is_file() and "hf_abcdefghijkl" not in told.read_text()
