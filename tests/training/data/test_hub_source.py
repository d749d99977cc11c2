"""A dataset of the Hub, served locally: revisions, splits, offline, and everything that can be wrong with one."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pytest

from inference.common.errors import UserError
from inference.common.hub_errors import HubError
from inference.common.settings import home_folder
from tests import ROOT
from tests.support.datasets_on_disk import parquet, picture, rows, shards
from tests.support.hub.client import Client, client_env
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from training.config.data_config import read_data_config
from training.data import hub_source, prepare
from training.data.dataset import prepare_rows
from training.data.hub_source import HubSource, resolve_commit

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
    with pytest.raises(UserError, match=f"no list of the files of {NAME} at {newest[:12]}, and HF_HUB_OFFLINE is set"):
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


LINES = [{"image": f"images/{n}.png", "problem": f"How high is bar {n}?", "solution": str(n)} for n in range(10)]
PICTURES = {f"images/{n}.png": picture(n) for n in range(10)}
PICTURE = r".*/resolve/.*/images/{}\.png"


def as_lines(some: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in some).encode()


def prepared(**values: str) -> prepare.Prepared:
    return prepare_rows(read_data_config(dataset=NAME, test_share=0, **values))


def asked_for(hub: Hub) -> set[str]:
    """The pictures that were asked for."""
    return {match[1] for _, path in hub.requests if (match := re.search(r"/resolve/\w+/(images/.+)", path))}


@pytest.mark.usefixtures("home")
def test_only_what_the_rows_name_is_fetched_and_then_kept(hub: Hub, hub_client: Client) -> None:
    """Pictures of the rows that are read, and the files of their split; the second time nothing, and offline too."""
    more = {"test.jsonl": as_lines(LINES), "images/other.png": picture(99), "movie.bin": bytes(1_000_000)}
    hub.repo("dataset", NAME).commit({"data/train.jsonl": as_lines(LINES), **PICTURES, **more})
    assert len(prepared(split="train[:4]").roles["train"]) == 4
    assert asked_for(hub) == {f"images/{n}.png" for n in range(4)}
    assert not [path for _, path in hub.requests if "movie" in path or "resolve" in path and "test.jsonl" in path]
    first = prepared()
    hub.requests.clear()
    hub_client.go_offline()
    shutil.rmtree(home_folder() / "data")
    again = prepared()
    assert hub.requests == [] and first.rows["row_id"] == again.rows["row_id"]
    with pytest.raises(UserError, match="cannot be reached .*, and the dataset owner/geometry is on it"):
        prepared(split="test")


@pytest.mark.parametrize(
    ("cell", "reason", "words"),
    [
        ("images/none.png", "picture missing", "'images/none.png' is no file of the repository"),
        ("Images/0.PNG", "picture missing", "is no file of the repository; there is 'images/0.png'"),
        ("images/large.png", "picture too large", "'images/large.png' has 20.0 MB, 20 are read"),
        ("../../refs/main", "picture refused", "'../../refs/main' leads out of the repository; only its own files"),
        ("../../../../../etc/passwd", "picture refused", "leads out of the repository"),
        ("/etc/passwd", "picture refused", "'/etc/passwd' leads out of the repository"),
        ("http://127.0.0.1:9/1.png", "picture refused", "is an address; pictures are never fetched"),
        ("images/link.png", "picture refused", "'images/link.png' is a link in the repository; none is followed"),
        ("train.jsonl", "picture broken", ""),
    ],
)
@pytest.mark.usefixtures("home")
def test_pictures_that_are_refused(hub: Hub, cell: str, reason: str, words: str) -> None:
    rows = [*LINES[:2], {**LINES[2], "image": cell}]
    odd = {"images/large.png": picture(3) + bytes(20_000_001), "images/link.png": b"../../../secret.png"}
    hub.repo("dataset", NAME).commit({"train.jsonl": as_lines(rows), **PICTURES, **odd})
    dropped = prepared().dropped
    assert [(drop.place, drop.reason) for drop in dropped.rows] == [("train[2]", reason)]
    assert words in dropped.rows[0].detail
    assert "images/large.png" not in asked_for(hub)


@pytest.mark.usefixtures("home")
def test_paths_are_relative_to_their_file_or_to_the_repository(hub: Hub) -> None:
    rows = [
        {**LINES[0], "image": "0.png"},
        {**LINES[1], "image": "images/1.png"},
        {**LINES[2], "image": "./../b/2.png"},
    ]
    files = {"images/train.jsonl": as_lines(rows), **PICTURES, "b/2.png": picture(2)}
    hub.repo("dataset", NAME).commit(files)
    found = prepared()
    assert len(found.dropped) == 0 and len(set(found.rows["picture_digest"])) == 3


@pytest.mark.usefixtures("home")
def test_pictures_are_found_by_numbers_and_by_the_ends_of_paths(hub: Hub) -> None:
    repo = hub.repo("dataset", NAME)
    files = {f"scans/{n:03}.png": picture(n) for n in range(3)} | {"a/9.png": picture(4), "b/9.png": picture(5)}
    cells: list[object] = ["0", 1, "002.png", "9", "9.png", 7]
    rows = [{"image": cell, "problem": f"What is {n}?", "solution": "7"} for n, cell in enumerate(cells)]
    repo.commit(files | {"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()})
    found = prepare_rows(read_data_config(dataset=NAME, test_share=0))
    assert len(found.rows) == 3
    details = {drop.place: drop.detail for drop in found.dropped.rows}
    assert details["train[3]"] == details["train[4]"].replace("9.png' may", "9' may")
    assert details["train[3]"].startswith("'9' may be 'a/9.png' or 'b/9.png'; write the path of the one that is meant")
    assert details["train[5]"] == "'7' is no file of the repository; write the path of one, as images/1.png"


@pytest.mark.parametrize(("kind", "words"), [("401", "status 401"), ("429", "status 429"), ("503", "status 503")])
@pytest.mark.usefixtures("home", "impatient")
def test_a_hub_that_fails_amid_the_pictures(hub: Hub, kind: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said in words, no row is lost to it, and reading goes on behind the last whole file."""
    monkeypatch.setattr(prepare, "PART_ROWS", 4)
    monkeypatch.setattr(prepare, "DOWNLOADS", 1)
    hub.repo("dataset", NAME).commit({"train.jsonl": as_lines(LINES), **PICTURES})
    hub.faults.append(Fault(kind, PICTURE.format(7), times=-1, retry_after=0))
    with pytest.raises(HubError, match=words):
        prepared()
    assert [file.name for file in (home_folder() / "data").glob("*/state-*.json")] == ["state-00000.json"]
    hub.faults.clear()
    hub.requests.clear()
    assert len(prepared().roles["train"]) == 10
    assert {"images/7.png", "images/9.png"} <= asked_for(hub) and "images/5.png" not in asked_for(hub)


def test_a_kill_amid_the_pictures(hub: Hub, hub_client: Client, home: Path) -> None:
    hub.repo("dataset", NAME).commit({"train.jsonl": as_lines(LINES), **PICTURES})
    hub.faults.append(Fault("slow", PICTURE.format(9), times=-1, seconds=60))
    env = {**os.environ, **client_env(hub_client.url, hub_client.cache)}
    command = [sys.executable, "-m", "training", "audit", "--dataset", NAME]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 60
    while len(asked_for(hub)) < 10 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    said = process.communicate()[0]
    hub.faults.clear()
    hub.requests.clear()
    assert len(prepared().roles["train"]) == 10, said
    assert asked_for(hub) == {"images/9.png"}


def test_more_pictures_than_are_taken(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repo("dataset", NAME).commit({"train.jsonl": as_lines(LINES), **PICTURES})
    monkeypatch.setattr(hub_source, "MAX_PICTURE_BYTES", 3 * len(PICTURES["images/0.png"]))
    with pytest.raises(UserError, match=r"have more than .* GB. Read fewer rows: --split 'train\[:10%\]'"):
        prepared()


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("MAX_FILES", 5, "has more than 5 files. Pack its pictures"), ("SPARE_BYTES", 2**60, "has no room for it")],
)
def test_more_files_than_are_taken(
    hub: Hub, limit: str, value: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("dataset", NAME).commit({"train.jsonl": as_lines(LINES), **PICTURES})
    monkeypatch.setattr(hub_source, limit, value)
    with pytest.raises(UserError, match=words):
        source()


def test_folders_that_no_card_names_are_subsets(hub: Hub) -> None:
    files = {f"{name}/train.jsonl": as_lines(LINES[:num]) for name, num in (("easy", 3), ("hard", 4))}
    hub.repo("dataset", NAME).commit(files)
    assert source(subset="hard").sizes == {"train": 4}
    with pytest.raises(UserError, match="holds several datasets; name one of them: --subset easy, --subset hard"):
        source()


def test_a_card_assigns_files_and_is_remembered(hub: Hub, hub_client: Client) -> None:
    """Pictures beside metadata, under a split that the card alone knows; offline too."""
    metadata = as_lines([{"file_name": f"{n}.png", "problem": "How high?", "solution": str(n)} for n in range(10)])
    files = {"few/metadata.jsonl": metadata, **{f"few/{n}.png": picture(n) for n in range(10)}}
    card = CARD.format("default", "few/*").replace("split: train", "split: dev")
    beside = {"old/train.jsonl": b"{}\n", "_train.jsonl": b"{}\n", "notes.txt": b"mine"}
    hub.repo("dataset", NAME).commit({**files, **beside, "README.md": card.encode()})
    assert source(("dev",)).sizes == {"dev": 10}
    assert source(("dev",)).notes == ["not read: _train.jsonl, old/train.jsonl, notes.txt"]
    hub_client.go_offline()
    hub.requests.clear()
    assert source(("dev",)).names == ["dev"] and hub.requests == []


def test_splits_of_save_to_disk(hub: Hub, tmp_path: Path) -> None:
    some = datasets.Dataset.from_list(LINES)
    datasets.DatasetDict({"easy": some.select(range(3)), "hard": some}).save_to_disk(tmp_path / "saved")
    paths = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    hub.repo("dataset", NAME).commit({str(path.relative_to(tmp_path / "saved")): path.read_bytes() for path in paths})
    assert source(("hard",)).names == ["easy", "hard"] and source(("hard",)).sizes == {"hard": 10}


def test_rows_of_a_split_by_their_column(hub: Hub) -> None:
    """In one file, and where a split is known by another word."""
    some = [row | {"split": "test" if at % 3 else "train"} for at, row in enumerate(LINES)]
    hub.repo("dataset", NAME).commit({"all.jsonl": as_lines(some)})
    found = source(("test",))
    assert (found.names, found.sizes) == (["train", "test"], {"test": 6})
    assert found.notes == ["test = the 6 of 10 rows whose split says so"]
    with pytest.raises(UserError, match="by its column 'split', has no split 'dev'; it has train, test"):
        source(("dev",))
    hub.repo("dataset", "owner/val").commit(
        {"train.jsonl": as_lines(LINES), "val.jsonl": as_lines(LINES[:2]), "train_old.jsonl": as_lines(LINES[:1])}
    )
    val = HubSource(read_data_config(dataset="owner/val"), ["validation"])
    assert val.sizes == {"validation": 2} and "not read beside train.jsonl: train_old.jsonl" in val.notes[0]


def test_pictures_in_a_zip_are_read_by_datasets(hub: Hub, hub_client: Client) -> None:
    """As before, offline too."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("metadata.jsonl", as_lines([{**row, "file_name": row.pop("image")} for row in map(dict, LINES)]))
        for path, content in PICTURES.items():
            file.writestr(path, content)
    hub.repo("dataset", NAME).commit({"train.zip": packed.getvalue()})
    assert source().sizes == {"train": 10}
    hub_client.go_offline()
    assert questions(source(), [3]) == ["How high is bar 3?"]


def test_files_are_chosen_as_in_a_folder(hub: Hub) -> None:
    """Splits in one JSON file, metadata among the pictures, two formats of the same rows; what is not read is named."""
    some = {split: [{"problem": f"What is {n}?"} for n in range(size)] for split, size in (("train", 3), ("test", 2))}
    hub.repo("dataset", NAME).commit({"all.json": json.dumps(some).encode(), "notes.txt": b"mine", "_SUCCESS": b""})
    found = source(("train", "test"))
    assert (found.names, found.sizes, found.notes) == (
        ["train", "test"],
        {"train": 3, "test": 2},
        ["not read: notes.txt"],
    )
    assert questions(found, [1], "test") == ["What is 1?"]
    lines = b'{"problem": "What is 7?"}\n'
    hub.repo("dataset", "owner/two").commit({"train.jsonl": lines, "train.csv": b"problem\nWhat is 7?\n"})
    two = HubSource(read_data_config(dataset="owner/two"), ["train"])
    assert two.sizes == {"train": 1} and "train.jsonl is read and not train.csv" in two.notes[0]
    hub.repo("dataset", "owner/among").commit({"images/metadata.jsonl": b'{"file_name": "0.png", ' + lines[1:]})
    assert HubSource(read_data_config(dataset="owner/among"), ["train"]).sizes == {"train": 1}
