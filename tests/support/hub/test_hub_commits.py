"""The test Hub's writing routes, as the real client writes: repositories, atomic commits, large files, tags, faults."""

from __future__ import annotations

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors

from tests.support.hub.client import Client
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub


@pytest.fixture
def api(hub: Hub, hub_client: Client) -> huggingface_hub.HfApi:
    """A client of the user `me`, who may write for `team` and only look at `others`."""
    hub.tokens["hf_me"] = "me"
    hub.roles["me"] = {"team": "write", "others": "read"}
    return huggingface_hub.HfApi(token="hf_me")


def test_a_repository_is_made_once_where_one_may(api: huggingface_hub.HfApi, hub: Hub) -> None:
    assert api.create_repo("me/new", private=True).repo_id == "me/new"
    assert hub.repos["model", "me/new"].private
    api.create_repo("me/new", exist_ok=True)
    with pytest.raises(errors.HfHubHTTPError) as refused:
        api.create_repo("me/new")
    assert refused.value.response.status_code == 409
    with pytest.raises(errors.HfHubHTTPError):
        api.create_repo("others/new")
    api.create_repo("team/new")
    api.update_repo_settings("me/new", private=False)
    assert not hub.repos["model", "me/new"].private
    api.delete_repo("me/new")
    assert ("model", "me/new") not in hub.repos


def test_one_commit_with_small_and_large_files(api: huggingface_hub.HfApi, hub: Hub) -> None:
    api.create_repo("me/new")
    weights = bytes(range(256)) * 40
    add = [CommitOperationAdd("a/weights.safetensors", weights), CommitOperationAdd("note.txt", b"hello")]
    first = api.create_commit("me/new", add, commit_message="both")
    repo = hub.repos["model", "me/new"]
    assert repo.refs["main"] == first.oid and repo.commits[first.oid]["a/weights.safetensors"] == weights
    assert [c.title for c in api.list_repo_commits("me/new")] == ["both", "initial commit"]
    stale = [CommitOperationAdd("note.txt", b"again")]
    with pytest.raises(errors.HfHubHTTPError) as refused:
        api.create_commit("me/new", stale, commit_message="stale", parent_commit=next(iter(repo.commits)))
    assert refused.value.response.status_code == 412 and repo.refs["main"] == first.oid
    gone = [CommitOperationDelete("a/", is_folder=True)]
    second = api.create_commit("me/new", gone, commit_message="less", parent_commit=first.oid)
    assert set(repo.commits[second.oid]) == {".gitattributes", "note.txt"}
    api.create_tag("me/new", tag="run-1", revision=first.oid)
    assert api.model_info("me/new", revision="run-1").sha == first.oid
    with pytest.raises(errors.HfHubHTTPError):
        api.create_tag("me/new", tag="run-1")
    path = huggingface_hub.hf_hub_download("me/new", "a/weights.safetensors", revision="run-1", token="hf_me")
    assert open(path, "rb").read() == weights


def test_metadata_is_checked_as_the_hub_does(api: huggingface_hub.HfApi) -> None:
    api.create_repo("me/page", repo_type="space", space_sdk="gradio")
    broken = [CommitOperationAdd("README.md", b"---\ntitle: [\n---\n")]
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.create_commit("me/page", broken, commit_message="x", repo_type="space")
    unnamed = [CommitOperationAdd("README.md", b"---\nsdk: gradio\n---\n")]
    with pytest.raises(ValueError, match='"title" is required'):
        api.create_commit("me/page", unnamed, commit_message="x", repo_type="space")


@pytest.mark.parametrize(
    ("kind", "happened"),
    [
        ("refused", False),
        ("lost", True),
        ("reset", True),
        ("500", False),
        ("429", False),
        ("401", False),
        ("412", False),
    ],
)
def test_a_fault_strikes_once(api: huggingface_hub.HfApi, hub: Hub, kind: str, happened: bool) -> None:
    api.create_repo("me/new")
    hub.faults.append(Fault(kind, "POST .*/commit/main"))
    with pytest.raises((errors.HfHubHTTPError, httpx2.TransportError)):
        api.create_commit("me/new", [CommitOperationAdd("a", b"a")], commit_message="a")
    assert ("a" in hub.repos["model", "me/new"].commits[hub.repos["model", "me/new"].refs["main"]]) is happened
    api.create_commit("me/new", [CommitOperationAdd("b", b"b")], commit_message="b")
    assert "b" in hub.repos["model", "me/new"].commits[hub.repos["model", "me/new"].refs["main"]]


def test_refused_uploads_are_tried_again_by_the_client(api: huggingface_hub.HfApi, hub: Hub) -> None:
    api.create_repo("me/new")
    hub.faults += [Fault("503", "POST .*/preupload/main"), Fault("lost", "PUT /lfs/.*")]
    api.create_commit("me/new", [CommitOperationAdd("a.safetensors", b"a" * 100)], commit_message="a")
    assert not [fault for fault in hub.faults if fault.times]
