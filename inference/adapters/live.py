"""The adapters of a running app: the served one and the others, kept in step with the home folder.

    adapters = LiveAdapters(settings)          # at once: what is on disk
    adapters.start(engine)                     # loads the served one, then looks for changes on a thread
    name = adapters.offer.served               # of this moment
    request = Request(image, question, adapter=name, get_adapter=adapters.hold(name))

When `served.json` changes (by the page, the command line or a trainer), the new adapter is loaded beside the old one,
and then the default changes in one assignment. Requests made before keep the adapter they brought along.

Memory has the few adapters that were asked for last (`AdapterCache`), however many there are on disk. A request brings
its adapter along, so an adapter that leaves the cache lives exactly as long as requests need it. The number of adapters
alive at once is bounded too.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.hub_cache import REFS, hub_name
from inference.adapters.hub_fetch import fetch_named
from inference.adapters.record import AdapterRecord, available_adapters, named_folder
from inference.adapters.served import FILE, Serving, serving
from inference.adapters.shown import FILE as SHOWN_FILE
from inference.adapters.shown import Shown, read_shown
from inference.common.background import PeriodicTask
from inference.common.errors import Busy, UserError
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from inference.prompt.format import THINK_PROMPT

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.model.lora_layers import Adapter

LOOK_SECONDS = 0.5
"""Between two looks at the home folder; each reads the state of a few hundred files."""
_WATCHED = (
    FILE,
    SHOWN_FILE,
    *(f"{folder}/*.{ending}" for folder in ("adapters/[!.]*", "runs/*/adapter") for ending in ("json", "safetensors")),
    "runs/*/status.json",
    f"{REFS}/*.json",
)
_RETRY_SECONDS = 10.0
FETCH_SECONDS = 60.0
"""Between two attempts to fetch the adapter that the settings name on the Hub."""
MAX_CACHED = 4
"""Adapters in the cache, the served one among them."""
MAX_ALIVE = 8
"""Adapters in memory, with those that have left the cache while requests still use them."""
_Key = tuple[Path, tuple[tuple[int, int, int], ...]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """The adapters of one moment."""

    records: dict[str, AdapterRecord]
    """By name, the served one first."""
    served: str | None
    """The one that answers unless another is picked; `None` for the base alone."""
    serving: Serving
    shown: Shown = field(default_factory=Shown)

    @property
    def visible(self) -> list[str]:
        """The adapters that visitors see: the served one, and those that the owner shows."""
        return [name for name in self.records if name == self.served or name in self.shown.names]


def read_offer(settings: Settings) -> Offer:
    """The adapters on disk. Raises `UserError` if the adapter that the settings name is needed and unusable."""
    now = serving(settings)
    records = available_adapters(settings, now.path)
    served = next((name for name, record in records.items() if record.path == now.path), None)
    return Offer(records, served, now, read_shown(settings.home))


class LiveAdapters:
    """The offer of the moment, and its adapters in memory. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UserError` where nothing that the settings name can be served."""
        self._settings = settings
        self._state = _state(settings.home)
        self._offer = read_offer(settings)
        self._cache: AdapterCache | None = None
        self._is_missing = False
        """True while an adapter of the Hub that the settings name could not be fetched."""
        self._fetched_at = 0.0
        self._ready, self._looking = threading.Event(), threading.Lock()
        self._watch = PeriodicTask(self._follow, LOOK_SECONDS, "adapters")
        _log_offer(self._offer)

    @property
    def offer(self) -> Offer:
        """All adapters of one moment, for callers that need more than one fact about it."""
        return self._offer

    def start(self, engine: Engine) -> None:
        """Load the served adapter, then follow the home folder. Raises `UserError` if the settings' adapter fails.

        One of the Hub is fetched first; if that fails, the base alone answers, and fetching is tried again.
        """
        self._fetch()
        self._cache = AdapterCache(engine.read_adapter)
        self._take(read_offer(self._settings))
        self._ready.set()
        self._watch.start()

    def stop(self) -> None:
        """Stop following the home folder."""
        self._watch.stop()

    def hold(self, name: str) -> Callable[[], Adapter]:
        """The adapter as `Request.get_adapter` takes it; before the engine is there, it is loaded when asked for.

        Raises `UserError` if there is no such adapter, or
        if it cannot be served.
        """
        record = self._offer.records.get(name)
        if record is None:
            raise UserError(f"The adapter {name!r} is no longer here; choose another one, and ask again.")
        return self._hold(record) if self._ready.is_set() else lambda: self._hold(record)()

    def system_prompt(self, name: str) -> str:
        """The system prompt that the adapter was trained with."""
        record = self._offer.records.get(name)
        return (record.system_prompt if record else None) or THINK_PROMPT

    def look(self) -> bool:
        """Apply changes in the home folder; False if there are none."""
        with self._looking:
            state = _state(self._settings.home)
            if state == self._state:
                return False
            try:
                self._take(read_offer(self._settings))
            except UserError as error:
                _log.warning("the adapters stay as they were: %s", error)
            self._state = state  # from before the reading, so that the next look finds what changed since
        return True

    def _take(self, offer: Offer) -> None:
        """Load the served adapter of an offer, then switch to the offer."""
        assert self._cache is not None, "start comes first"
        try:
            if offer.served is not None:
                self._cache.hold(offer.records[offer.served], serve=True)
        except UserError as error:
            if offer.serving.source == "served.json":
                offer = self._as_set(offer, str(error))
            elif hub_name(self._settings.adapter or ""):
                offer = _without(offer, str(error))
            else:
                raise
        before, self._offer = self._offer, offer
        if before.serving != offer.serving:
            _log_offer(offer)

    def _as_set(self, offer: Offer, problem: str) -> Offer:
        """The offer with the settings' adapter served, since the engine refused the promoted one."""
        notice = (
            f"{FILE} names the adapter {offer.served}, but it cannot be loaded: {problem} What the settings name is "
            "served instead. Roll back, or promote another one."
        )
        folder = named_folder(self._settings)
        served = next((name for name, record in offer.records.items() if record.path == folder), None)
        if served is not None:
            self._hold(offer.records[served], serve=True)
        now = replace(offer.serving, path=folder, name=served, source="settings", since=None, by=None, notice=notice)
        return Offer(offer.records, served, now, offer.shown)

    def _hold(self, record: AdapterRecord, serve: bool = False) -> Callable[[], Adapter]:
        assert self._cache is not None, "the engine is there"
        return self._cache.hold(record, serve=serve)

    def _fetch(self) -> None:
        self._is_missing, self._fetched_at = bool(fetch_named(self._settings)), time.monotonic()

    def _follow(self) -> float | None:
        """One look; returns the seconds until the next one after an error."""
        try:
            if self._is_missing and time.monotonic() - self._fetched_at > FETCH_SECONDS:
                self._fetch()
            self.look()
        except Exception as error:  # out of memory, for example: the app goes on with what it has, and tries again
            _log.error("looking for adapters: %s: %s", type(error).__name__, error)
            return _RETRY_SECONDS
        return None


def _without(offer: Offer, problem: str) -> Offer:
    """The offer with the base alone served, since the engine refused the settings' adapter of the Hub."""
    now = replace(offer.serving, path=None, name=None, notice=f"{problem} The base alone answers.")
    records = {name: record for name, record in offer.records.items() if name != offer.served}
    return Offer(records, None, now, offer.shown)


def _log_offer(offer: Offer) -> None:
    if offer.serving.notice:
        _log.warning("%s", offer.serving.notice)
    _log.info("served now: %s", offer.served or "the base alone")


def _state(home: Path) -> frozenset[tuple[str, int, int, int]]:
    """The state of all files that decide the offer."""
    states = set()
    for pattern in _WATCHED:
        for path in home.glob(pattern):
            try:
                state = path.stat()
            except OSError:  # deleted since the listing: the next look finds that
                continue
            states.add((str(path), state.st_ino, state.st_mtime_ns, state.st_size))
    return frozenset(states)


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
