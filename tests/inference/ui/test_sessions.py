"""Sessions and events of one visitor beside those of others, with Gradio's own queue and state."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App

from inference.server.visitors import OWNER, current_visitor
from inference.ui.sessions import EVENTS_OF_ONE, MAX_EVENTS, MAX_SESSIONS, PageSessions, bound_sessions


@pytest.fixture
def blocks() -> Any:
    """A page with one event whose queue nobody works off."""
    with gr.Blocks(analytics_enabled=False) as made:
        gr.Button().click(lambda: None, None, None)
    made.queue(max_size=None)
    made.app = App.create_app(made)
    return made


@pytest.fixture
def sessions(blocks: Any) -> PageSessions:
    return bound_sessions(blocks)


def use(sessions: PageSessions, visitor: str, *names: str) -> None:
    """A visitor's sessions, as the routes of Gradio ask for their state."""
    current_visitor.set(visitor)
    for name in names:
        assert sessions[name] is not None


def push(blocks: Any, visitor: str, session: str) -> str:
    """An event of a visitor; the refusal, if there is one."""
    from gradio.data_classes import PredictBodyInternal

    current_visitor.set(visitor)
    request: Any = SimpleNamespace(headers={}, client=None)
    body = PredictBodyInternal.model_construct(session_hash=session, data=[], fn_index=0, request=request)
    is_taken, words, _ = asyncio.run(blocks._queue.push(body=body, request=request, username=None))
    return "" if is_taken else words


def test_one_visitors_sessions_forget_nobody_elses(sessions: PageSessions) -> None:
    use(sessions, "polite", "first", "second")
    use(sessions, "greedy", *map(str, range(MAX_SESSIONS + 4)))
    assert len(sessions.session_data) == MAX_SESSIONS
    kept = set(sessions.session_data)
    assert {"first", "second", str(MAX_SESSIONS + 3)} <= kept and "0" not in kept
    use(sessions, "newcomer", "third")
    assert {"first", "second", "third"} <= set(sessions.session_data) and len(sessions.session_data) == MAX_SESSIONS


def test_of_many_visitors_the_session_unused_for_longest_is_forgotten(sessions: PageSessions) -> None:
    for number in range(MAX_SESSIONS):
        use(sessions, f"visitor {number}", str(number))
    use(sessions, "visitor 0", "0")
    use(sessions, "one more", "new")
    assert {"0", "new"} <= set(sessions.session_data) and "1" not in sessions.session_data


def test_one_visitors_events_leave_room_for_others_and_all_of_them_for_the_owner(
    blocks: Any, sessions: PageSessions
) -> None:
    for visitor in range(MAX_EVENTS // EVENTS_OF_ONE):
        for number in range(EVENTS_OF_ONE):
            assert not push(blocks, f"visitor {visitor}", f"{visitor}-{number}")
        assert "16 clicks of yours wait" in push(blocks, f"visitor {visitor}", "one more")
    assert "64 clicks wait to be answered" in push(blocks, "newcomer", "new")
    assert not push(blocks, OWNER, "the owner's")
    assert len(blocks._queue) == MAX_EVENTS + 1


def test_a_session_with_an_event_is_kept_and_messages_go_with_the_others(blocks: Any, sessions: PageSessions) -> None:
    for number in range(3):
        assert not push(blocks, "greedy", f"waits {number}")
    use(sessions, "greedy", "idle")
    blocks._queue.pending_messages_per_session["idle"] = asyncio.Queue()
    use(sessions, "greedy", *map(str, range(MAX_SESSIONS)))
    queue = blocks._queue
    assert (
        set(queue.pending_messages_per_session)
        == set(queue.pending_event_ids_session)
        == {f"waits {number}" for number in range(3)}
    )
    assert "idle" not in sessions.session_data and len(sessions.session_data) == MAX_SESSIONS
