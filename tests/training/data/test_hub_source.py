"""A dataset of the Hub, served locally: revisions, splits, offline, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import parquet, rows, shards
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.data_config import read_data_config
from training.data.hub_source import HubSource, resolve_commit
from training.data.pictures import Folders

pytestmark = pytest.mark.usefixtures("hub_client")
NAME = "owner/geometry"


def source(splits: tuple[str, ...] = ("train",), **values: str) -> HubSource:
    return HubSource(read_data_config(dataset=NAME, **values), splits)


def questions(found: HubSource, positions: list[int], split: str = "train") -> list[str]:
    return [raw.cells["problem"] for raw in found.rows(split, positions, ["problem"])]  # type: ignore[index]


@pytest.fixture
def first(hub: Hub) -> str:
    """A dataset with two commits; the older one."""
    repo = hub.repo("dataset", NAME)
    commit = repo.commit({**shards(rows(20)), **shards(rows(5, 50), "test", 1), "README.md": b"# Geometry\n"})
    repo.commit(shards(rows(20, 100)))
    return commit


def test_a_branch_is_pinned_to_its_commit(hub: Hub, first: str) -> None:
    newest = hub.repo("dataset", NAME).refs["main"]
    found = source(("train", "test"))
    assert (found.revision, found.names, found.sizes) == (newest, ["train", "test"], {"train": 20, "test": 5})
    assert questions(found, [0, 11, 19]) == ["What is 100 + 1?", "What is 111 + 1?", "What is 119 + 1?"]
    assert newest in found.identity and NAME in found.identity
    old = source(revision=first)
    assert old.revision == first and questions(old, [3]) == ["What is 3 + 1?"]
    raw = next(old.rows("train", [3], ["image"]))
    assert raw.cells["image"]["bytes"].startswith(b"\x89PNG")  # type: ignore[index]


def test_offline_from_the_cache(hub: Hub, hub_client: Client, first: str) -> None:
    source(revision=first)
    hub_client.go_offline()
    hub.requests.clear()
    assert questions(source(revision=first), [3]) == ["What is 3 + 1?"]
    newest = hub.repo("dataset", NAME).refs["main"]
    with pytest.raises(UserError, match=f"the cache holds {NAME} at {first[:12]}, not at {newest[:12]}"):
        source(revision=newest)
    with pytest.raises(UserError, match="cannot be reached .* and the cache holds no main of owner/geometry"):
        source()
    assert hub.requests == []


def test_a_branch_offline_is_what_it_was(hub_client: Client, hub: Hub, first: str) -> None:
    online = source()
    hub_client.go_offline()
    assert source().revision == online.revision


def test_a_hub_that_is_out_of_order(hub: Hub, first: str) -> None:
    hub.failure = 500
    with pytest.raises(UserError, match="The Hub cannot be reached"):
        source()


def test_a_hub_that_is_not_there(hub_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached .*Connect this machine"):
        source()


def test_who_may_read(hub: Hub, hub_client: Client) -> None:
    hub.tokens |= {"hf_ann": "ann", "hf_bob": "bob"}
    hub.repo("dataset", NAME, gated=True, readers={"ann"}).commit(shards(rows(4)))
    with pytest.raises(UserError, match="is gated: its owner must let you in. .*HF_TOKEN"):
        source()
    hub_client.log_in("hf_bob")
    with pytest.raises(UserError, match="is gated"):
        source()
    hub_client.log_in("hf_unknown")
    with pytest.raises(UserError, match="does not let this token read.*Set HF_TOKEN to a valid one"):
        source()
    hub_client.log_in("hf_ann")
    assert source().sizes == {"train": 4}


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/other", None, "There is no dataset owner/other on the Hub, or it is private"),
        (NAME, "v9", "has no such revision. Name a branch, a tag or a commit"),
        ("owner--x/..", None, "is not a name on the Hub"),
    ],
)
def test_what_is_not_there(name: str, revision: str | None, message: str, first: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_commit(name, revision)


def test_an_unknown_split(first: str) -> None:
    with pytest.raises(UserError, match="no split 'dev'; it has train, test. Name one of them: --split train"):
        source(("dev",))


CARD = """---
configs:
- config_name: {}
  data_files:
  - split: train
    path: {}
---
"""


FOREIGN = CARD.format("a", "http://127.0.0.1:9/x.parquet").encode()


def test_subsets(hub: Hub) -> None:
    card = CARD.format("easy", "easy/*.parquet").removesuffix("---\n")
    card += CARD.format("hard", "hard/*.parquet").removeprefix("---\nconfigs:\n")
    files = {"easy/a.parquet": parquet(rows(3)), "hard/a.parquet": parquet(rows(4, 20)), "README.md": card.encode()}
    hub.repo("dataset", NAME).commit(files)
    assert questions(source(subset="hard"), [0]) == ["What is 20 + 1?"]
    with pytest.raises(UserError, match="several subsets need --subset"):
        source()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b"# Nothing\n"}, "cannot be loaded"),
        ({"geometry.py": b"raise SystemExit('this ran')"}, "cannot be loaded"),
        ({"data.pkl": b"\x80\x04N."}, "cannot be loaded"),
        ({"notes.txt": b"one\ntwo\n"}, "is read by `text`.* Convert it to Parquet"),
        ({"data/train.parquet": b"PAR1 but not really PAR1"}, "cannot be read"),
        ({"README.md": FOREIGN}, "names data at 'http://127.0.0.1:9/x.parquet', which is not in its own repository"),
        ({"README.md": b"---\nconfigs: [[\n---\n", "a.parquet": b""}, "has a broken README.md"),
    ],
    ids=["no data", "a script", "a pickle", "text", "damaged", "foreign file", "broken card"],
)
def test_repositories_that_are_no_dataset(hub: Hub, files: dict[str, bytes], message: str) -> None:
    hub.repo("dataset", NAME).commit(files)
    with pytest.raises(UserError, match=message):
        source()


def test_a_path_in_a_cell_is_only_read_from_the_datasets_own_cache(hub: Hub, hub_client: Client) -> None:
    hub.repo("dataset", NAME).commit(shards(rows(4)))
    folders = next(source().rows("train", [0], ["image"])).folders
    assert folders == Folders.of(Path(hub_client.cache) / "hub" / "datasets--owner--geometry")
