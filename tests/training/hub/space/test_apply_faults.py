"""Deploying through every fault at every route: done, or said in words; the same command again does the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import training.__main__
from tests.support.deploying import *  # noqa: F403
from tests.support.deploying import NAME, TOKEN, check_whole, state
from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, NONSENSE, Fault
from tests.support.hub.repos import Hub
from tests.support.hub.server import serve

TORTURE = bool(os.environ.get("LOOKTHINK_TORTURE"))
CREATION = [
    "POST /api/buckets/me/look-state",
    "POST /api/repos/create",
    "POST /api/spaces/me/look/preupload/main",
    "POST /spaces/me/look.git/info/lfs/objects/batch",
    "PUT /lfs/.*",
    "POST /lfs-verify/.*",
    "POST /api/spaces/me/look/commit/main",
]
"""The routes by which a new Space is made."""
CHANGES = [
    "PUT /api/spaces/me/look/volumes",
    "POST /api/spaces/me/look/variables",
    "POST /api/spaces/me/look/secrets",
    "POST /api/spaces/me/look/commit/main",
    "POST /api/spaces/me/look/hardware",
    "POST /api/spaces/me/look/sleeptime",
]
"""The routes by which one that is there is put right."""
LOOKS = [
    "GET /api/whoami-v2",
    "GET /api/buckets/.*",
    "GET /api/spaces/me/look",
    "GET /api/spaces/me/look/(runtime|variables|secrets|tree/.*)",
    "POST /api/validate-yaml",
]
"""What is asked before anything is done."""


FAULTS = [(kind, where) for where in LOOKS + CREATION for kind in KINDS + NONSENSE if kind not in ("412", "slow")]
SAMPLE = [
    ("refused", CREATION[0]),
    ("lost", CREATION[1]),
    ("503", CREATION[2]),
    ("shape", LOOKS[0]),
    ("html", CREATION[4]),
    ("401", CREATION[5]),
    ("lost", CREATION[6]),
]
TO_CHANGE = [(kind, where) for where in CHANGES for kind in KINDS + NONSENSE if kind not in ("412", "slow")]
CHANGE_SAMPLE = [
    ("html", CHANGES[0]),
    ("lost", CHANGES[1]),
    ("html", CHANGES[2]),
    ("reset", CHANGES[3]),
    ("401", CHANGES[3]),
    ("429", CHANGES[4]),
    ("away", CHANGES[5]),
]


@pytest.fixture
def elsewhere(hub: Hub) -> Iterator[Hub]:
    """Another host, to which a faulty Hub points."""
    stranger = Hub()
    with serve(stranger) as url:
        hub.more["elsewhere"] = url.replace("127.0.0.1", "localhost")
        yield stranger


def suffer(hub: Hub, folder: Path, elsewhere: Hub, capsys: pytest.CaptureFixture[str], fault: Fault) -> None:
    """Deploy with a fault: done, or one error in words; no token goes elsewhere; the same command does the rest."""
    hub.faults.append(fault)
    status = training.__main__.main(["deploy", NAME, "--yes"])
    said = capsys.readouterr()
    assert fault.times == 0, "the fault has struck"
    assert ("Done. " in said.out) == (status == 0) and ("error: " in said.err) == (status == 2)
    assert "Traceback" not in said.err and TOKEN not in said.out + said.err
    assert "tokens_seen" not in elsewhere.more
    if status == 0:
        check_whole(hub, folder)
    hub.faults.clear()
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    check_whole(hub, folder)
    assert training.__main__.main(["deploy", NAME, "--yes"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


@pytest.mark.torture(sampled=True)
@pytest.mark.parametrize(("kind", "where"), FAULTS if TORTURE else SAMPLE)
def test_after_a_fault_the_same_command_does_the_rest(
    hub: Hub, folder: Path, me: Client, elsewhere: Hub, capsys: pytest.CaptureFixture[str], impatient: None,
    kind: str, where: str,
) -> None:  # fmt: skip
    suffer(hub, folder, elsewhere, capsys, Fault(kind, where))
    repo = hub.repos["space", NAME]
    assert sum(message.startswith("LookThink ") for message in repo.messages.values()) == 1


@pytest.mark.torture(sampled=True)
@pytest.mark.parametrize(("kind", "where"), TO_CHANGE if TORTURE else CHANGE_SAMPLE)
def test_a_fault_while_a_space_is_put_right(
    hub: Hub, folder: Path, run: Callable[..., str], elsewhere: Hub, capsys: pytest.CaptureFixture[str],
    impatient: None, kind: str, where: str,
) -> None:  # fmt: skip
    run("--yes")
    space = state(hub)
    space.volumes, space.variables, space.secrets = [], {}, {}
    space.sleep_seconds = -1
    if "sleeptime" not in where:
        space.hardware = "t4-small"
    (folder / "app.py").write_text("print('there')\n")
    suffer(hub, folder, elsewhere, capsys, Fault(kind, where))
    messages = hub.repos["space", NAME].messages.values()
    assert sum(message.startswith("LookThink ") for message in messages) == 2
