"""The local Hub answers the real clients as the Hub does: files, ranges, revisions, refusals; also a model by id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from inference.common.settings import STARTER
from tests import ROOT
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from tests.support.hub.server import answer


def test_files_of_a_commit_a_branch_and_a_tag(hub: Hub, hub_client: Client) -> None:
    repo = hub.repo("model", "me/model")
    first = repo.commit({"a.txt": b"one", "sub/b.txt": b"two"})
    second = repo.commit({"a.txt": b"three", "sub/b.txt": None})
    repo.refs["v1"] = first
    api = huggingface_hub.HfApi()
    assert api.model_info("me/model").sha == second
    assert api.model_info("me/model", revision="v1").sha == api.model_info("me/model", revision=first[:8]).sha == first
    assert api.list_repo_files("me/model", revision="v1") == ["a.txt", "sub/b.txt"]
    tree = {entry.path for entry in api.list_repo_tree("me/model", revision=first)}
    assert tree == {"a.txt", "sub"}
    assert [e.path for e in api.get_paths_info("me/model", ["a.txt", "nowhere"], revision=first)] == ["a.txt"]
    old = huggingface_hub.hf_hub_download("me/model", "a.txt", revision="v1")
    assert Path(old).read_bytes() == b"one" and first in old
    assert Path(huggingface_hub.hf_hub_download("me/model", "a.txt")).read_bytes() == b"three"
    folder = Path(huggingface_hub.snapshot_download("me/model", revision=first))
    assert (folder / "sub" / "b.txt").read_bytes() == b"two"
    filesystem = huggingface_hub.HfFileSystem()
    assert filesystem.cat_file("me/model/a.txt", start=1, end=3) == b"hr"
    assert ("HEAD", f"/me/model/resolve/{first}/sub/b.txt") in hub.requests


def test_what_is_not_there(hub: Hub, hub_client: Client) -> None:
    hub.repo("model", "me/model").commit({"a.txt": b"one"})
    with pytest.raises(errors.RepositoryNotFoundError):
        huggingface_hub.HfApi().model_info("me/other")
    with pytest.raises(errors.RevisionNotFoundError):
        huggingface_hub.HfApi().model_info("me/model", revision="v9")
    with pytest.raises(errors.EntryNotFoundError):
        huggingface_hub.hf_hub_download("me/model", "b.txt")
    with pytest.raises(errors.RepositoryNotFoundError):
        huggingface_hub.HfApi().dataset_info("me/model")


def test_who_may_read(hub: Hub, hub_client: Client) -> None:
    hub.tokens |= {"hf_ann": "ann", "hf_bob": "bob"}
    for name, options in (("gated", {"gated": True}), ("private", {"private": True})):
        hub.repo("model", f"me/{name}", readers={"ann"}, **options).commit({"a.txt": b"one"})
    for token in (False, "hf_bob"):
        with pytest.raises(errors.GatedRepoError):
            huggingface_hub.hf_hub_download("me/gated", "a.txt", token=token)
        with pytest.raises(errors.RepositoryNotFoundError):
            huggingface_hub.hf_hub_download("me/private", "a.txt", token=token)
    assert huggingface_hub.HfApi().whoami("hf_ann")["name"] == "ann"
    for name in ("gated", "private"):
        path = huggingface_hub.hf_hub_download(f"me/{name}", "a.txt", token="hf_ann")
        assert Path(path).read_bytes() == b"one"


@pytest.mark.parametrize(
    ("range", "status", "body"),
    [
        (None, 200, b"0123456789"),
        ("bytes=0-3", 206, b"0123"),
        ("bytes=7-", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
    ],
)
def test_ranges(range: str | None, status: int, body: bytes) -> None:
    hub = Hub()
    sha = hub.repo("dataset", "me/data").commit({"x": b"0123456789"})
    found = answer(hub, "GET", "/datasets/me/data/resolve/main/x", b"", None, range)
    assert (found.status, found.body) == (status, body)
    if status < 400:
        assert found.headers["X-Repo-Commit"] == sha and found.headers["ETag"].startswith('"')


@pytest.mark.parametrize(
    "path", ["/parquet?dataset=me/data", "/api/kernels/me/x", "/", "/api/datasets/me/data/nothing"]
)
def test_other_routes_are_not_there(path: str) -> None:
    assert answer(Hub(), "GET", path, b"", None, None).status == 404


LOAD_BY_ID = """
import sys
from transformers import AutoConfig, AutoProcessor
from peft import PeftConfig
processor = AutoProcessor.from_pretrained("me/starter")
print(type(processor).__name__, AutoConfig.from_pretrained("me/starter").model_type)
print(PeftConfig.from_pretrained("me/adapter").peft_type.value)
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_model_by_id_in_a_process_of_its_own(hub: Hub, hub_url: str, tmp_path: Path) -> None:
    """With nothing but HF_ENDPOINT set, first from the server, then offline from the cache."""
    small = [path for path in STARTER.iterdir() if path.suffix in (".json", ".jinja")]
    hub.repo("model", "me/starter").commit({path.name: path.read_bytes() for path in small})
    adapter = [path for path in (STARTER / "adapter").iterdir() if path.suffix in (".json", ".safetensors")]
    hub.repo("model", "me/adapter").commit({path.name: path.read_bytes() for path in adapter})
    env = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    env |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(tmp_path / "huggingface")}
    for offline in ("0", "1"):
        hub.requests.clear()
        ran = subprocess.run(
            [sys.executable, "-c", LOAD_BY_ID],
            env=env | {"HF_HUB_OFFLINE": offline},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=450,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.split() == ["Qwen2_5_VLProcessor", "qwen2_5_vl", "LORA"]
        assert bool(hub.requests) == (offline == "0")
