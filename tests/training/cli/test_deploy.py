"""Deploying against a Hub, with its real client: from nothing, again, after a change, and what is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import training.__main__
from inference.common.errors import UserError
from tests.support.checkouts import commit
from tests.support.deploying import *  # noqa: F403
from tests.support.deploying import BUCKET, NAME, TOKEN, check_whole, documented, state, writes
from tests.support.hub.client import Client
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from training.cli import deploy
from training.hub.space import readme_block


def test_twice_and_after_a_change(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    dry = run("--dry-run")
    assert "create the public Space me/look" in dry
    assert "a100-large, trains in itself (space.yaml): asleep free; awake $2.50 an hour; training $2.50 an hour." in dry
    assert writes(hub) == [] and not hub.repos

    said = run("--yes")
    check_whole(hub, folder)
    assert "3/3 make one commit: " in said and "Done. " in said and said.startswith(dry.splitlines()[0])
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
    assert "1/1 make one commit: new.py added, app.py replaced, starter/w.safetensors deleted" in said
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
    assert "LOOKTHINK_SPACE_TOKEN cannot be used: the Hub does not accept" in run("--renew-token", status=2)


def test_nothing_happens_unasked(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    assert "Add --yes" in run(status=2)
    args = argparse.Namespace(space=NAME, dry_run=False, yes=False, private=True, renew_token=False)
    with pytest.raises(UserError, match="Nothing was done"):
        deploy.main(args, ask=lambda question: "no")
    assert writes(hub) == []
    assert deploy.main(args, ask=lambda question: "y") == 0
    assert hub.repos["space", NAME].private


def test_what_cannot_be_deployed_is_said(
    hub: Hub, folder: Path, me: Client, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("space", "me/other").commit({"app.py": b"1", "README.md": b""})
    said = run("--yes", name="me/other", status=2)
    assert "is another Space" in said and "deleted" not in said
    assert "no right to create" in run("--yes", name="them/look", status=2)
    hub.more["cannot_pay"] = {"me"}
    assert "payment method" in run("--yes", status=2)
    (folder / "space.yaml").write_text("model:\n  base: a/b\n")
    assert "Run make space" in run(status=2)
    monkeypatch.delenv("HF_TOKEN")
    readme_block.main(folder)
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
    assert "changed by somebody else" in run("--yes", status=2)
    run("--yes")
    check_whole(hub, folder)


def test_what_the_plan_warns_of(
    hub: Hub, folder: Path, run: Callable[..., str], me: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is public stays public, and a folder of this machine is not there."""
    hub.more["buckets"] = {BUCKET: {"private": False}}
    assert "The bucket me/look-state is public" in run("--yes")
    said = run("--yes", "--private")
    assert "The Space is public and stays so" in said and "Nothing to do" in said
    hub.repos["space", NAME].private = True
    assert "stays so" not in run("--yes", "--private")
    text = (folder / "space.yaml").read_text()
    own = yaml.safe_load(text)
    for section, key in (("model", "base"), ("model", "adapter"), ("training", "dataset")):
        changed = own | {section: own[section] | {key: str(folder.parent)}}
        (folder / "space.yaml").write_text(yaml.safe_dump(changed, allow_unicode=True))
        readme_block.main(folder)
        assert f"{section}.{key} in space.yaml is {folder.parent}, a folder of this machine" in run(status=2)
    (folder / "rows.jsonl").write_text("{}")
    monkeypatch.chdir(folder)
    (folder / "space.yaml").write_text(yaml.safe_dump(own | {"training": own["training"] | {"dataset": "rows.jsonl"}}))
    readme_block.main(folder)
    assert "training.dataset in space.yaml is rows.jsonl, a file of this machine" in run(status=2)
    commit(folder)
    assert "make one commit: " in run("--yes"), "tracked by git, it goes along"


@pytest.mark.parametrize(
    "name", ["look", "../me/look", "me/look/x", "me/look.git", "me/a--b", "mе/look", "me/" + "x" * 99]
)
def test_what_is_no_name(hub: Hub, run: Callable[..., str], name: str) -> None:
    assert "write OWNER/NAME" in run(status=2, name=name)
    assert not hub.requests


def test_a_space_that_was_moved(hub: Hub, folder: Path, run: Callable[..., str]) -> None:
    """The Hub leads from the old name to the new one."""
    run("--yes")
    hub.repos["space", NAME].about["id"] = "me/new"
    done = writes(hub)
    assert "me/look is called me/new on the Hub" in run("--yes", status=2) and writes(hub) == done


def test_a_token_of_odd_characters(hub: Hub, run: Callable[..., str], me: Client) -> None:
    me.log_in("hf_abc\u200bdefghijkl")
    assert "it holds characters that no token has" in run(status=2)
    assert not hub.requests


def test_this_very_checkout(hub: Hub, me: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    tree = hub.repos["space", NAME].commits[hub.repos["space", NAME].refs["main"]]
    assert {"app.py", "space.yaml", "requirements.txt", "inference/starter/model.safetensors"} <= set(tree)
    assert tree["README.md"].startswith(b"---\ntitle: ")
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("title", "changes", "said", "hardware"),
    [
        (
            "An A100 Space that trains in itself, in ten lines",
            {"model": {"base": "me/vl"}, "training": {"dataset": "me/pictures"}},
            "a100-large, trains in itself (space.yaml): asleep free; awake $2.50 an hour; training $2.50 an hour.",
            "a100-large",
        ),
        (
            "A CPU Space that trains as Jobs, in ten lines",
            None,
            "cpu-basic, trains as a Job on a100-large (space.yaml): asleep free; awake free; training $2.50 an hour.",
            "cpu-basic",
        ),
    ],
    ids=["A100", "CPU"],
)
def test_the_first_lines_of_a_space_are_followed(
    hub: Hub, folder: Path, run: Callable[..., str], title: str, changes: dict | None, said: str, hardware: str
) -> None:
    """As docs/deploying.md has them: the change of space.yaml, `make space`, a commit, both commands of deploy.

    The lines on the page and in the Space's terminal are followed in `test_space.py` and `test_launcher.py`.
    """
    commands, text = documented(title)
    own = yaml.safe_load((folder / "space.yaml").read_text(encoding="utf-8"))
    for section, values in (changes or yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])).items():
        own[section] |= values
    (folder / "space.yaml").write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
    assert readme_block.main(folder) == 0  # make space
    commit(folder)
    (_, name, *dry), (_, _, *real) = (words for words in commands if words[0] == "deploy")
    assert (name, dry, real) == ("OWNER/NAME", ["--dry-run"], [])
    assert said in run(*dry) and not hub.repos
    run(*real, "--yes")
    space, repo = state(hub), hub.repos["space", NAME]
    assert space.hardware == hardware and space.variables["LOOKTHINK_BUCKET"] == BUCKET
    card = yaml.safe_load(repo.commits[repo.refs["main"]]["README.md"].decode().split("---\n")[1])
    base = own["model"]["base"]
    assert (card["suggested_hardware"], card["models"]) == (hardware, [base])
    assert card["datasets"] == [own["training"]["dataset"]]
    assert card.get("preload_from_hub") == ([base] if hardware == "a100-large" else None)
