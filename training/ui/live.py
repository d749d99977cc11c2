"""A section of the Train tab that shows how things stand, and sends the page only what it does not show yet.

    watch = build_watch(guard, store)
    watch.follow(timer.tick, watch_tab.select, logged_in.then)      # from then on it keeps itself up to date

A part of a section is HTML with the digest of itself in it (`part`). Before a look the page reads the digests of the
parts that stand there and sends them along; a part whose digest is among them is skipped. So nothing is kept here for
a page, and a page that missed something, or met a restart, gets it at its next look.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

Guard = Callable[[Callable[..., Any]], Callable[..., Any]]
"""From `fn(caller, *values)` to a Gradio handler that asks `Access.check` first and turns `UserError` to `gr.Error`."""
MAX_PAGE_CHARS = 4_000
"""What a page may say of itself."""
_SEEN = "[...document.querySelectorAll('#%s [data-digest]')].map((part) => part.dataset.digest)"


@dataclass(frozen=True)
class Live:
    """How to bring a section up to date: an event of Gradio's calls `handler` with `inputs` for `outputs`."""

    handler: Callable[..., list[Any]]
    """Behind the guard already."""
    inputs: list[Any]
    outputs: list[Any]
    js: str
    """Runs in the page first: what it returns goes in as `inputs`."""

    def follow(self, *events: Callable[..., Any]) -> None:
        """Look at each of these events, such as `timer.tick`, `tab.select` or what follows a log-in."""
        for event in events:
            event(
                self.handler,
                self.inputs,
                self.outputs,
                js=self.js,
                show_progress="hidden",
                queue=False,
                api_visibility="private",
            )


@dataclass(frozen=True)
class Page:
    """What a page says of itself."""

    chosen: str = ""
    """What is selected; empty for "whatever is newest"."""
    seen: frozenset[str] = frozenset()
    """Digests of the parts that stand there."""

    @classmethod
    def read(cls, text: Any) -> Page:
        """From what `page_js` made; anything else is a page that shows nothing."""
        try:
            chosen, seen = json.loads(text if isinstance(text, str) and len(text) <= MAX_PAGE_CHARS else "")
            return cls(str(chosen or ""), frozenset(map(str, seen)))
        except (ValueError, TypeError, RecursionError):
            return cls()

    def update(self, text: str) -> Any:
        """A part for its component, or nothing if the page shows it."""
        return gr.skip() if digest_of(text) in self.seen else text


def page_js(section: str) -> str:
    """JavaScript for what `Page.read` reads, of the section with this element id and the selected value `chosen`."""
    return f"JSON.stringify([chosen, {_SEEN % section}])"


def part(inner: str, key: str) -> str:
    """HTML of a part with its digest; `key` sets apart two parts that may have the same content.

    >>> part("<p>no run</p>", "status")
    '<div class="lt-part" data-digest="9c5c9a5b2d1e"><p>no run</p></div>'
    """
    digest = hashlib.sha256(f"{key}:{inner}".encode(errors="replace")).hexdigest()[:12]
    return f'<div class="lt-part" data-digest="{digest}">{inner}</div>'


def digest_of(text: str) -> str:
    """The digest that `part` put into its HTML."""
    return text.partition('data-digest="')[2][:12]


def escape(value: Any, max_chars: int = 2_000) -> str:
    """Foreign text for HTML: cut, escaped, and free of signs that turn or hide what follows."""
    text = str(value)
    cut = text[:max_chars] + ("…" if len(text) > max_chars else "")
    return html.escape("".join(c for c in cut if c in "\n\t" or (c.isprintable() and c not in _TURNING)))


_TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
