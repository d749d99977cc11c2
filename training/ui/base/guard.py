"""The check before every handler of the Train tab: the caller must be an admin, and errors come out as words only.

    guard = Guard(access)
    button.click(guard(start), [profile, steps], [table], **HIDDEN)           # start(caller, profile, steps) -> table
    table.select(guard(choose, with_event=True), None, [actions], **HIDDEN)   # choose(caller, event) -> actions

Gradio opens every event to the network, so each handler must check its caller. A caller without the right gets the
refusal and nothing else; the handler is not called.
"""

from __future__ import annotations

import html
import inspect
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from inference.common.errors import UserError
from training.admin.access import Access, NotAllowed

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""For every event of the tab that may be refused: Gradio shows errors and notices of events in its queue alone. Without
a limit an admin's page never waits in it behind visitors' questions."""
SILENT: dict[str, Any] = HIDDEN | {"queue": False}
"""For an event that comes often and is refused by what it shows, such as a refresh."""
NOT_ALLOWED, CANNOT, BROKE = "Not allowed", "This cannot be done", "Something broke"
_log = logging.getLogger(__name__)


class Guard:
    """Wraps handlers so that `access` decides first."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def __call__(
        self,
        handler: Callable[..., object],
        *,
        with_event: bool = False,
        refused: Callable[[NotAllowed], object] | None = None,
    ) -> Callable[..., object]:
        """A handler for Gradio that calls `handler(caller, *inputs)`, or `handler(caller, event, *inputs)`.

        `refused` returns the updates for a caller without the right; without it they get an error that says why.
        """
        # Gradio fills parameters of these types. Off a Space there is no login, and asking for one fails at the start.
        kinds: dict[str, object] = {"request": gr.Request}
        if self.access.is_on_space:
            kinds |= {"profile": gr.OAuthProfile | None, "token": gr.OAuthToken | None}
        if with_event:
            kinds["event"] = gr.EventData

        def call(request: gr.Request, *values: Any) -> Any:
            profile, token, *inputs = values if self.access.is_on_space else (None, None, *values)
            try:
                caller = self.access.check(request.headers, request.cookies, profile, token)
                return handler(caller, *inputs)
            except NotAllowed as refusal:
                if refused is not None:
                    return refused(refusal)
                raise _toast(refusal, NOT_ALLOWED) from None
            except UserError as error:
                raise _toast(error, CANNOT) from None
            except gr.Error:
                raise
            except Exception:  # whatever it was, the page gets words of ours, and the log the rest
                _log.exception("a handler of the Train tab")
                words = "The error has been written to the app's log. What you asked for may not have happened."
                raise gr.Error(words, title=BROKE, print_exception=False) from None

        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in kinds]
        rest = inspect.Parameter("values", inspect.Parameter.VAR_POSITIONAL)
        call.__signature__ = inspect.Signature([*parameters, rest])  # type: ignore[attr-defined]
        call.__annotations__ = kinds
        call.__name__ = f"train_{handler.__name__.strip('_')}"  # Gradio's name of the endpoint
        return call


def _toast(error: UserError, title: str) -> gr.Error:
    """An error as a toast, whose text Gradio takes for HTML."""
    return gr.Error(html.escape(str(error)), title=title, print_exception=False, duration=None)
