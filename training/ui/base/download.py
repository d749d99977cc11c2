"""A folder, of a run or an adapter, as one ZIP file, behind a link that works once and for a minute.

    address = downloads.address(record)     # in a handler that has checked the caller
    routes = downloads.routes()             # GET /admin/archive/<secret>, for the app's server

A link that a browser follows carries no `Origin` and, on a Space, no login that a plain route could read. So the
check is made when the link is given out, and the secret (256 random bits) is all that the address holds. The file is
made while it is sent, in bounded memory.
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

LINK_SECONDS = 60
MAX_LINKS = 32
_CHUNK_BYTES = 1 << 20
_EXPIRED = "This link has been used or is older than a minute. Press Download again."


class Downloads:
    """Gives out links to folders, and serves them."""

    def __init__(self) -> None:
        self._links: dict[str, tuple[float, Path]] = {}
        self._lock = threading.Lock()

    def address(self, record: RunRecord) -> str:
        """A new link to the run's folder, relative to the page."""
        return self.folder_address(record.folder)

    def folder_address(self, folder: Path) -> str:
        """A new link to a folder's plain files as one ZIP."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._links[secret] = (time.monotonic() + LINK_SECONDS, folder)
            for oldest in list(self._links)[:-MAX_LINKS]:
                del self._links[oldest]
        return f"admin/archive/{secret}"

    def routes(self) -> list[Route]:
        """For the app's server."""

        def fetch(request: Request) -> Response:
            with self._lock:
                until, folder = self._links.pop(request.path_params["secret"], (0.0, None))
            if folder is None or time.monotonic() > until:
                return PlainTextResponse(_EXPIRED, 404)
            name = f"attachment; filename*=UTF-8''{quote(folder.name, safe='')}.zip"
            headers = {"content-disposition": name, "cache-control": "no-store"}
            return StreamingResponse(zipped(folder), media_type="application/zip", headers=headers)

        return [Route("/admin/archive/{secret}", fetch)]


class _Sink:
    """A stream that `zipfile` writes into and cannot seek in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do; `zipfile` calls it."""

    def take(self) -> bytes:
        """All that was written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data


def zipped(folder: Path) -> Iterator[bytes]:
    """The folder as a ZIP file, piece by piece; plain files only, never the target of a link."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in _files(folder):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            try:
                entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                source = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
            except (OSError, OverflowError):  # deleted or replaced meanwhile, or a time beyond all years
                continue
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(_CHUNK_BYTES):
                    target.write(piece)
                    yield sink.take()
    yield sink.take()


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield path
