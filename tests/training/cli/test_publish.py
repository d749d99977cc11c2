"""The command: which run, where to, what it prints, and its exit status."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory

from inference.common.hub_names import branch_of, repository_problem, tag_of
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from tests.support.run_folders import begun_run, finished_run
from training.__main__ import main


@pytest.fixture
def online(hub: Hub, hub_client: Client) -> Iterator[Hub]:
    """A Hub on which Ann is logged in."""
    hub.tokens["hf_ann_token"] = "ann"
    hub_client.log_in("hf_ann_token")
    yield hub
    huggingface_hub.set_client_factory(default_client_factory)


def test_by_id_and_by_folder(online: Hub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(home / "runs" / "night")
    assert main(["publish", "night", "--to", "ann/tuned", "--public"]) == 0
    assert "published: ann/tuned@night" in capsys.readouterr().out
    assert main(["publish", str(run.path), "--to", "ann/tuned"]) == 0
    repo = online.repos["model", "ann/tuned"]
    assert not repo.private and len(repo.commits) == 2
    said = capsys.readouterr().out
    assert "published: ann/tuned@night" in said and "was there before and is public" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", "--to", "ann/tuned"), "there is no run 'nothing'"),
        (("night",), "give --to owner/name"),
        (("night", "--to", "tuned"), "give a repository of the Hub as owner/name"),
        (("night", "--to", "ann/../tuned"), "give a repository of the Hub as owner/name"),
        (("begun", "--to", "ann/tuned"), "has no checkpoint yet"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: tuple[str, ...], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(home / "runs" / "night")
    begun_run(home / "runs" / "begun")
    assert main(["publish", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("me/adapter", True),
        ("my-org/a.b_c-3B", True),
        ("a/b/c", False),
        ("me/", False),
        ("-me/a", False),
        ("me/a--b", False),
        ("me/a.git", False),
        ("me/" + "a" * 96, False),
        ("me/a b", False),
    ],
)
def test_names_are_the_hubs(name: str, is_good: bool) -> None:
    """Whatever we let pass, its client lets pass too."""
    assert (repository_problem("publish_to", name) is None) == is_good
    if is_good:
        huggingface_hub.utils.validate_repo_id(name)


@pytest.mark.parametrize("run", ["night", "my run/../x", "ünïcode", "main", "a" * 300, "..", "x.lock", "deadbeef"])
def test_tags_and_branches_are_names_git_takes(run: str) -> None:
    for name in (tag_of(run), branch_of(run)):
        assert name.isascii() and not set(name) & set(" ~^:?*[\\/") and ".." not in name and not name.endswith(".lock")
        assert name not in ("main", "HEAD") and not name.startswith("-")
    assert tag_of(run) != branch_of(run) or tag_of(run).startswith("run-")
