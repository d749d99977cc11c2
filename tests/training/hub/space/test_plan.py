"""The steps of a deployment: all of them for a new Space, those that differ for another, none where nothing does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.hub.space.plan import Deployment, Mount, SpaceState, digest, file_changes, plan

WANTED = Deployment(
    space="me/look",
    files={"README.md": digest(b"r"), "space.yaml": digest(b"s")},
    hardware="a100-large",
    sleep_seconds=1800,
    bucket="me/look-state",
    variables={"LOOKTHINK_STATE": "/state", "LOOKTHINK_BUCKET": "me/look-state"},
)
DONE = SpaceState(
    exists=True,
    commit="c" * 40,
    files=dict(WANTED.files),
    hardware="a100-large",
    sleep_seconds=1800,
    stage="RUNNING",
    bucket_exists=True,
    mounts=(Mount("me/look-state", "/state"), Mount("me/other", "/other")),
    variables={**WANTED.variables, "MINE": "1"},
    secrets=frozenset({"HF_TOKEN", "OTHER"}),
)


def test_a_new_space_is_made_with_all_of_it_at_once() -> None:
    steps = plan(WANTED, SpaceState())
    assert [step.kind for step in steps] == ["bucket", "create", "files"]
    for word in ("public", "me/look", "a100-large", "30 minutes", "/state", "LOOKTHINK_BUCKET=me/look-state", "secret"):
        assert word in steps[1].words
    assert "private" in plan(replace(WANTED, private=True), SpaceState())[1].words


def test_nothing_to_do() -> None:
    assert plan(WANTED, DONE) == []
    assert plan(replace(WANTED, private=True), DONE) == []


@pytest.mark.parametrize(
    ("deployment", "state", "kinds", "words"),
    [
        ({}, {"bucket_exists": False}, ["bucket"], "me/look-state"),
        ({}, {"mounts": ()}, ["volumes"], "/state"),
        ({}, {"mounts": (Mount("me/other", "/state"),)}, ["volumes"], "me/look-state"),
        ({}, {"variables": {"LOOKTHINK_STATE": "/data"}}, ["variable", "variable"], "LOOKTHINK_STATE to /state"),
        ({}, {"secrets": frozenset()}, ["secret"], "set the secret HF_TOKEN"),
        ({"renew_token": True}, {}, ["secret"], "renew the secret HF_TOKEN"),
        ({}, {"hardware": "cpu-basic"}, ["hardware"], "from cpu-basic to a100-large, asleep after 30"),
        ({"hardware": "zero-a10g"}, {}, ["hardware"], "to zero-a10g, asleep after 48 hours"),
        ({"hardware": "zero-a10g"}, {"hardware": "zero-a10g", "sleep_seconds": 172_800}, [], ""),
        ({}, {"sleep_seconds": None}, ["sleep"], "30 minutes"),
        ({}, {"sleep_seconds": 3600}, ["sleep"], "30 minutes"),
        ({"sleep_seconds": -1}, {"sleep_seconds": None}, [], ""),
        ({"sleep_seconds": -1}, {}, ["sleep"], "never"),
        ({"hardware": "cpu-basic"}, {"hardware": "cpu-basic", "sleep_seconds": 172800}, [], ""),
        ({"hardware": "cpu-basic"}, {}, ["hardware"], "48 hours"),
        ({"files": {**WANTED.files, "space.yaml": digest(b"t")}}, {}, ["files"], "space.yaml replaced"),
        ({"files": {"space.yaml": digest(b"s")}}, {}, ["files"], "README.md deleted"),
    ],
)
def test_only_what_differs(deployment: dict[str, Any], state: dict[str, Any], kinds: list[str], words: str) -> None:
    steps = plan(replace(WANTED, **deployment), replace(DONE, **state))
    assert [step.kind for step in steps] == kinds
    assert not steps or words in steps[0].words


def test_what_is_deleted_or_replaced_is_named() -> None:
    """In the Space it may be somebody's only copy; its names are somebody's too."""
    state = {f"notes/{n}.md": digest(b"") for n in range(25)} | {"a\x1b[2Jb": digest(b"")}
    words = file_changes({f"f{n}": digest(b"") for n in range(5)}, state).words
    assert words.startswith("5 files added, a?[2Jb, notes/0.md, notes/1.md, ") and words.endswith(" and 6 more deleted")


def test_a_large_file_is_known_by_its_sha256() -> None:
    large, small = digest(b"weights"), digest(b"text")
    state = {"w": replace(large, blob_id=""), "t": replace(small, sha256="")}
    assert not file_changes({"w": large, "t": small}, state)
    assert file_changes({"w": small, "t": large}, state).replaced == ("t", "w")


def test_whose_space_it_is() -> None:
    new = SpaceState(exists=True, files={"README.md": digest(b""), ".gitattributes": digest(b"")})
    assert DONE.is_ours and new.is_ours and SpaceState().is_ours
    assert not replace(new, files={**new.files, "app.py": digest(b"")}).is_ours


NAMES = st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2).map(digest), max_size=6)


@given(NAMES, NAMES)
def test_the_changes_make_the_files_of_the_space_those_that_are_wanted(deployment, state) -> None:
    changes = file_changes(deployment, {name: replace(there, sha256="") for name, there in state.items()})
    after = {n: d for n, d in state.items() if n not in changes.deleted}
    after |= {name: deployment[name] for name in (*changes.added, *changes.replaced)}
    assert after == deployment
    assert not any(state.get(name) == deployment[name] for name in changes.replaced)
