"""Cleans the rows of a dataset once, and writes them to a file that is then memory-mapped.

Rows are read a few at a time, so that a dataset may be larger than memory. The files are under `LOOKTHINK_HOME/data`
and are used again as long as neither the dataset nor the settings that decide a clean row change.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, Features, Image, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json, read_json, write_json
from inference.common.hub_errors import HubError
from inference.common.settings import DEFAULT_LIMITS, Limits
from training.config.data_config import COLUMNS, DataConfig
from training.data.clean_row import CleanRow, clean_row
from training.data.formats import RowShape
from training.data.pictures import MORE_IMAGES, read_pictures
from training.data.prepared_copies import ABOUT, PARTIAL, held, identity_of, make_room
from training.data.refusals import Drop, Dropped, Refusal
from training.data.source import RawRow, Source, digest, row_shapes
from training.data.splits import ROLES, RowAssignment, RowKey

VERSION = 9
"""Raise it when cleaning changes, so that files of an earlier version are not used."""
FACTS = ("sizes", "original_pixels", "earlier_turns", "picture_digest", "look", "row_digest")
"""Columns that describe a row and are not part of it: those of `CleanRow`."""
READING = "reading.json"
"""The reading of a copy's rows: in words, by split, and the doubts about it."""
OTHERS = "other_columns"
"""The column with all that a row has beside our columns, as a JSON object, for reward functions."""
MAX_CELL_CHARS = 100_000
"""A longer cell of another column is left out, and so is what JSON cannot hold."""
WORKERS = min(4, os.cpu_count() or 1)
BATCH_ROWS = 16
"""Clean rows in memory before they are written."""
DOWNLOADS = 8
"""Rows whose pictures are downloaded at once."""
PART_ROWS = 1_000
"""Rows of a file; a process that is killed loses those of one."""
MAX_STATE_BYTES = 64_000_000
CLEANING = ("columns", "max_pixels", "drop_unreadable", "image_root")
"""Settings that decide the clean rows."""
log = logging.getLogger(__name__)
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Part:
    """A file of rows that is whole, and what became of the rows that were read for it."""

    kept: list[RowKey]
    refused: dict[RowKey, Refusal]
    has_several: bool
    """True if a row has several pictures."""
    rows: Dataset


@dataclass(frozen=True)
class Prepared:
    """The clean rows, their split into train, validation and test, and the dropped rows."""

    rows: Dataset
    """The columns of a row, `row_id`, and `FACTS`, in the order of reading."""
    roles: dict[str, list[int]]
    """For each of `ROLES` the indices of its rows, in the order of use."""
    dropped: Dropped
    about: Json
    """The dataset, its commit, the number of rows assigned to each role, and how its rows were read."""

    def role(self, name: str) -> Dataset:
        """The rows of a role, with `FACTS`."""
        return self.rows.select(self.roles[name])


def prepare(
    config: DataConfig, source: Source, assignment: RowAssignment, home: Path, progress: bool = False
) -> Prepared:
    """Reads and cleans the assigned rows, as far as an earlier time has not. Raises `UserError`."""
    positions = [(split, at) for split, found in assignment.by_split().items() for at in found]
    signature = source.signature()
    identity = identity_of(home, signature) or source.identity
    folder = home / "data" / _key(config, identity, positions)
    try:
        with held(folder), _cleared(folder):
            make_room(folder)
            parts = _whole_parts(config, source, folder, positions, progress)
            refused = {key: refusal for part in parts for key, refusal in part.refused.items()}
            kept = [key for part in parts for key in part.kept]
            if not kept:
                raise _nothing_left(config, assignment, refused)
            about = {"dataset": shown_name(config), "rows": len(positions), "parts": len(parts)}
            write_json(folder / ABOUT, about | {"identity": identity, "signature": signature})  # its time: the last use
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full: the dataset's rows do not fit under {folder.parent}. Free some space, delete copies "
            "(`python -m training data`), or set LOOKTHINK_HOME to a larger disk."
        ) from error
    rows = concatenate_datasets([part.rows for part in parts if part.kept])
    if not any(part.has_several for part in parts):
        rows = rows.remove_columns(MORE_IMAGES)
    prepared = _with_roles(config, source, assignment, rows, kept, refused)
    return replace(prepared, about=prepared.about | {"reading": read_json(folder / READING)})


@contextmanager
def _cleared(folder: Path) -> Iterator[None]:
    """Deletes the copy of a dataset that turns out to be unusable, and one of which no part is written yet."""
    try:
        yield
    except BaseException as error:
        is_unusable = isinstance(error, UserError) and not isinstance(error, HubError)
        if is_unusable or not any(folder.glob("state-*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _with_roles(
    config: DataConfig,
    source: Source,
    assignment: RowAssignment,
    rows: Dataset,
    kept: list[RowKey],
    refused: Mapping[RowKey, Refusal],
) -> Prepared:
    """The rows by role, without those that are in two of them."""
    index = {key: at for at, key in enumerate(kept)}
    dropped = [
        Drop(role, _name(key), refused[key].reason, refused[key].detail)
        for role in ROLES
        for key in assignment.keys[role]
        if key in refused
    ]
    keys_by_role = {role: [key for key in assignment.keys[role] if key in index] for role in ROLES}
    if config.drop_repeats:
        dropped += _drop_leaks(keys_by_role, dict(zip(kept, rows["row_digest"])))
    about = {"dataset": shown_name(config), "revision": source.revision, "allotted": assignment.sizes}
    roles = {role: [index[key] for key in keys] for role, keys in keys_by_role.items()}
    return Prepared(rows, roles, Dropped(dropped), about)


def _nothing_left(config: DataConfig, assignment: RowAssignment, refused: Mapping[RowKey, Refusal]) -> UserError:
    dropped = [
        Drop(role, _name(k), refused[k].reason, refused[k].detail) for role in ROLES for k in assignment.keys[role]
    ]
    return UserError(
        f"No row of {config.dataset} can be used: {Dropped(dropped)}. First: {dropped[0].detail.rstrip('.')}."
    )


def shown_name(config: DataConfig) -> str:
    return (
        Path(config.dataset).name if config.source_kind == "local" else config.dataset
    )  # a path means nothing elsewhere


def _key(config: DataConfig, identity: str, positions: Sequence[RowKey]) -> str:
    """A digest of all that decides the clean rows; how they are split, ordered and filtered later does not."""
    settings = config.model_dump_json(include=set(CLEANING))
    parts = [str(VERSION), str(PART_ROWS), identity, settings, repr(positions)]
    return digest([part.encode() for part in parts])


def _rows_file(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.arrow"


def _state_file(folder: Path, number: int) -> Path:
    return folder / f"state-{number:05d}.json"


def read_part(folder: Path, number: int) -> Part | None:
    """A part; `None` for one that is missing or damaged, which is then made anew."""
    state, file = read_json(_state_file(folder, number), MAX_STATE_BYTES), _rows_file(folder, number)
    try:
        if state is None or file.stat().st_size != state["bytes"]:
            return None
        kept = [(str(split), int(at)) for split, at in state["kept"]]
        refused = {(str(split), int(at)): Refusal(*refusal) for split, at, refusal in state["refused"]}
        rows = Dataset.from_file(str(file))
        return Part(kept, refused, bool(state["several"]), rows) if len(rows) == len(kept) else None
    except (OSError, pa.ArrowException, LookupError, ValueError, TypeError):  # half of it, or of another program
        return None


def _whole_parts(
    config: DataConfig, source: Source, folder: Path, positions: Sequence[RowKey], progress: bool
) -> list[Part]:
    """All parts; those that are not there yet, or not whole, are written first."""
    keys = [positions[first : first + PART_ROWS] for first in range(0, len(positions), PART_ROWS)]
    found = [read_part(folder, number) for number in range(len(keys))]
    _write_parts(config, source, folder, keys, [number for number, part in enumerate(found) if part is None], progress)
    parts = [part or read_part(folder, number) for number, part in enumerate(found)]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(keys):
        raise UserError(f"The disk under {folder.parent} does not keep what is written to it. Check it.")
    return whole


def _write_parts(
    config: DataConfig,
    source: Source,
    folder: Path,
    parts: Sequence[Sequence[RowKey]],
    missing: Sequence[int],
    progress: bool,
) -> None:
    """Writes the missing parts, each whole or not at all, so that a killed process loses one at most."""
    if not missing and (folder / READING).exists():
        return
    splits = list(dict.fromkeys(split for part in parts for split, _ in part))
    shapes = row_shapes(config, source, splits)
    for split, shape in shapes.items():
        log.info("%s of %s: %s", split, config.dataset, shape.words)
    doubts = list(dict.fromkeys(doubt for shape in shapes.values() for doubt in shape.doubts))
    for doubt in doubts:
        log.warning("%s: %s", config.dataset, doubt)
    words = {split: shape.words for split, shape in shapes.items()}
    write_json(folder / READING, {"words": words, "doubts": doubts})
    features = _features(source, shapes)
    done = sum(map(len, parts)) - sum(len(parts[number]) for number in missing)
    total = sum(map(len, parts))
    with tqdm(
        total=total, initial=done, desc="reading rows", unit="row", disable=not progress, dynamic_ncols=True
    ) as bar:
        keys = [key for number in missing for key in parts[number]]
        rows = _counted(_clean(config, source, keys, shapes), bar)  # in one pass: a row group is read once
        for number in missing:
            _write_part(folder, number, features, itertools.islice(rows, len(parts[number])))


def _counted(items: Iterable[In], bar: tqdm[Any]) -> Iterator[In]:
    for item in items:
        bar.update()
        yield item


def _write_part(
    folder: Path, number: int, features: Features, rows: Iterable[tuple[RowKey, CleanRow | Refusal]]
) -> None:
    kept: list[RowKey] = []
    has_several = False
    refused: list[tuple[str, int, tuple[str, str]]] = []
    partial = folder / f"{PARTIAL}{number:05d}.arrow"
    try:
        with ArrowWriter(path=str(partial), features=features, writer_batch_size=BATCH_ROWS) as writer:
            for key, row in rows:
                if isinstance(row, Refusal):
                    refused.append((*key, (row.reason, row.detail)))
                else:
                    kept.append(key)
                    has_several |= len(row.pictures) > 1
                    writer.write(_columns(row, f"{key[0]}-{key[1]:06d}-{row.row_digest[:8]}", features))
            writer.finalize()
        size = partial.stat().st_size
        partial.replace(_rows_file(folder, number))
        state = {"bytes": size, "kept": kept, "refused": refused, "several": has_several}
        write_json(_state_file(folder, number), state, indent=None)
    finally:
        partial.unlink(missing_ok=True)


def _features(source: Source, shapes: Mapping[str, RowShape]) -> Features:
    """The columns of `rows.arrow`, with the optional ones that any of the splits has."""
    mapped = {ours for shape in shapes.values() for ours, _ in shape.others}
    extras = [name for name in COLUMNS[3:] if name in mapped]
    if any(_others(source, split, shape) for split, shape in shapes.items()):
        extras.append(OTHERS)
    texts = ["problem", "solution", *extras, "row_id", *FACTS[3:]]
    columns = {name: Value("string") for name in texts} | {name: Value("int64") for name in FACTS[1:3]}
    return Features({"image": Image(), MORE_IMAGES: List(Image()), "sizes": List(Value("int64"))} | columns)


def _columns(row: CleanRow, row_id: str, features: Features) -> dict[str, object]:
    """A clean row as a row of `rows.arrow`."""
    first, *others = ({"bytes": picture, "path": None} for picture in row.pictures)
    values: dict[str, object] = {"image": first, MORE_IMAGES: others, "row_id": row_id}
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
    config: DataConfig, source: Source, keys: Sequence[RowKey], shapes: Mapping[str, RowShape]
) -> Iterator[tuple[RowKey, CleanRow | Refusal]]:
    """Cleans these rows, split by split, in the order of the file."""
    most = config.max_pixels or DEFAULT_LIMITS.max_pixels  # more than that is refused
    limits = DEFAULT_LIMITS.model_copy(update={"max_model_pixels": most})
    for split, group in itertools.groupby(keys, key=lambda key: key[0]):
        positions = [at for _, at in group]
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

        rows = _brought(source.rows(split, positions, source.columns(split)), shape, limits)
        for raw, row in _in_order(clean, rows):
            yield (split, raw.position), row


def _brought(rows: Iterator[RawRow], shape: RowShape, limits: Limits) -> Iterator[RawRow]:
    """The rows, each once its pictures are here, if they must be downloaded."""

    def bring(raw: RawRow) -> None:
        if not isinstance(raw.cells, Refusal):
            with suppress(Refusal):  # which cleaning meets again
                deque(read_pictures(shape.cells(raw.cells)["image"], raw.folders, limits), maxlen=0)

    first = list(itertools.islice(rows, 1))
    rows = itertools.chain(first, rows)
    if any(raw.folders is not None and raw.folders.fetch is not None for raw in first):
        rows = (raw for raw, _ in _in_order(bring, rows, DOWNLOADS))
    return rows


def _in_order(work: Callable[[In], Out], items: Iterable[In], threads: int = WORKERS) -> Iterator[tuple[In, Out]]:
    """Calls `work` on each item in a few threads; results come in order, at most two items per thread ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[In, Future[Out]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 2 * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _name(key: RowKey) -> str:
    return f"{key[0]}[{key[1]}]"
