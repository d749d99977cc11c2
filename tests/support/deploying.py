"""Deploying as it is typed, against a test Hub: a small LookThink in git, a login, and how the Space must be then."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import training.__main__
from tests.support.checkouts import git_checkout
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from tests.support.hub.spaces import Space, space_of
from training.cli import deploy
from training.hub.space.plan import ROOT

__all__ = ["BUCKET", "NAME", "TOKEN", "check_whole", "documented", "folder", "me", "run", "state", "writes"]

NAME, BUCKET = "me/look", "me/look-state"
TOKEN = "hf_abcdefghijkl"


def documented(title: str) -> tuple[list[list[str]], str]:
    """A section of docs/deploying.md: the words of its commands of `python -m training`, and its text."""
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"`python -m training ([^`]+)`", section)
    assert found
    return [words.split() for words in found], section


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small LookThink in git, which is what is deployed."""
    files = {name: (ROOT / name).read_bytes() for name in ("README.md", "space.yaml", "requirements.txt")}
    files |= {"app.py": b"print('hello')\n", "starter/w.safetensors": b"weights" * 1000}
    made = git_checkout(tmp_path / "clone", files)
    monkeypatch.setattr(deploy, "ROOT", made)
    return made


@pytest.fixture
def me(hub: Hub, hub_client: Client) -> Client:
    """Logged in as `me`."""
    hub.tokens |= {TOKEN: "me", "hf_of_the_space": "me"}
    hub_client.log_in(TOKEN)
    return hub_client


@pytest.fixture
def run(folder: Path, me: Client, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command as typed; gives what it printed."""

    def deploy_it(*options: str, status: int = 0, name: str = NAME) -> str:
        assert training.__main__.main(["deploy", name, *options]) == status
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err and "hf_of_the_space" not in said.out + said.err
        return said.out + said.err

    return deploy_it


def state(hub: Hub) -> Space:
    return space_of(hub, NAME)


def writes(hub: Hub) -> list[tuple[str, str]]:
    """What was asked of the Hub that changes something."""
    return [(m, p) for m, p in hub.requests if m in ("POST", "PUT", "DELETE") and "/validate-yaml" not in p]


def check_whole(hub: Hub, folder: Path) -> None:
    """The Space is what space.yaml and the checkout say."""
    repo = hub.repos["space", NAME]
    tree = {name: data for name, data in repo.commits[repo.refs["main"]].items() if name != ".gitattributes"}
    assert tree == {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    space = state(hub)
    assert (space.hardware, space.sleep_seconds) == ("a100-large", 1800)
    assert space.variables == {"LOOKTHINK_STATE": "/state", "LOOKTHINK_BUCKET": BUCKET}
    assert space.secrets == {"HF_TOKEN": TOKEN}
    assert [(v["type"], v["source"], v["mountPath"]) for v in space.volumes] == [("bucket", BUCKET, "/state")]
    assert hub.more["buckets"][BUCKET] == {"private": True}
