"""The table of `docs/data.md`: ten rows in each format, read by each way into the project."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import picture
from tests.support.hub.repos import Hub
from training.config.data_config import read_data_config
from training.data.dataset import load_rows, prepare_rows
from training.data.own_sets.sets import seen
from training.data.own_sets.upload import opened
from training.data.refusals import Refusal
from training.evaluation.held_out import load_held_out

DOCUMENT = Path(__file__).parents[3] / "docs" / "data.md"
NUM = 10
ROWS: list[dict[str, Any]] = [
    {"image": f"images/{n}.png", "problem": f"How high is bar {n}?", "solution": str(n)} for n in range(NUM)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def table(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def embedded() -> datasets.Dataset:
    rows = [row | {"image": {"bytes": picture(n), "path": None}} for n, row in enumerate(ROWS)]
    return datasets.Dataset.from_list(rows)


def archive(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for n, row in enumerate(ROWS):
            for suffix, content in (("png", picture(n)), ("json", json.dumps(row | {"image": None}).encode())):
                member = tarfile.TarInfo(f"{n:04d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


FORMATS: dict[str, Callable[[Path], object]] = {
    "JSON array": lambda folder: (folder / "train.json").write_text(json.dumps(ROWS)),
    "JSON object by id": lambda folder: (folder / "train.json").write_text(json.dumps(dict(enumerate(ROWS)))),
    "JSON lines": lambda folder: (folder / "train.jsonl").write_bytes(LINES),
    "JSON lines, gzip": lambda folder: (folder / "train.jsonl.gz").write_bytes(gzip.compress(LINES)),
    "JSON lines in UTF-16": lambda folder: (folder / "train.jsonl").write_bytes(LINES.decode().encode("utf-16")),
    "JSON columns of pandas": lambda folder: pd.DataFrame(ROWS).to_json(folder / "train.json"),
    "CSV": lambda folder: (folder / "train.csv").write_bytes(table(",")),
    "CSV in Windows-1252": lambda folder: (folder / "train.csv").write_bytes(
        table(",").replace(b"?", "? (größe)".encode("cp1252"))
    ),
    "TSV": lambda folder: (folder / "train.tsv").write_bytes(table("\t")),
    "metadata.csv": lambda folder: (folder / "metadata.csv").write_bytes(table(",").replace(b"image,", b"file_name,")),
    "metadata.csv among the pictures": lambda folder: (folder / "images" / "metadata.csv").write_bytes(
        table(",").replace(b"image,", b"file_name,").replace(b"images/", b"")
    ),
    "Parquet": lambda folder: embedded().to_parquet(folder / "train.parquet"),
    "Arrow": lambda folder: embedded().save_to_disk(folder / "saved"),
    "WebDataset": lambda folder: archive(folder / "train-00000.tar"),
    "pickle": lambda folder: (folder / "train.pkl").write_bytes(b"\x80\x04N."),
}


def audit(folder: Path) -> int:
    return len(prepare_rows(read_data_config(dataset=str(folder), test_share=0)).roles["train"])


def train(folder: Path) -> int:
    return len(load_rows(read_data_config(dataset=str(folder), test_share=0)).train)


def evaluate(folder: Path) -> int:
    """The test rows, and the one that is left to train on."""
    return len(load_held_out(read_data_config(dataset=str(folder), test_rows=NUM - 1), "test").rows) + 1


def upload(folder: Path) -> int:
    packed = folder.parent / "upload.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    kept = 0
    with opened([(packed, "upload.zip")], folder.parent / "sets") as rows:
        for cells, folders in rows.rows(rows.splits[0], {}):
            kept += not isinstance(cells, Refusal) and seen(cells, folders).refusal is None
    return kept


def from_the_hub(hub: Hub) -> Callable[[Path], int]:
    """What an audit keeps of the same files in a repository of the Hub."""

    def read(folder: Path) -> int:
        name = f"owner/set-{folder.parent.name}"
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hub.repo("dataset", name).commit(files)
        return len(prepare_rows(read_data_config(dataset=name, test_share=0)).roles["train"])

    return read


WAYS: dict[str, Callable[[Path], int]] = {"`audit`": audit, "`train`": train, "`evaluate`": evaluate, "upload": upload}


def result(read: Callable[[Path], int], folder: Path) -> str:
    try:
        return f"{read(folder)} of {NUM}"
    except UserError:
        return "refused"


@pytest.mark.usefixtures("home", "hub_client")
def test_the_table_of_the_document(tmp_path: Path, hub: Hub) -> None:
    datasets.disable_progress_bars()
    ways = WAYS | {"from the Hub": from_the_hub(hub)}
    found = ["| format | " + " | ".join(ways) + " |", "| --- |" + " --- |" * len(ways)]
    for number, (name, make) in enumerate(FORMATS.items()):
        folder = tmp_path / str(number) / "set"
        (folder / "images").mkdir(parents=True)
        if name not in ("Parquet", "Arrow", "WebDataset"):
            for n in range(NUM):
                (folder / "images" / f"{n}.png").write_bytes(picture(n))
        make(folder)
        found.append(f"| {name} | " + " | ".join(result(read, folder) for read in ways.values()) + " |")
    text = "\n".join(found)
    assert text in DOCUMENT.read_text(encoding="utf-8"), f"write this table into docs/data.md:\n{text}"
