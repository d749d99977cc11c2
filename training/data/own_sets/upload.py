"""The rows of an upload: a ZIP, tables with pictures beside them, or pictures alone.

    with opened([(path, "my-charts.zip")], sets.folder) as upload:
        upload.splits, upload.columns("train")
        sets.take_in("charts", upload.rows("train", {"problem": "question"}))

An upload is hostile. It is unpacked into a folder that goes with the block, and only as plain files: links, names that
lead elsewhere, two files of one name and archives that become far larger are refused, all of them, in words.
"""

from __future__ import annotations

import re
import shutil
import stat
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.common.errors import UserError
from training.config.data_config import read_data_config
from training.data.files.file_names import PACKED, is_data_file
from training.data.files.row_files import unpack as unpack_file
from training.data.local_source import LocalSource
from training.data.pictures import Folders
from training.data.refusals import Refusal
from training.data.source import row_shape

MAX_FILES = 20_000
MAX_BYTES = 2 * 10**9
"""Unpacked, all files together."""
MAX_RATIO = 100
"""Bytes unpacked for each byte of the archive, where it becomes larger than `SMALL_BYTES`."""
SMALL_BYTES = 10_000_000
MAX_DEPTH = 10
"""Folders within one another."""
SPARE_BYTES = 10**9
"""Room that stays on the disk."""
STALE_SECONDS = 3_600
"""Age of a folder that a killed process left."""
_PREFIX = ".upload-"
_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK_BYTES = 1 << 20
Row = tuple[Mapping[str, object] | Refusal, Folders | None]
"""A row under our names, and the folders of its picture."""


class Upload:
    """The files of an upload, unpacked."""

    def __init__(self, folder: Path) -> None:
        while len(inside := [path for path in folder.iterdir() if not path.name.startswith((".", "_"))]) == 1:
            if not inside[0].is_dir():
                break
            folder = inside[0]  # a folder that was packed as a whole
        self.folder = folder
        self.words = ""
        """The shape in which the rows were read last."""
        self.has_data = any(is_data_file(path) or path.name == "state.json" for path in folder.rglob("*"))
        self.splits = LocalSource(folder, []).names if self.has_data else ["pictures"]

    def columns(self, split: str) -> list[str]:
        """The names of a split's columns; none where there are pictures alone."""
        return LocalSource(self.folder, [split]).columns(split) if self.has_data else []

    def num_rows(self, split: str) -> int:
        """Number of rows of a split."""
        return LocalSource(self.folder, [split]).sizes[split] if self.has_data else len(self._pictures())

    def rows(self, split: str, columns: Mapping[str, str], limit: int | None = None) -> Iterator[Row]:
        """The rows of a split, the first `limit` or all; `columns` map ours to the upload's, as `DataConfig` does.

        Raises `UserError`; `NoColumn` if a column is missing.
        """
        folders = Folders.of(self.folder)
        if not self.has_data:
            self.words = "pictures alone: type their questions and answers below"
            for path in self._pictures()[:limit]:
                yield {"image": path.relative_to(self.folder).as_posix(), "problem": "", "solution": ""}, folders
            return
        source = LocalSource(self.folder, [split])
        config = read_data_config(dataset="upload", columns=dict(columns))
        shape = row_shape(config, source, split)
        self.words = ". ".join([shape.words, *(doubt.rstrip(".") for doubt in shape.doubts)])
        size = source.sizes[split]
        for raw in source.rows(split, range(size if limit is None else min(limit, size)), source.columns(split)):
            try:
                cells = raw.cells if isinstance(raw.cells, Refusal) else shape.cells(raw.cells)
            except Refusal as refusal:
                cells = refusal
            yield cells if isinstance(cells, Refusal) else self._beside(cells), raw.folders

    def _beside(self, cells: dict[str, object]) -> dict[str, object]:
        """The cells with a picture's path that fits files which were uploaded without their folders."""
        path = cells.get("image")
        if isinstance(path, str) and len(path) < 1_000 and "/" in path and not (self.folder / path).exists():
            name = path.rpartition("/")[2]
            if name and (self.folder / name).is_file():
                return cells | {"image": name}
        return cells

    def _pictures(self) -> list[Path]:
        """All files, in order; what is no picture is refused by its row."""
        paths = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(paths, key=_in_order)


@contextmanager
def opened(files: Sequence[tuple[str | Path, str]], folder: Path) -> Iterator[Upload]:
    """The upload of these files (path, and the name that its sender gave it), for the length of a block.

    `folder` is on the disk where it is unpacked. Raises `UserError`.
    """
    if not files:
        raise UserError("There is no file. Choose a ZIP, a table or pictures first.")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_PREFIX}*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=_PREFIX, dir=folder, ignore_cleanup_errors=True) as name:
        target = Path(name) / "upload"
        target.mkdir()
        archives = [file for file in files if file[1].lower().endswith(".zip")]
        if archives and len(files) > 1:
            raise UserError(f"{archives[0][1][:80]} is a ZIP; upload it alone, with all files inside.")
        try:
            if archives:
                unpack(Path(archives[0][0]), target)
            else:
                _copy(files, target)
            _expand(target)
        except OSError as error:
            raise UserError(f"The upload cannot be kept ({error.strerror or error}). Free some space.") from error
        yield Upload(target)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a ZIP into an empty folder; `UserError` for one that is damaged or hostile."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [(info, _path_of(info)) for info in packed.infolist()]
            files = [(info, name) for info, name in members if not info.is_dir()]
            _check(files, archive.stat().st_size, shutil.disk_usage(folder).free)
            for info, name in files:
                if name.split("/")[0] != "__MACOSX":
                    _write(packed, info, folder / name)
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise UserError("The ZIP is damaged or no ZIP at all. Pack it again.") from error


def _check(files: Sequence[tuple[zipfile.ZipInfo, str]], packed_bytes: int, free_bytes: int) -> None:
    """Raises `UserError` for an archive that is too large, or whose files exclude each other."""
    if len(files) > MAX_FILES:
        raise UserError(f"The ZIP has {len(files):,} files; at most {MAX_FILES:,} are unpacked. Upload it in parts.")
    total = sum(info.file_size for info, _ in files)
    most = min(MAX_BYTES, max(SMALL_BYTES, MAX_RATIO * packed_bytes))
    if total > most:
        raise UserError(
            f"The ZIP of {packed_bytes / 1e6:.1f} MB becomes {total / 1e6:,.0f} MB; at most {most / 1e6:,.0f} MB are "
            "unpacked of it. Upload it in parts."
        )
    if total > free_bytes - SPARE_BYTES:
        raise UserError(f"The ZIP becomes {total / 1e6:,.0f} MB, and the disk has no room for that. Free some space.")
    names = [unicodedata.normalize("NFC", name).casefold() for _, name in files]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"The ZIP has two files {name[:80]!r}. Give each a name of its own.")
        seen.add(name)
    for name in names:
        if any(name[:at] in seen for at, sign in enumerate(name) if sign == "/"):
            raise UserError(f"The ZIP has a file and a folder of one name, {name[:80]!r}. Pack it again.")


def _path_of(info: zipfile.ZipInfo) -> str:
    """The path of a member inside the archive. Raises `UserError` for what must not be unpacked."""
    name, shown = info.orig_filename.replace("\\", "/"), repr(info.orig_filename[:80])
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"The ZIP has a link or a device, {shown}. Pack the files themselves.")
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or _DRIVE.match(name) or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"The ZIP has the name {shown}, which leads out of it. Pack it again.")
    if not name.isprintable() or len(parts) > MAX_DEPTH or any(len(part.encode()) > 200 for part in parts):
        raise UserError(f"The ZIP has the name {shown}, which is too long or no name of a file. Pack it again.")
    if info.flag_bits & 1:
        raise UserError("The ZIP is encrypted. Pack it without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{shown} is packed in a way that is not read. Make an ordinary ZIP.")
    return name


def _write(packed: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpacks one file; never more bytes than its entry says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    with packed.open(info) as source, target.open("xb") as file:
        while piece := source.read(_CHUNK_BYTES):
            num_bytes += len(piece)
            if num_bytes > info.file_size:
                raise zipfile.BadZipFile("longer than its entry says")
            file.write(piece)


def _copy(files: Sequence[tuple[str | Path, str]], folder: Path) -> None:
    """Copies single files under their names."""
    if len(files) > MAX_FILES:
        raise UserError(f"These are {len(files):,} files; at most {MAX_FILES:,} are taken. Upload them in parts.")
    for path, given in files:
        name = given.replace("\\", "/").rpartition("/")[2]
        if name in ("", ".", "..") or not name.isprintable() or len(name.encode()) > 200:
            raise UserError(f"{given[:80]!r} is no name of a file. Rename it.")
        if (folder / name).exists():
            raise UserError(f"There are two files {name[:80]!r}. Give each a name of its own.")
        shutil.copyfile(path, folder / name)


def _expand(folder: Path) -> None:
    """Unpacks the tables in a folder that are compressed each by itself; `UserError` for one that becomes too large."""
    left = MAX_BYTES
    for path in [path for path in folder.rglob("*") if path.suffix.lower() in PACKED and is_data_file(path)]:
        most = min(
            left, max(SMALL_BYTES, MAX_RATIO * path.stat().st_size), shutil.disk_usage(folder).free - SPARE_BYTES
        )
        try:
            with path.with_suffix("").open("xb") as file:
                unpack_file(path, file, most)
                left -= file.tell()
        except FileExistsError:
            raise UserError(f"There are two files {path.stem[:80]!r}, one compressed. Leave one out.") from None
        path.unlink()


def _in_order(path: Path) -> list[str | int]:
    """A key by which 10 comes after 9."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [int(piece) if number % 2 else piece for number, piece in enumerate(pieces)]
