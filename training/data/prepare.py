"""Cleans the rows of a dataset once, and writes them to a file that is then memory-mapped.

Rows are read a few at a time, so that a dataset may be larger than memory. The file is under `LOOKTHINK_HOME/data` and
is used again as long as neither the dataset nor the settings change.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datasets import Dataset, Features, Image, Value
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import DEFAULT_LIMITS
from training.config.data_config import COLUMNS, DataConfig
from training.data.clean_row import CleanRow, clean_row
from training.data.formats import RowShape
from training.data.refusals import Drop, Dropped, Refusal
from training.data.source import RawRow, Source, digest, row_shape
from training.data.splits import ROLES, RowAssignment, RowKey

VERSION = 3
"""Raise it when cleaning changes, so that files of an earlier version are not used."""
FACTS = ("width", "height", "original_pixels", "picture_digest", "look", "row_digest")
"""Columns that describe a row and are not part of it; the first three are numbers."""
OTHERS = "other_columns"
"""The column with all that a row has beside our columns, as a JSON object, for reward functions."""
MAX_CELL_CHARS = 100_000
"""A longer cell of another column is left out, and so is what JSON cannot hold."""
WORKERS = min(4, os.cpu_count() or 1)
BATCH_ROWS = 16
"""Clean rows in memory before they are written."""
_STALE_SECONDS = 24 * 3600
log = logging.getLogger(__name__)
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Prepared:
    """The clean rows, their split into train, validation and test, and the dropped rows."""

    rows: Dataset
    """The columns of a row, `row_id`, and `FACTS`, in the order of reading."""
    roles: dict[str, list[int]]
    """For each of `ROLES` the indices of its rows, in the order of use."""
    dropped: Dropped
    about: Json
    """The dataset, its commit, and the number of rows assigned to each role."""

    def role(self, name: str) -> Dataset:
        """The rows of a role, with `FACTS`."""
        return self.rows.select(self.roles[name])


def prepare(
    config: DataConfig, source: Source, assignment: RowAssignment, home: Path, progress: bool = False
) -> Prepared:
    """Reads and cleans the assigned rows, or opens the file of an earlier time. Raises `UserError`."""
    folder = home / "data" / _key(config, source, assignment)
    if not (folder / "state.json").is_file():
        with _written(folder) as partial:
            _write(config, source, assignment, partial, progress)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Prepared(
        Dataset.from_file(str(folder / "rows.arrow")),
        state["roles"],
        Dropped([Drop(**drop) for drop in state["dropped"]]),
        state["about"],
    )


def _key(config: DataConfig, source: Source, assignment: RowAssignment) -> str:
    settings = config.model_dump_json(exclude={"max_prompt_tokens", "tolerance"})
    parts = [str(VERSION), source.identity, settings, repr(sorted(assignment.keys.items()))]
    return digest([part.encode() for part in parts])


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """A new folder, renamed to `folder` when it is complete, so that a kill leaves nothing that looks complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
        try:
            yield partial
            try:
                partial.rename(folder)
            except OSError:  # another process was faster; its folder is the same
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
    """Removes the partial folders of killed processes."""
    for partial in folder.glob("partial-*"):
        if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)


def _write(config: DataConfig, source: Source, assignment: RowAssignment, folder: Path, progress: bool) -> None:
    index: dict[RowKey, int] = {}
    digests: dict[RowKey, str] = {}
    refused: dict[RowKey, Refusal] = {}
    shapes = {split: row_shape(config, source, split) for split in assignment.by_split()}
    for split, shape in shapes.items():
        log.info("%s of %s: %s", split, config.dataset, shape.words)
    features = _features(source, shapes)
    with ArrowWriter(path=str(folder / "rows.arrow"), features=features, writer_batch_size=BATCH_ROWS) as writer:
        for key, row in _clean(config, source, assignment, shapes, progress):
            if isinstance(row, Refusal):
                refused[key] = row
            else:
                index[key], digests[key] = len(index), row.row_digest
                writer.write(_columns(row, f"{key[0]}-{key[1]:06d}-{row.row_digest[:8]}", features))
        writer.finalize()
    dropped = [
        Drop(role, _name(key), refused[key].reason, refused[key].detail)
        for role in ROLES
        for key in assignment.keys[role]
        if key in refused
    ]
    if not index:
        raise UserError(f"No row of {config.dataset} can be used: {Dropped(dropped)}. First: {dropped[0].detail}.")
    keys_by_role = {role: [key for key in assignment.keys[role] if key in index] for role in ROLES}
    if config.drop_repeats:
        dropped += _drop_leaks(keys_by_role, digests)
    is_local = config.source_kind == "local"  # its path means nothing elsewhere
    name = Path(config.dataset).name if is_local else config.dataset
    about = {"dataset": name, "revision": source.revision, "allotted": assignment.sizes}
    roles = {role: [index[key] for key in keys] for role, keys in keys_by_role.items()}
    state = {"about": about, "roles": roles, "dropped": Dropped(dropped).to_json()}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _features(source: Source, shapes: Mapping[str, RowShape]) -> Features:
    """The columns of `rows.arrow`, with the optional ones that any of the splits has."""
    mapped = {ours for shape in shapes.values() for ours, _ in shape.others}
    extras = [name for name in COLUMNS[3:] if name in mapped]
    if any(_others(source, split, shape) for split, shape in shapes.items()):
        extras.append(OTHERS)
    texts = ["problem", "solution", *extras, "row_id", *FACTS[3:]]
    columns = {name: Value("string") for name in texts} | {name: Value("int64") for name in FACTS[:3]}
    return Features({"image": Image()} | columns)


def _columns(row: CleanRow, row_id: str, features: Features) -> dict[str, object]:
    """A clean row as a row of `rows.arrow`."""
    values: dict[str, object] = {"image": {"bytes": row.picture, "path": None}, "row_id": row_id}
    values |= {name: getattr(row, name) for name in ("problem", "solution", *FACTS)}
    return {name: values[name] if name in values else row.extras.get(name) for name in features}


def _others(source: Source, split: str, shape: RowShape) -> list[str]:
    """The names of a split's columns that are none of ours."""
    used = {*shape.columns, *shape.image, shape.problem, shape.solution}
    return [name for name in source.columns(split) if name not in used]


def _as_json(cells: Mapping[str, object]) -> str:
    """Cells as a JSON object, without those that it cannot hold: pictures, times, very long ones."""
    texts: dict[str, str] = {}
    for name, value in cells.items():
        try:
            texts[name] = json.dumps(value)
        except (TypeError, ValueError):
            continue
    return "{" + ", ".join(f"{json.dumps(n)}: {t}" for n, t in texts.items() if len(t) <= MAX_CELL_CHARS) + "}"


def _drop_leaks(keys_by_role: dict[str, list[RowKey]], digests: dict[RowKey, str]) -> list[Drop]:
    """Removes from train the rows that are in test or validation, and from validation those in test."""
    dropped: list[Drop] = []
    seen: dict[str, str] = {}
    for role in ("test", "validation", "train"):
        before = dict(seen)
        for key in keys_by_role[role]:
            seen.setdefault(digests[key], role)
        leaks = [key for key in keys_by_role[role] if digests[key] in before]
        dropped += [Drop(role, _name(k), f"also in {before[digests[k]]}", f"row {digests[k][:8]}") for k in leaks]
        keys_by_role[role] = [key for key in keys_by_role[role] if digests[key] not in before]
    return dropped


def _clean(
    config: DataConfig,
    source: Source,
    assignment: RowAssignment,
    shapes: Mapping[str, RowShape],
    progress: bool,
) -> Iterator[tuple[RowKey, CleanRow | Refusal]]:
    """Cleans every assigned row once, split by split, in the order of the file."""
    most = config.max_pixels or DEFAULT_LIMITS.max_pixels  # more than that is refused
    limits = DEFAULT_LIMITS.model_copy(update={"max_model_pixels": most})
    by_split = assignment.by_split()
    total = sum(map(len, by_split.values()))
    with tqdm(total=total, desc="reading rows", unit="row", disable=not progress, dynamic_ncols=True) as bar:
        for split, positions in by_split.items():
            shape, others = shapes[split], _others(source, split, shapes[split])

            def clean(raw: RawRow, shape: RowShape = shape, others: list[str] = others) -> CleanRow | Refusal:
                if isinstance(raw.cells, Refusal):
                    return raw.cells
                try:
                    row = clean_row(shape.cells(raw.cells), raw.folders, limits, drop_unreadable=config.drop_unreadable)
                except Refusal as refusal:
                    return refusal
                if others:
                    row.extras[OTHERS] = _as_json({name: raw.cells.get(name) for name in others})
                return row

            for raw, row in _in_order(clean, source.rows(split, positions, source.columns(split))):
                bar.update()
                yield (split, raw.position), row


def _in_order(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[tuple[In, Out]]:
    """Calls `work` on each item in a few threads; results come in order, at most two items per thread ahead."""
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


def _name(key: RowKey) -> str:
    return f"{key[0]}[{key[1]}]"
