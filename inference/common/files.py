"""Files: written whole, appended to by lines, and locked across the processes of the machine.

    write_whole(folder / "record.json", text)
    with exclusive(home / "served.lock", wait_seconds=10):
        ...

After a kill at any moment, and for any reader, a file has its old content or its new content, never half of one.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from inference.common.errors import UserError

__all__ = [
    "Json",
    "Timeout",
    "append_line",
    "changing",
    "exclusive",
    "json_object",
    "read_json",
    "read_lines",
    "sync_folder",
    "write_json",
    "write_whole",
]

Json = dict[str, Any]
"""A JSON object."""


def write_whole(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Replaces a file by `content` (text as UTF-8), on the disk when this returns; `mode` are its rights."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:  # such as a full disk, where each byte counts
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_names(path.parent)


def write_json(path: Path, value: object, indent: int | None = 1) -> None:
    """Replaces a file by a value as JSON."""
    write_whole(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def append_line(path: Path, row: Json) -> None:
    """Adds one line of JSON and hands it to the system at once."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def json_object(text: str | bytes) -> Json | None:
    """The JSON object that a text is; `None` for any other text, also one that is nested too deep or is not UTF-8."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_json(path: Path, max_bytes: int = 1_000_000) -> Json | None:
    """A JSON object of at most `max_bytes`; `None` if there is none or it cannot be read."""
    try:
        with path.open("rb") as file:
            return json_object(file.read(max_bytes))
    except OSError:
        return None


def read_lines(path: Path) -> Iterator[Json]:
    """The JSON objects in a file of lines; a line that is cut short or no object is skipped."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (row := json_object(line)) is not None:
                yield row


def sync_folder(folder: Path) -> None:
    """Puts the files of a folder, and their names, on the disk."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_names(folder)


def _sync_names(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def exclusive(path: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the lock file `path`; it ends with the block, or with the process, however that ends.

    Raises `Timeout` where another process or thread holds it for longer than `wait_seconds` (negative: no limit).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, timeout=wait_seconds):
        yield


CHANGE_SECONDS = 20.0
"""Time that a change to a folder waits for another one."""


@contextmanager
def changing(folder: Path, what: str) -> Iterator[None]:
    """Holds the lock of a folder while `what` ("the sets") in it is changed, in all processes of this home.

    Raises `UserError` where another change takes longer than `CHANGE_SECONDS`, and for an error of the disk.
    """
    try:
        with exclusive(folder / ".lock", CHANGE_SECONDS):
            yield
    except Timeout as error:
        raise UserError(f"Another change to {what} is under way. Try again in a moment.") from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if is_full else str(error.strerror or error)
        raise UserError(
            f"{what[:1].upper()}{what[1:]} cannot be written: {why}. Free some space in {folder}."
        ) from error
