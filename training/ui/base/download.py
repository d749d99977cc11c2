"""A run's folder as one ZIP file, behind an address that works once and for a minute.

    address = archive.address(record)     # in a handler that has checked the caller
    routes = archive.routes()             # GET /admin/archive/<ticket>, for the app's server

A link that a browser follows carries no `Origin` and, on a Space, no login that a plain route could read; so the check
is made where the ticket is given out, and the ticket (256 random bits) is all the address holds. The file is made
while it is sent, in bounded memory.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from training.runs.record import RunRecord

TICKET_SECONDS = 60
MAX_TICKETS = 32
_CHUNK_BYTES = 1 << 20
_GONE = "This link has been used or is older than a minute. Press Download again."


class Archive:
    """Gives out tickets, and the folders they are for."""

    def __init__(self) -> None:
        self._tickets: dict[str, tuple[float, Path]] = {}
        self._lock = threading.Lock()

    def address(self, record: RunRecord) -> str:
        """Where the run's folder can be fetched, once; relative to the page."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[ticket] = (time.monotonic() + TICKET_SECONDS, record.folder)
            for oldest in list(self._tickets)[:-MAX_TICKETS]:
                del self._tickets[oldest]
        return f"admin/archive/{ticket}"

    def routes(self) -> list[Route]:
        """For the app's server."""

        def fetch(request: Request) -> Response:
            with self._lock:
                until, folder = self._tickets.pop(request.path_params["ticket"], (0.0, None))
            if folder is None or time.monotonic() > until:
                return PlainTextResponse(_GONE, 404)
            name = f"attachment; filename*=UTF-8''{quote(folder.name, safe='')}.zip"
            headers = {"content-disposition": name, "cache-control": "no-store"}
            return StreamingResponse(zipped(folder), media_type="application/zip", headers=headers)

        return [Route("/admin/archive/{ticket}", fetch)]


class _Sink:
    """What `zipfile` writes into; it cannot be gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""

    def taken(self) -> bytes:
        """All that was written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data


def zipped(folder: Path) -> Iterator[bytes]:
    """The folder as a ZIP file, piece by piece; plain files only, never what a link in it points to."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in _files(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", _date(path))
            try:
                source = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
            except OSError:  # deleted or replaced meanwhile
                continue
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(_CHUNK_BYTES):
                    target.write(piece)
                    yield sink.taken()
    yield sink.taken()


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _date(path: Path) -> tuple[int, int, int, int, int, int]:
    """In the years that a ZIP file can name, whatever clock the file was written by."""
    try:
        found = time.localtime(path.stat().st_mtime)[:6]
    except (OSError, ValueError, OverflowError):
        found = time.localtime()[:6]
    return (min(max(1980, found[0]), 2107), *found[1:])  # type: ignore[return-value]
