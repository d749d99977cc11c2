"""Moves the app's model off the card while a run needs the memory.

    sharing = CardSharing(store, queue)
    sharing.look()              # every few seconds, from the app's watcher

`training.runs.estimate.memory` estimates the memory that the run needs. Visitors are told, and the model returns to the
card when the run has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from inference.common.errors import UserError
from training.runs.estimate.memory import Card, Sharing, card_here, share_card
from training.runs.estimate.shapes import sizes_of
from training.runs.record import RunRecord
from training.runs.store import RunStore

WORDS = (
    "A run is training on this card, and there is not room for both, so questions wait until it has ended. Come back "
    "later."
)
log = logging.getLogger(__name__)


class _Queue(Protocol):
    """The part of `inference.server.queue.RequestQueue` that is used here."""

    @property
    def engine(self) -> object | None: ...

    @property
    def is_resting(self) -> bool: ...
    def rest(self, reason: str) -> None: ...
    def wake(self) -> None: ...


class CardSharing:
    """Decides once for each start of a run."""

    def __init__(self, store: RunStore, queue: _Queue, card: Callable[[], Card | None] = card_here) -> None:
        self._store, self._queue, self._card = store, queue, card
        self._decided = ""

    def look(self) -> None:
        """Takes the model off the card, or puts it back, as the active run needs."""
        if self._queue.engine is None:
            return  # the model is being loaded
        active = self._store.active() if self._store.exists() else None
        here = active if active is not None and active.launcher == "local" else None
        if here is None:
            self._decided = ""
            if self._queue.is_resting:
                self._queue.wake()
        elif here.launch != self._decided:
            self._decided = here.launch
            sharing = self._sharing(here)
            if sharing is not None and sharing.gives_way and not self._queue.is_resting:
                log.info("the model leaves the card: %s", sharing.words)
                self._queue.rest(WORDS)

    def _sharing(self, record: RunRecord) -> Sharing | None:
        """`None` without a card, or if the sizes of the run's base are not known: then the model stays on the card."""
        card = self._card()
        if card is None:
            return None
        try:
            config = record.run_config
            return share_card(config, sizes_of(config.base, config.base_revision), card)
        except UserError as error:
            log.warning("the memory that run %s needs is not known: %s", record.id, error)
        except ValueError:  # a configuration of another version: the trainer refuses it
            pass
        return None
