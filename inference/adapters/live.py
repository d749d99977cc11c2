"""What a running app offers: the served adapter and the others, kept in step with the home folder while it serves.

    adapters = LiveAdapters(settings)          # at once: what is on disk
    adapters.start(engine)                     # loads the served one, then looks for changes on a thread
    name = adapters.served                     # of this moment
    row = Row(image, question, adapter=name, held=adapters.hold(name))

Whoever changes `served.json` (the page, the command line, a trainer), the new adapter is loaded beside the old one, and
then the default changes, in one assignment. Rows that were asked before end on the adapter they brought along.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.hub_cache import REFS, hub_name
from inference.adapters.hub_fetch import fetch_named
from inference.adapters.memory_cache import Shelf
from inference.adapters.record import AdapterRecord, available_adapters, named_folder
from inference.adapters.served import Serving, serving
from inference.adapters.served_file import FILE
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.prompt.format import THINK_PROMPT

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.model.lora_layers import Adapter

LOOK_SECONDS = 0.5
"""Between two looks at the home folder; a look is a few hundred file states."""
_LOOKED_AT = (
    FILE,
    *(f"{folder}/*.{ending}" for folder in ("adapters/[!.]*", "runs/*/adapter") for ending in ("json", "safetensors")),
    "runs/*/status.json",
    f"{REFS}/*.json",
)
_AFTER_FAILURE_SECONDS = 10.0
FETCH_SECONDS = 60.0
"""Between two attempts to fetch the adapter that the settings name on the Hub."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What can be asked at one moment."""

    records: dict[str, AdapterRecord]
    """By name, the served one first."""
    served: str | None
    """The one that answers unless another is chosen; `None` for the base alone."""
    serving: Serving


def read_offer(settings: Settings) -> Offer:
    """What is on disk. Raises `UserError` if the adapter that the settings name is needed and unusable."""
    found = serving(settings)
    records = available_adapters(settings, found.path)
    served = next((name for name, record in records.items() if record.path == found.path), None)
    return Offer(records, served, found)


class LiveAdapters:
    """The offer of the moment, and its adapters in memory. For several threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UserError` where nothing that the settings name can be served."""
        self._settings = settings
        self._state = _state(settings.home)
        self._offer = read_offer(settings)
        self._shelf: Shelf | None = None
        self._is_missing = False
        """True while an adapter of the Hub that the settings name could not be fetched."""
        self._ready, self._stopped, self._looking = threading.Event(), threading.Event(), threading.Lock()
        _tell(self._offer)

    @property
    def offer(self) -> Offer:
        """All of one moment, for who needs more than one thing of it."""
        return self._offer

    @property
    def records(self) -> dict[str, AdapterRecord]:
        """The adapters on offer by name, the served one first."""
        return self._offer.records

    @property
    def served(self) -> str | None:
        """The name of the one that is served now; `None` for the base alone."""
        return self._offer.served

    def start(self, engine: Engine) -> None:
        """Load the served adapter, then follow the home folder. Raises `UserError` if what the settings name fails.

        One of the Hub is fetched first; where that fails the base alone answers, and it is tried again meanwhile.
        """
        self._is_missing = bool(fetch_named(self._settings))
        self._shelf = Shelf(engine.read_adapter)
        self._take(read_offer(self._settings))
        self._ready.set()
        threading.Thread(target=self._follow, name="adapters", daemon=True).start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()

    def hold(self, name: str) -> Callable[[], Adapter]:
        """The adapter as `Row.held` takes it; before the engine is there, one that is loaded when the row's turn comes.

        Raises `UserError` if there is none of that name, or if it cannot be served.
        """
        record = self._offer.records.get(name)
        if record is None:
            raise UserError(f"The adapter {name!r} is no longer here; choose another one, and ask again.")
        return self._hold(record) if self._ready.is_set() else lambda: self._hold(record)()

    def system_prompt(self, name: str) -> str:
        """The one that the adapter was trained with."""
        record = self._offer.records.get(name)
        return (record.system_prompt if record else None) or THINK_PROMPT

    def look(self) -> bool:
        """Take up what has changed in the home folder; false if nothing has."""
        with self._looking:
            state = _state(self._settings.home)
            if state == self._state:
                return False
            try:
                self._take(read_offer(self._settings))
            except UserError as error:
                _log.warning("the adapters stay as they were: %s", error)
            self._state = state  # of before the reading: what has changed since then is found by the next look
        return True

    def _take(self, offer: Offer) -> None:
        """Load what is served by it beside what was, then switch."""
        assert self._shelf is not None, "start comes first"
        try:
            if offer.served is not None:
                self._shelf.hold(offer.records[offer.served], serve=True)
        except UserError as error:
            if offer.serving.source == "served.json":
                offer = self._as_set(offer, str(error))
            elif hub_name(self._settings.adapter or ""):
                offer = _without(offer, str(error))
            else:
                raise
        before, self._offer = self._offer, offer
        if before.serving != offer.serving:
            _tell(offer)

    def _as_set(self, offer: Offer, problem: str) -> Offer:
        """The offer with what the settings name, since the engine refused the promoted adapter."""
        notice = (
            f"{FILE} names the adapter {offer.served}, but it cannot be loaded: {problem} What the settings name is "
            "served instead. Roll back, or promote another one."
        )
        named = named_folder(self._settings)
        served = next((name for name, record in offer.records.items() if record.path == named), None)
        if served is not None:
            self._hold(offer.records[served], serve=True)
        told = replace(offer.serving, path=named, name=served, source="settings", since=None, by=None, notice=notice)
        return Offer(offer.records, served, told)

    def _hold(self, record: AdapterRecord, serve: bool = False) -> Callable[[], Adapter]:
        assert self._shelf is not None, "the engine is there"
        return self._shelf.hold(record, serve=serve)

    def _follow(self) -> None:
        seconds, fetched = LOOK_SECONDS, time.monotonic()
        while not self._stopped.wait(seconds):
            seconds = LOOK_SECONDS
            try:
                if self._is_missing and time.monotonic() - fetched > FETCH_SECONDS:
                    self._is_missing, fetched = bool(fetch_named(self._settings)), time.monotonic()
                self.look()
            except Exception as error:  # no memory for it, say: the app goes on with what it has, and tries again
                _log.error("looking for adapters: %s: %s", type(error).__name__, error)
                seconds = _AFTER_FAILURE_SECONDS


def _without(offer: Offer, problem: str) -> Offer:
    """The base alone, since the engine refused the adapter of the Hub that the settings name."""
    told = replace(offer.serving, path=None, name=None, notice=f"{problem} The base alone answers.")
    records = {name: record for name, record in offer.records.items() if name != offer.served}
    return Offer(records, None, told)


def _tell(offer: Offer) -> None:
    if offer.serving.notice:
        _log.warning("%s", offer.serving.notice)
    _log.info("served now: %s", offer.served or "the base alone")


def _state(home: Path) -> frozenset[tuple[str, int, int, int]]:
    """Changes whenever a file does that decides what is offered."""
    found = set()
    for pattern in _LOOKED_AT:
        for path in home.glob(pattern):
            try:
                state = path.stat()
            except OSError:  # it went between the listing and here: the next look sees it gone
                continue
            found.add((str(path), state.st_ino, state.st_mtime_ns, state.st_size))
    return frozenset(found)
