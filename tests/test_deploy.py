"""Deploying against a Hub, with its real client: from nothing, again, after a change, and through every fault."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import training.__main__
from inference.errors import UserError
from tests.checkouts import commit, git_checkout
from tests.hub_client import Client
from tests.hub_faults import KINDS, Fault
from tests.hub_repos import Hub
from tests.hub_spaces import Space, space_of
from training import deploy
from training.space import front_matter
from training.space.checkout import ROOT

NAME, BUCKET = "me/look", "me/look-state"
TOKEN = "hf_abcdefghijkl"
TORTURE = bool(os.environ.get("LOOKTHINK_TORTURE"))
SETTINGS = [
    "POST /api/buckets/me/look-state",
    "POST /api/repos/create",
    "POST /api/spaces/me/look/preupload/main",
    "POST /api/spaces/me/look/commit/main",
]
"""The routes by which a new Space is made."""


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


def test_twice_and_after_a_change(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    dry = run("--dry-run")
    assert "create the public Space me/look" in dry and "$2.50 an hour while it is awake" in dry
    assert writes(hub) == [] and not hub.repos

    said = run("--yes")
    check_whole(hub, folder)
    assert "3/3 one commit: " in said and "Done. " in said and said.startswith(dry.splitlines()[0])
    repo = hub.repos["space", NAME]
    assert list(repo.messages.values())[-1].startswith("LookThink ")

    done, commits = len(writes(hub)), len(repo.commits)
    assert "Nothing to do" in run("--yes") and len(writes(hub)) == done

    (folder / "app.py").write_text("print('there')\n")
    (folder / "starter" / "w.safetensors").unlink()
    (folder / "new.py").write_text("")
    commit(folder)
    state(hub).variables["MINE"] = "1"
    said = run("--yes")
    assert "1/1 one commit: new.py added, app.py replaced, starter/w.safetensors deleted" in said
    assert len(repo.commits) == commits + 1 and state(hub).variables.pop("MINE") == "1"
    check_whole(hub, folder)


def test_what_was_changed_by_hand_is_set_again(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    run("--yes")
    space = state(hub)
    hub.more["buckets"]["me/data"] = {"private": False}
    space.hardware, space.sleep_seconds, space.secrets = "t4-small", -1, {}
    space.volumes, space.variables["LOOKTHINK_STATE"] = (
        [{"type": "bucket", "source": "me/data", "mountPath": "/d"}],
        "x",
    )
    said = run("--yes")
    assert [line.split(" …")[0] for line in said.splitlines() if line[1:3] == "/4"] == [
        "1/4 mount the bucket me/look-state at /state",
        "2/4 set the variable LOOKTHINK_STATE to /state",
        "3/4 set the secret HF_TOKEN",
        "4/4 move from t4-small to a100-large, asleep after 30 minutes without a visitor",
    ]
    assert space.volumes.pop()["source"] == "me/data"
    check_whole(hub, folder)
    space.sleep_seconds = None
    assert "1/1 set its sleep time" in run("--yes")
    check_whole(hub, folder)


def test_the_space_has_a_token_of_its_own_where_one_is_given(
    hub: Hub, folder: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--yes")
    monkeypatch.setenv(deploy.SPACE_TOKEN, "hf_of_the_space")
    assert "Nothing to do" in run("--yes") and state(hub).secrets == {"HF_TOKEN": TOKEN}
    assert "renew the secret" in run("--yes", "--renew-token")
    assert state(hub).secrets == {"HF_TOKEN": "hf_of_the_space"}
    monkeypatch.setenv(deploy.SPACE_TOKEN, "hf_unknown")
    assert "LOOKTHINK_SPACE_TOKEN could not be tried: the Hub does not accept" in run("--renew-token", status=2)


def test_nothing_happens_unasked(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    assert "Add --yes" in run(status=2)
    args = training.deploy.argparse.Namespace(space=NAME, dry_run=False, yes=False, private=True, renew_token=False)
    with pytest.raises(UserError, match="Nothing was done"):
        deploy.main(args, ask=lambda question: "no")
    assert writes(hub) == []
    assert deploy.main(args, ask=lambda question: "y") == 0
    assert hub.repos["space", NAME].private


def test_what_cannot_be_deployed_is_said(
    hub: Hub, folder: Path, me: Client, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "write OWNER/NAME" in run(name="look", status=2)
    hub.repo("space", "me/other").commit({"app.py": b"1", "README.md": b""})
    assert "a Space of something else" in run("--yes", name="me/other", status=2)
    assert "no right to create" in run("--yes", name="them/look", status=2)
    hub.more["cannot_pay"] = {"me"}
    assert "payment method" in run("--yes", status=2)
    (folder / "space.yaml").write_text("model:\n  base: a/b\n")
    assert "Run make space" in run(status=2)
    monkeypatch.delenv("HF_TOKEN")
    front_matter.main(folder)
    assert "no token of the Hub here" in run("--dry-run", status=2)
    me.log_in(TOKEN)
    hub.more["token_roles"] = {"me": "read"}
    assert "may only read" in run("--dry-run", status=2)
    me.log_in("hf_wrong")
    assert "does not accept the token" in run("--dry-run", status=2)
    assert ("space", NAME) not in hub.repos


def test_no_hub_no_change(hub: Hub, folder: Path, me: Client, run: Callable[..., str]) -> None:
    hub.failure = 503
    assert "out of order (status 503)" in run("--yes", status=2)
    hub.failure = None
    me.go_offline()
    assert "HF_HUB_OFFLINE" in run("--yes", status=2)


def test_another_hand_is_faster(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    run("--yes")
    (folder / "app.py").write_text("print('mine')\n")
    hub.faults.append(Fault("412", "POST .*/commit/main"))
    assert "changed by another hand" in run("--yes", status=2)
    run("--yes")
    check_whole(hub, folder)


FAULTS = [(kind, where) for where in SETTINGS for kind in KINDS if kind not in ("412", "slow")]
SAMPLE = [("refused", SETTINGS[0]), ("lost", SETTINGS[1]), ("503", SETTINGS[2]), ("lost", SETTINGS[3])]


@pytest.mark.parametrize(("kind", "where"), FAULTS if TORTURE else SAMPLE)
def test_after_a_fault_the_same_command_does_the_rest(
    hub: Hub, folder: Path, run: Callable[..., str], kind: str, where: str
) -> None:
    hub.faults.append(Fault(kind, where))
    status = training.__main__.main(["deploy", NAME, "--yes"])
    assert status in (0, 2)
    hub.faults.clear()
    run("--yes")
    check_whole(hub, folder)
    repo = hub.repos["space", NAME]
    assert sum(message.startswith("LookThink ") for message in repo.messages.values()) == 1
    assert "Nothing to do" in run("--yes")


def test_this_very_checkout(hub: Hub, me: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    tree = hub.repos["space", NAME].commits[hub.repos["space", NAME].refs["main"]]
    assert {"app.py", "space.yaml", "requirements.txt", "inference/starter/model.safetensors"} <= set(tree)
    assert tree["README.md"].startswith(b"---\ntitle: ")
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
