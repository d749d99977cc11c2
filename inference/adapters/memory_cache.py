"""The adapters in memory: a few that were asked for lately, whatever number there is on disk.

    shelf = Shelf(engine.read_adapter)
    row = Row(image, question, adapter=record.name, held=shelf.hold(record))

A row brings its adapter along, so what leaves the shelf lives exactly as long as a row needs it; how many live at once
is bounded too.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.record import AdapterRecord
from inference.common.errors import Busy, UserError
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from inference.model.lora_layers import Adapter

MOST = 4
"""Adapters on the shelf, the served one among them."""
MOST_ALIVE = 8
"""Adapters in memory, with those that have left the shelf while rows are answered with them."""
_Key = tuple[Path, tuple[tuple[int, int, int], ...]]


class _Held:
    """An adapter for as long as the shelf or a row refers to this."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter


class Shelf:
    """Adapters by their folder, the least recently asked for leaves first. For several threads."""

    def __init__(self, read: Callable[[Path], Adapter], most: int = MOST, most_alive: int = MOST_ALIVE) -> None:
        """`read` loads a folder's adapter, or raises `UserError`."""
        self._read, self._most, self._most_alive = read, most, most_alive
        self._held: OrderedDict[_Key, _Held] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[_Key, _Held] = weakref.WeakValueDictionary()
        self._served: _Key | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, record: AdapterRecord, *, serve: bool = False) -> Callable[[], Adapter]:
        """The adapter as `Row.held` takes it; loaded now, by the caller's thread, unless it is here already.

        With `serve` it stays until another one is served. Raises `UserError` if it cannot be served or has gone, and
        `Busy` if rows are answered with too many others just now.
        """
        key = _key(record)
        held = self._look_up(key)
        if held is None:
            with self._loading:  # one at a time: two visitors may ask for the same one
                held = self._look_up(key) or self._load(record, key, serve)
        if serve:
            with self._lock:
                self._served = key
        return lambda: held.adapter

    def _load(self, record: AdapterRecord, key: _Key, serve: bool) -> _Held:
        if len(self._alive) >= self._most_alive and not serve:
            raise Busy(
                f"Questions to {self._most_alive} adapters are being answered, as many as are kept in memory. Ask "
                "again in a minute, or choose the adapter that is served."
            )
        held = _Held(self._read(record.path))
        with self._lock:
            self._alive[key] = held
            self._put(key, held)
        return held

    def _look_up(self, key: _Key) -> _Held | None:
        with self._lock:
            held = self._alive.get(key)
            if held is not None:
                self._put(key, held)
            return held

    def _put(self, key: _Key, held: _Held) -> None:
        """To the front of the shelf; the caller holds the lock."""
        self._held[key] = held
        self._held.move_to_end(key)
        others = [other for other in self._held if other not in (key, self._served)]
        for other in others[: max(0, len(self._held) - self._most)]:
            del self._held[other]


def _key(record: AdapterRecord) -> _Key:
    """Another one when the files have changed."""
    try:
        states = [(record.path / name).stat() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    except OSError as error:
        raise UserError(f"The adapter {record.name} is no longer on this machine. Choose another one.") from error
    return record.path, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
