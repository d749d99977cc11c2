"""The app gives way to a run on the same card: its model leaves it while there is not room for both.

    way = GivingWay(store, line)
    way.look()                  # every few seconds, from the app's watcher

The run's need is arithmetic (`training.launch.memory`). Visitors are told; the model comes back when the run has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from inference.common.errors import UserError
from training.launch.memory import Card, Sharing, card_here, memory_need, share_card, sizes_of
from training.runs.record import RunRecord
from training.runs.store import RunStore

WORDS = (
    "A run is training on this card, and there is not room for both, so questions wait until it has ended. Come back "
    "later."
)
log = logging.getLogger(__name__)


class _Line(Protocol):
    """What is asked of `inference.server.queue.RequestQueue`."""

    engine: Any

    @property
    def is_resting(self) -> bool: ...
    def rest(self, reason: str) -> None: ...
    def wake(self) -> None: ...


class GivingWay:
    """Decides once for each start of a run."""

    def __init__(self, store: RunStore, line: _Line, card: Callable[[], Card | None] = card_here) -> None:
        self._store, self._line, self._card = store, line, card
        self._decided = ""

    def look(self) -> None:
        """Rest or wake, as the active run asks for."""
        if self._line.engine is None:
            return  # it is being loaded
        active = self._store.active() if self._store.exists() else None
        here = active if active is not None and active.launcher == "local" else None
        if here is None:
            self._decided = ""
            if self._line.is_resting:
                self._line.wake()
        elif here.launch != self._decided:
            self._decided = here.launch
            sharing = self._sharing(here)
            if sharing is not None and sharing.gives_way and not self._line.is_resting:
                log.info("the model leaves the card: %s", sharing.words)
                self._line.rest(WORDS)

    def _sharing(self, record: RunRecord) -> Sharing | None:
        """`None` without a card, or for a run whose sizes nobody knows: then the app stays where it is."""
        card = self._card()
        if card is None:
            return None
        try:
            config = record.run_config
            return share_card(memory_need(config, sizes_of(config.base, config.base_revision)), card)
        except UserError as error:
            log.warning("whether run %s fits beside the app is not known: %s", record.id, error)
        except ValueError:  # a configuration of another version: the trainer refuses it
            pass
        return None
