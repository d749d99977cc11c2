"""Page sessions and waiting events by visitor, so that one visitor's many take nothing from anybody else.

A page holds no connection open for its session (Gradio's heartbeat would take one of the six that a browser has for all
its tabs), so nothing tells that it was closed: its state is forgotten some time after its last use. What it asked ends
with the stream that it reads the answer from.

Gradio keeps the state of so many sessions, messages of so many, and a queue of so many events, of all visitors
together, and forgets the oldest or refuses the newest, whoever's it is. Here the visitor with most of them loses one.
"""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

from inference.server.visitors import OWNER, current_visitor

MAX_SESSIONS = 256
"""Sessions kept at once."""
UNUSED = datetime.timedelta(hours=3)
"""The age, since its last use, at which a session is forgotten."""
MAX_EVENTS = 64
"""Events that wait for a thread, of all visitors; the owner's come in addition."""
EVENTS_OF_ONE = 16
"""Events of one visitor that wait for a thread."""


class PageState(SessionState):
    """The state of an open page, without the copy of each component's configuration, a megabyte in all: Gradio reads it
    for links that store a page's state, whose route is closed here."""

    @property
    def config_values(self) -> dict[int, Any]:
        """Nothing, whatever is written into it."""
        return _Nothing()

    @config_values.setter
    def config_values(self, value: object) -> None: ...

    def _update_config(self, key: int) -> None: ...

    def _update_value_in_config(self, key: int, value: Any) -> None: ...


class _Nothing(dict[int, Any]):
    def __setitem__(self, key: int, value: Any) -> None: ...


class PageSessions(StateHolder):
    """The state of the open pages, each with its visitor."""

    def __init__(self, queue: Any) -> None:
        """`queue` is Gradio's queue of events."""
        super().__init__()
        self._queue = queue
        self._visitors: dict[str, str] = {}
        """By session the visitor who opened it, the one unused for longest first."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = PageState(self.blocks)
        return super().__getitem__(session_id)

    def update(self, session_id: str) -> None:
        """Note that a session is used, and forget another if there are too many; called with every event."""
        with self.lock:
            self._visitors[session_id] = self._visitors.pop(session_id, current_visitor.get())
            if session_id in self.session_data:
                self.session_data.move_to_end(session_id)
            if len(self._visitors) > MAX_SESSIONS:
                self._forget_one(session_id)

    def refusal(self) -> str:
        """The reason, in words, why another event of the present visitor is refused; empty if it is not."""
        waiting = self._waiting()
        visitor = current_visitor.get()
        if visitor != OWNER:
            own = sum(self._visitors.get(event.session_hash) == visitor for event in waiting)
            if own >= EVENTS_OF_ONE:
                return f"{own} clicks of yours wait to be answered, which is the limit; wait for one of them."
            if len(waiting) >= MAX_EVENTS:
                return f"{len(waiting)} clicks wait to be answered, which is the limit; try again in a minute."
        return ""

    def _waiting(self) -> list[Any]:
        """Gradio's events that wait for a thread."""
        return [event for queue in self._queue.event_queue_per_concurrency_id.values() for event in queue.queue]

    def delete_all_expired_state(self) -> None:
        """Forget values whose time is up, and the sessions that nobody has used for `UNUSED`; Gradio calls it often."""
        super().delete_all_expired_state()
        oldest = datetime.datetime.now() - UNUSED
        with self.lock:
            for session in self._idle():
                if self.time_last_used.get(session, oldest) < oldest:
                    self._forget(session)

    def _idle(self) -> list[str]:
        """The sessions of which nothing runs or waits."""
        running = {event.session_hash for job in [self._waiting(), *self._queue.active_jobs] for event in job or ()}
        return [session for session in self._visitors if session not in running]

    def _forget_one(self, newest: str) -> None:
        """Forget the session unused for longest of the visitor with most of them, unless something of it runs."""
        idle = [session for session in self._idle() if session != newest]
        counts = Counter(self._visitors.values())
        if not idle:
            return
        self._forget(max(idle, key=lambda one: counts[self._visitors[one]]))  # of equal ones the first, the oldest

    def _forget(self, session: str) -> None:
        del self._visitors[session]
        for kept in (
            self.session_data,
            self.time_last_used,
            self._queue.pending_messages_per_session,
            self._queue.pending_event_ids_session,
        ):
            kept.pop(session, None)


def bound_sessions(blocks: gr.Blocks) -> PageSessions:
    """Take the place of Gradio's own bounds, once the page is served."""
    queue = blocks._queue
    sessions = PageSessions(queue)
    blocks.app.state_holder = sessions
    sessions.set_blocks(blocks)
    push = queue.push

    async def push_within_bounds(body: Any, request: Any, username: str | None) -> Any:
        if refusal := sessions.refusal():
            return False, refusal, "queue_full"
        pushed = await push(body=body, request=request, username=username)
        if pushed[0]:
            sessions.update(body.session_hash)
        return pushed

    queue.push = push_within_bounds  # type: ignore[method-assign]
    return sessions
