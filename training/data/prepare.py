"""A dataset read once: every row checked and cleaned, and the clean ones kept in a file that is memory-mapped.

Rows stream through, a few at a time, so that a dataset larger than memory can be read. What was prepared is kept under
`LOOKTHINK_HOME/data` and used again while neither the dataset nor the settings change.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS
from training.config.data_config import COLUMNS, DataConfig
from training.data.clean_row import CleanRow, Refusal, clean_row
from training.data.dropped import Drop, Dropped
from training.data.source import RawRow, Source, column_mapping, digest
from training.data.splits import ROLES, Allotment, Place

VERSION = 1
"""Raise it when rows are cleaned in another way, so that what was kept before is not used again."""
FACTS = ("width", "height", "original_pixels", "picture_digest", "row_digest")
"""Columns of a prepared row that are about it, not part of it."""
WORKERS = min(4, os.cpu_count() or 1)
_FLUSH_ROWS, _FLUSH_BYTES = 64, 32 * 2**20
_STALE_SECONDS = 24 * 3600
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Prepared:
    """The clean rows, which of them belong where, and what was dropped."""

    rows: Dataset
    """The columns of a row, `row_id`, and `FACTS`, in the order read."""
    roles: dict[str, list[int]]
    """For each role the indices of its rows, in the order in which they are used."""
    dropped: Dropped
    about: dict[str, Any]
    """The dataset, its commit, and the rows that each role was allotted."""

    def role(self, name: str) -> Dataset:
        """The rows of a role, facts included."""
        return self.rows.select(self.roles[name])


def prepare(config: DataConfig, source: Source, allotment: Allotment, home: Path, progress: bool = False) -> Prepared:
    """Read and clean the allotted rows, or take them from an earlier time."""
    folder = home / "data" / _key(config, source, allotment)
    if not (folder / "state.json").is_file():
        with _written(folder) as partial:
            _write(config, source, allotment, partial, progress)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Prepared(
        Dataset.from_file(str(folder / "rows.arrow")),
        state["roles"],
        Dropped([Drop(**drop) for drop in state["dropped"]]),
        state["about"],
    )


def _key(config: DataConfig, source: Source, allotment: Allotment) -> str:
    settings = config.model_dump_json(exclude={"max_prompt_tokens"})
    parts = [str(VERSION), source.identity, settings, repr(sorted(allotment.places.items()))]
    return digest([part.encode() for part in parts])


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """A new folder that gets its name when it is complete; a kill leaves nothing that looks complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
        try:
            yield partial
            try:
                partial.rename(folder)
            except OSError:  # another process was faster: its folder is as good
                if not (folder / "state.json").is_file():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full: the dataset's rows do not fit under {folder.parent}. Free some space, or set "
            "LOOKTHINK_HOME to a larger disk."
        ) from error


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind."""
    for left in folder.glob("partial-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _write(config: DataConfig, source: Source, allotment: Allotment, folder: Path, progress: bool) -> None:
    index: dict[Place, int] = {}
    digests: dict[Place, str] = {}
    refused: dict[Place, Refusal] = {}
    extras = _extra_columns(config, source, allotment)
    with _Writer(folder / "rows.arrow", extras) as writer:
        for place, row in _clean(config, source, allotment, progress):
            if isinstance(row, Refusal):
                refused[place] = row
            else:
                index[place], digests[place] = len(index), row.row_digest
                writer.add(row, f"{place[0]}-{place[1]:06d}-{row.row_digest[:8]}")
    dropped = [
        Drop(role, _name(place), refused[place].reason, refused[place].detail)
        for role in ROLES
        for place in allotment.places[role]
        if place in refused
    ]
    if not index:
        raise UserError(f"No row of {config.dataset} can be used: {Dropped(dropped)}. First: {dropped[0].detail}.")
    kept = {role: [place for place in allotment.places[role] if place in index] for role in ROLES}
    dropped += _drop_leaks(kept, digests)
    name = Path(config.dataset).name if config.source_kind == "local" else config.dataset  # a path means nothing elsewhere
    about = {"dataset": name, "revision": source.revision, "allotted": allotment.sizes}
    roles = {role: [index[place] for place in places] for role, places in kept.items()}
    state = {"about": about, "roles": roles, "dropped": Dropped(dropped).to_json()}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _drop_leaks(kept: dict[str, list[Place]], digests: dict[Place, str]) -> list[Drop]:
    """Take out of train what is also in test or validation, and out of validation what is also in test."""
    dropped: list[Drop] = []
    held: dict[str, str] = {}
    for role in ("test", "validation", "train"):
        before = dict(held)
        for place in kept[role]:
            held.setdefault(digests[place], role)
        leaks = [place for place in kept[role] if digests[place] in before]
        dropped += [Drop(role, _name(p), f"also in {before[digests[p]]}", f"row {digests[p][:8]}") for p in leaks]
        kept[role] = [place for place in kept[role] if digests[place] not in before]
    return dropped


def _clean(
    config: DataConfig, source: Source, allotment: Allotment, progress: bool
) -> Iterator[tuple[Place, CleanRow | Refusal]]:
    """Every allotted row once, split by split in the order of the file."""
    limits = DEFAULT_LIMITS.model_copy(update={"max_model_pixels": config.max_pixels})
    wanted = allotment.by_split()
    total = sum(map(len, wanted.values()))
    with tqdm(total=total, desc="reading rows", unit="row", disable=not progress, dynamic_ncols=True) as bar:
        for split, positions in wanted.items():
            mapping = column_mapping(config, source.columns(split))

            def clean(raw: RawRow, mapping: dict[str, str] = mapping) -> CleanRow | Refusal:
                if isinstance(raw.cells, Refusal):
                    return raw.cells
                cells = {ours: raw.cells.get(theirs) for ours, theirs in mapping.items()}
                try:
                    return clean_row(cells, raw.root, limits)
                except Refusal as refusal:
                    return refusal

            for raw, row in _in_order(clean, source.rows(split, positions, list(mapping.values()))):
                bar.update()
                yield (split, raw.position), row


def _in_order(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[tuple[In, Out]]:
    """`work` on each item in a few threads, in order, never more than two items per thread ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[tuple[In, Future[Out]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 2 * WORKERS:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _extra_columns(config: DataConfig, source: Source, allotment: Allotment) -> list[str]:
    """Optional columns that any of the splits has."""
    mapped = {name for split in allotment.by_split() for name in column_mapping(config, source.columns(split))}
    return [name for name in COLUMNS[3:] if name in mapped]


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]"


class _Writer:
    """Clean rows to an Arrow stream on disk, flushed often."""

    def __init__(self, path: Path, extras: list[str]) -> None:
        texts = ["problem", "solution", *extras, "row_id", "picture_digest", "row_digest"]
        numbers = ["width", "height", "original_pixels"]
        columns = {name: Value("string") for name in texts} | {name: Value("int64") for name in numbers}
        self._schema = Features({"image": Image()} | columns).arrow_schema
        self._extras = extras
        self._rows: list[dict[str, Any]] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._sink, self._schema)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._stream.close()
        self._sink.close()

    def add(self, row: CleanRow, row_id: str) -> None:
        """Keep one row."""
        facts = {name: getattr(row, name) for name in FACTS}
        extras = {name: row.extras.get(name) for name in self._extras}
        image = {"bytes": row.picture, "path": None}
        texts = {"problem": row.problem, "solution": row.solution, "row_id": row_id}
        self._rows.append({"image": image} | texts | extras | facts)
        if len(self._rows) >= _FLUSH_ROWS or sum(len(r["image"]["bytes"]) for r in self._rows) > _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []
