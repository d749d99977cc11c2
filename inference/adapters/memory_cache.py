"""The cache of adapters in memory: the few that were asked for last, however many there are on disk.

    cache = AdapterCache(engine.read_adapter)
    request = Request(image, question, adapter=record.name, get_adapter=cache.hold(record))

A request brings its adapter along, so an adapter that leaves the cache lives exactly as long as requests need it. The
number of adapters alive at once is bounded too.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.record import AdapterRecord
from inference.common.errors import Busy, UserError
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from inference.model.lora_layers import Adapter

MAX_CACHED = 4
"""Adapters in the cache, the served one among them."""
MAX_ALIVE = 8
"""Adapters in memory, with those that have left the cache while requests still use them."""
_Key = tuple[Path, tuple[tuple[int, int, int], ...]]


@dataclass(eq=False)
class _Loaded:
    """Keeps an adapter alive while the cache or a request refers to this; a plain dict takes no weak reference."""

    adapter: Adapter


class AdapterCache:
    """Adapters by folder; the least recently requested one leaves first. Thread-safe."""

    def __init__(
        self, read: Callable[[Path], Adapter], max_cached: int = MAX_CACHED, max_alive: int = MAX_ALIVE
    ) -> None:
        """`read` loads a folder's adapter, or raises `UserError`."""
        self._read, self._max_cached, self._max_alive = read, max_cached, max_alive
        self._cached: OrderedDict[_Key, _Loaded] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[_Key, _Loaded] = weakref.WeakValueDictionary()
        self._served: _Key | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        return len(self._cached)

    def hold(self, record: AdapterRecord, *, serve: bool = False) -> Callable[[], Adapter]:
        """Load an adapter, on the caller's thread, unless it is in memory. The function returned keeps it alive.

        With `serve` it stays in the cache until another one is served. Raises `UserError` if it cannot be served or is
        gone, and `Busy` if too many other adapters are in use.
        """
        key = _key(record)
        loaded = self._look_up(key)
        if loaded is None:
            with self._loading:  # one at a time: two visitors may ask for the same one
                loaded = self._look_up(key) or self._load(record, key, serve)
        if serve:
            with self._lock:
                self._served = key
        return lambda: loaded.adapter

    def _load(self, record: AdapterRecord, key: _Key, serve: bool) -> _Loaded:
        if len(self._alive) >= self._max_alive and not serve:
            raise Busy(
                f"Questions to {self._max_alive} adapters are being answered, as many as are kept in memory. Ask "
                "again in a minute, or choose the adapter that is served."
            )
        loaded = _Loaded(self._read(record.path))
        with self._lock:
            self._alive[key] = loaded
            self._put(key, loaded)
        return loaded

    def _look_up(self, key: _Key) -> _Loaded | None:
        with self._lock:
            loaded = self._alive.get(key)
            if loaded is not None:
                self._put(key, loaded)
            return loaded

    def _put(self, key: _Key, loaded: _Loaded) -> None:
        """Make it the most recent one; the caller holds the lock."""
        self._cached[key] = loaded
        self._cached.move_to_end(key)
        others = [other for other in self._cached if other not in (key, self._served)]
        for other in others[: max(0, len(self._cached) - self._max_cached)]:
            del self._cached[other]


def _key(record: AdapterRecord) -> _Key:
    """The folder and the state of its files, so that changed files are another key."""
    try:
        states = [(record.path / name).stat() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    except OSError as error:
        raise UserError(f"The adapter {record.name} is no longer on this machine. Choose another one.") from error
    return record.path, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
