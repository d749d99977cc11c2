"""The way into every handler of the Train tab: who asks is checked first, and nothing but words for users gets out.

    guard = Guard(access)
    button.click(guard(start), [profile, steps], [table], **HIDDEN)      # start(caller, profile, steps) -> table
    table.select(guard(chosen, with_event=True), None, [actions], **HIDDEN)   # chosen(caller, event) -> actions

Gradio opens every event to the network, so it is the handler that must ask. A caller who may not gets the refusal and
nothing else; the function behind is not called.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from inference.common.errors import UserError
from training.admin.access import Access, Caller, NotAllowed

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""For every event of the tab. Without the queue, as an admin's page must never wait behind visitors' questions."""
NOT_ALLOWED, CANNOT, BROKE = "Not allowed", "This cannot be done", "Something broke"
log = logging.getLogger(__name__)


class Guard:
    """Wraps handlers so that `access` decides first."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def __call__(
        self,
        handler: Callable[..., Any],
        *,
        with_event: bool = False,
        refused: Callable[[NotAllowed], Any] | None = None,
    ) -> Callable[..., Any]:
        """A handler for Gradio that calls `handler(caller, *inputs)`, or `handler(caller, event, *inputs)`.

        `refused` gives the updates for a caller who may not; without it they get an error that says why.
        """

        def answer(request: Any, profile: Any, token: Any, values: tuple[Any, ...]) -> Any:
            try:
                return handler(self._caller(request, profile, token), *values)
            except NotAllowed as refusal:
                if refused is not None:
                    return refused(refusal)
                raise _told(refusal, NOT_ALLOWED) from None
            except UserError as error:
                raise _told(error, CANNOT) from None
            except gr.Error:
                raise
            except Exception:  # whatever it was, the page gets words of ours, and the log the rest
                log.exception("a handler of the Train tab")
                words = "It has been written to the app's log. What was asked for may not have happened."
                raise gr.Error(words, title=BROKE, print_exception=False) from None

        made = _for_gradio(answer, self.access.is_on_space, with_event)
        made.__name__ = f"train_{handler.__name__.strip('_')}"  # what Gradio calls the endpoint
        return made

    def _caller(self, request: gr.Request, profile: Any, token: Any) -> Caller:
        return self.access.check(request.headers, request.cookies, profile, token)


def _told(error: UserError, title: str) -> gr.Error:
    """An error as a toast, whose text Gradio takes for HTML."""
    return gr.Error(html.escape(str(error)), title=title, print_exception=False, duration=None)


def _for_gradio(answer: Callable[..., Any], on_space: bool, with_event: bool) -> Callable[..., Any]:
    """Gradio fills what has these types. Off a Space there is no login, and asking for one keeps it from starting."""
    if on_space and with_event:

        def on_space_event(
            request: gr.Request,
            profile: gr.OAuthProfile | None,
            token: gr.OAuthToken | None,
            event: gr.EventData,
            *values: Any,
        ) -> Any:
            return answer(request, profile, token, (event, *values))

        return on_space_event
    if on_space:

        def on_space_call(
            request: gr.Request, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None, *values: Any
        ) -> Any:
            return answer(request, profile, token, values)

        return on_space_call
    if with_event:

        def event_call(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
            return answer(request, None, None, (event, *values))

        return event_call

    def call(request: gr.Request, *values: Any) -> Any:
        return answer(request, None, None, values)

    return call
