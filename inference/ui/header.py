"""The top of the page: the name, the base and adapter that answer, and on the starter a notice of its limits."""

from __future__ import annotations

import html
from pathlib import Path

from inference.server.queue import EngineState
from inference.server.service import Service

MARK = (
    '<svg class="lt-mark" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">'
    '<path d="M3 16c4-6.5 8.3-9.7 13-9.7S25 9.500 29 16c-4 6.500-8.300 9.700-13 9.700S7 22.500 3 16z" '
    'fill="none" stroke="currentColor" stroke-width="2.400" stroke-linejoin="round"/>'
    '<circle cx="16" cy="16" r="4.600" fill="currentColor"/></svg>'
)

_STATES = {
    EngineState.LOADING: "loading the model…",
    EngineState.READY: "ready",
    EngineState.RESTING: "paused while a run trains",
    EngineState.FAILED: "the model could not be loaded",
    EngineState.STOPPING: "stopping",
}


def header_html(service: Service) -> str:
    """Name and motto on the left, base, adapter and state on the right."""
    facts = [("base", base_title(service)), ("adapter", _adapter_title(service))]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<header class="lt-header"><div class="lt-brand">{MARK}<div><h1>LookThink</h1>'
        f'<p>look · think · answer</p></div></div><dl class="lt-facts">{items}'
        f'<div class="lt-ready" data-ready="{str(is_ready(service)).lower()}"><dt>state</dt><dd>'
        f'<span class="lt-dot" aria-hidden="true"></span>{_STATES[service.queue.state]}</dd>'
        "</div></dl></header>"
    )


def is_ready(service: Service) -> bool:
    """True once the engine is loaded."""
    return service.queue.engine is not None


def is_loading(service: Service) -> bool:
    """True until the engine is loaded or has failed to load."""
    return service.queue.state is EngineState.LOADING


def notice_html(service: Service) -> str:
    """The limits of the starter, for visitors; empty for another base."""
    if not service.settings.is_starter:
        return ""
    return (
        '<aside class="lt-notice" aria-label="About the model that answers">'
        "<p><strong>The starter answers: a model of about 3 million parameters.</strong> It can read handwritten "
        "digits, bar charts, labelled rectangles and triangles, and coloured shapes. It cannot read photographs or "
        "anything else. "
        f'<span class="lt-why">{html.escape(service.settings.base_reason)}</span></p></aside>'
    )


def base_title(service: Service) -> str:
    """The base's name and, once it is loaded, its size."""
    base, engine = service.settings.base, service.queue.engine
    name = "starter" if service.settings.is_starter else (Path(base).name if Path(base).is_absolute() else base)
    return html.escape(name) + (f" <span>{_size(engine.num_parameters)}</span>" if engine else "")


def _adapter_title(service: Service) -> str:
    """The served adapter's name, with its scores if they were measured."""
    offer = service.offer
    if offer.served is None:
        return "none yet"
    record = offer.records[offer.served]
    scores = f" <span>{html.escape(record.scores)}</span>" if record.scores else ""
    return f"{html.escape(record.name)}{scores}"


def _size(count: int) -> str:
    """A number of parameters, short."""
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.1f} M parameters"
