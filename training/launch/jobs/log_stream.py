"""A run's records through the log of its Job: written there line by line, and put together again at home.

    Teller(folder, launch).tell()               # inside the Job, again and again: what is new in the run's folder
    Listener(folder, launch).take(line)         # at home, each line of the log, in order

What the trainer prints stands in the log as it is and becomes `output.log`. A record's line begins with `MARK` and the
name of the start, which no text of a model knows, and holds a piece of a file as JSON: so a piece can be told again,
and is known where it was before. No line is longer than what container logs keep whole (16 KB).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from inference.common.files import write_whole
from training.runs.outcome import EXIT, OUTPUT
from training.runs.recovery import read_json

MARK = "@lookthink"
MIRRORED = "mirrored.json"
"""In the run folder of a Job: the newest checkpoint's step that is in the bucket."""
GROWING = ("metrics.jsonl", "rollouts.jsonl", "changes.jsonl")
WHOLE = ("status.json", "hours.json", "versions.json", MIRRORED, EXIT)
"""Small files, told anew when they have changed; how it ended comes last."""
MAX_PIECE_CHARS = 1_300
"""Below 16 KB as JSON, however many of its characters are escaped."""
MAX_WHOLE_BYTES = 100_000
MAX_FILE_BYTES = 500_000_000
"""So much of a file is taken from a log at most."""
_TAIL_BYTES = 262_144
"""Of the rollouts so far a new start tells this much; all of them are in the bucket."""
_READ_BYTES = 1 << 20


class Teller:
    """Tells what is new in a run's folder."""

    def __init__(self, folder: Path, launch: str, out: TextIO | None = None) -> None:
        self.folder, self._prefix = folder, f"{MARK} {launch} "
        self._out = out or sys.stdout
        self._at: dict[str, int] = {}
        """How much of each growing file was told."""
        self._open: dict[str, BinaryIO] = {}
        """Kept open, so that no other file gets its inode: one written anew is known by that."""
        self._told: dict[str, bytes] = {}
        self._printed = 0
        with contextlib.suppress(OSError):
            self._printed = (folder / OUTPUT).stat().st_size  # of earlier starts
        self._say({"hello": True})

    def tell(self) -> None:
        """Everything that is new; of what is printed whole lines."""
        self._print()
        for name in GROWING:
            with contextlib.suppress(OSError):
                self._grown(name)
        for name in WHOLE:
            with contextlib.suppress(OSError):
                self._whole(name)
        self._out.flush()

    def _say(self, values: dict[str, Any]) -> None:
        self._out.write(f"{self._prefix}{json.dumps(values)}\n")
        self._out.flush()

    def _print(self) -> None:
        """Of a bar that was drawn over itself what stands there last."""
        with contextlib.suppress(OSError), (self.folder / OUTPUT).open("rb") as file:
            file.seek(self._printed)
            text, end, _ = file.read(_READ_BYTES).rpartition(b"\n")
            self._printed += len(text) + len(end)
            for line in (text.decode(errors="replace") + "\n").split("\n")[:-1] if end else ():
                self._out.write(line.rstrip("\r").rpartition("\r")[2][:MAX_PIECE_CHARS] + "\n")

    def _grown(self, name: str) -> None:
        """The whole lines that were added; of a file that was written anew all of them, and then its size."""
        at, file = self._at.get(name, 0), self._open.get(name)
        about = (self.folder / name).stat()
        is_other = file is None or os.fstat(file.fileno()).st_ino != about.st_ino or about.st_size < at
        if file is None or is_other:
            if file is not None:
                file.close()
            file = self._open[name] = (self.folder / name).open("rb")
            at = _begin(file) if name == "rollouts.jsonl" else 0
        file.seek(at)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._pieces(name, at, line.decode(errors="replace"))
            at += len(line)
        self._at[name] = at
        if is_other:
            self._say({"file": name, "size": at})

    def _pieces(self, name: str, at: int, text: str) -> None:
        """One line of a file; `at` is where it begins, in bytes."""
        for start in range(0, len(text), MAX_PIECE_CHARS):
            piece = text[start : start + MAX_PIECE_CHARS]
            self._say({"file": name, "at": at, "text": piece})
            at += len(piece.encode())

    def _whole(self, name: str) -> None:
        content = (self.folder / name).read_bytes()
        if content == self._told.get(name) or len(content) > MAX_WHOLE_BYTES:
            return
        self._told[name] = content
        text = content.decode(errors="replace")
        pieces = [text[i : i + MAX_PIECE_CHARS] for i in range(0, len(text), MAX_PIECE_CHARS)]
        for number, piece in enumerate(pieces, 1):
            self._say({"file": name, "part": number, "of": len(pieces), "text": piece})


class Listener:
    """Puts a run's folder together from the lines of its Job's log."""

    def __init__(self, folder: Path, launch: str) -> None:
        self.folder, self._prefix = folder, f"{MARK} {launch} "
        self.has_begun = False
        """True once our own code has said a word in the Job."""
        self._gaps: dict[str, int] = {}
        """Of a file whose beginning was not told: how many bytes are missing before it."""
        self._parts: dict[str, list[str]] = {}

    def take(self, line: str) -> None:
        """One line. Raises `OSError` where the disk refuses; a line that makes no sense changes nothing."""
        if not line.startswith(self._prefix):
            if not line.startswith(MARK):
                self._append(OUTPUT, f"{line[:MAX_PIECE_CHARS]}\n".encode(errors="replace"))
            return
        self.has_begun = True
        try:
            values = json.loads(line[len(self._prefix) :])
        except (ValueError, RecursionError):
            return
        if isinstance(values, dict):
            self._take(values)

    def _take(self, values: dict[str, Any]) -> None:
        name, text = values.get("file"), values.get("text")
        at, size = values.get("at"), values.get("size")
        if name in GROWING and isinstance(size, int) and 0 <= size < MAX_FILE_BYTES:
            self._cut(name, size)
        elif name in GROWING and isinstance(at, int) and 0 <= at < MAX_FILE_BYTES and isinstance(text, str):
            self._put(name, at, text.encode(errors="replace"))
        elif name in WHOLE and isinstance(text, str):
            self._collect(name, values.get("part"), values.get("of"), text)

    def _cut(self, name: str, size: int) -> None:
        """The file was written anew and is no longer than this now."""
        path = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + self._gaps.get(name, 0) > size:
                os.truncate(path, max(0, size - self._gaps.get(name, 0)))

    def _put(self, name: str, at: int, data: bytes) -> None:
        """A piece at its place; what stood there otherwise, and after it, goes."""
        path = self.folder / name
        path.touch()
        have, at = path.stat().st_size, at - self._gaps.get(name, 0)
        if at > have or at < 0:  # the log begins later than the file: what comes from here on stands alone
            self._gaps[name] = self._gaps.get(name, 0) + at
            os.truncate(path, 0)
            have, at = 0, 0
        with path.open("r+b") as file:
            file.seek(at)
            if at < have and file.read(len(data)) == data:
                return
            file.seek(at)
            file.truncate()
            file.write(data)

    def _collect(self, name: str, part: Any, of: Any, text: str) -> None:
        """A small file, written when all of its parts have come."""
        if part == 1:
            self._parts[name] = []
        parts = self._parts.setdefault(name, [])
        parts.append(text)
        if len(parts) == part == of:
            write_whole(self.folder / name, "".join(parts).encode(errors="replace").decode())

    def _append(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            if file.tell() < MAX_FILE_BYTES:
                file.write(data)


class Place:
    """How much of a Job's log was taken, kept in the run's folder: after a restart the rest is."""

    def __init__(self, folder: Path, job_id: str) -> None:
        self._path, self._job = folder / "job.json", job_id
        said = read_json(self._path) or {}
        lines = said.get("lines")
        is_same = said.get("job") == job_id and isinstance(lines, int)
        self.lines = int(lines or 0) if is_same else 0
        self.has_begun = is_same and said.get("has_begun") is True

    def keep(self, lines: int, has_begun: bool) -> None:
        """Raises `OSError`."""
        self.lines, self.has_begun = lines, has_begun
        write_whole(self._path, json.dumps({"job": self._job, "lines": lines, "has_begun": has_begun}))


def _begin(file: BinaryIO) -> int:
    """Where the last lines of a long file begin."""
    size = file.seek(0, os.SEEK_END)
    if size <= _TAIL_BYTES:
        return 0
    file.seek(size - _TAIL_BYTES)
    file.readline()
    return file.tell()
