"""The adapters in memory: a few that were asked for lately, whatever number there is on disk.

    shelf = Shelf(engine.read_adapter)
    row = Row(image, question, adapter=record.name, held=shelf.hold(record))

A row brings its adapter along, so what leaves the shelf lives exactly as long as a row needs it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterRecord
from inference.errors import UserError

if TYPE_CHECKING:
    from inference.routing import Adapter

MOST = 4
"""Adapters on the shelf, the served one among them."""
_Key = tuple[Path, tuple[tuple[int, int, int], ...]]


class Shelf:
    """Adapters by their folder, the least recently asked for leaves first. For several threads."""

    def __init__(self, read: Callable[[Path], Adapter], most: int = MOST) -> None:
        """`read` loads a folder's adapter, or raises `UserError`."""
        self._read, self._most = read, most
        self._held: OrderedDict[_Key, Adapter] = OrderedDict()
        self._served: _Key | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, record: AdapterRecord, *, serve: bool = False) -> Callable[[], Adapter]:
        """The adapter as `Row.held` takes it; loaded now, by the caller's thread, unless it is here already.

        With `serve` it stays until another one is served. Raises `UserError` if it cannot be served or has gone.
        """
        key = _key(record)
        adapter = self._look_up(key)
        if adapter is None:
            with self._loading:  # one at a time: two visitors may ask for the same one
                adapter = self._look_up(key) or self._read(record.path)
                self._put(key, adapter)
        if serve:
            with self._lock:
                self._served = key
        return lambda: adapter

    def _look_up(self, key: _Key) -> Adapter | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _put(self, key: _Key, adapter: Adapter) -> None:
        with self._lock:
            self._held[key] = adapter
            others = [held for held in self._held if held not in (key, self._served)]
            for held in others[: max(0, len(self._held) - self._most)]:
                del self._held[held]


def _key(record: AdapterRecord) -> _Key:
    """Another one when the files have changed."""
    try:
        states = [(record.path / name).stat() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    except OSError as error:
        raise UserError(f"The adapter {record.name} is no longer on this machine. Choose another one.") from error
    return record.path, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
