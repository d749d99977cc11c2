"""What is missing in a deployment as HTML: in calm words for everybody, in full for the owner."""

from __future__ import annotations

import html
import re

from training.hub.space.setup import Setup, SetupStep

_TYPED = re.compile(r"`([^`]+)`")


def public_html(setup: Setup) -> str:
    """For the top of the page: one line that unfolds; empty where nothing is missing.

    How to put it right stands under Train, and here too where nobody could log in to read it there.
    """
    steps = setup.steps
    if not steps:
        return ""
    says_how = not setup.offers_login
    items = "".join(
        f"<li><strong>{_text(step.title)}.</strong> {_text(step.effect)}{f' {_text(step.remedy)}' if says_how else ''}"
        f"{_price(step)}</li>"
        for step in steps
    )
    missing = ", ".join(_named(step) for step in steps)
    where = "" if says_how else " Its owner finds how under Train." if setup.is_on_space else " How is under Train."
    is_open = " open" if setup.model_problem else ""
    return (
        f'<aside class="lt-notice lt-setup" aria-label="What is not set up yet"><details{is_open}><summary>'
        f"<strong>Not everything is set up here yet:</strong> {_text(missing)}.</summary>"
        f"<p>The page works with what there is.{where}</p><ul>{items}</ul></details></aside>"
    )


def owner_html(setup: Setup, notes: list[str]) -> str:
    """For the Train tab: each step with what to do and what went wrong, then notes of now."""
    said = "".join(f'<p class="lt-note lt-warn" role="status">{_text(note)}</p>' for note in notes if note)
    steps = setup.steps
    if not steps:
        return said
    link = f' <a href="{_text(setup.address)}" target="_blank" rel="noopener">Settings of this Space</a>'
    items = "".join(
        f"<li><strong>{_text(step.title)}.</strong> {_text(step.effect)} {_text(step.remedy)}{_price(step)}"
        f"{_problem(step)}</li>"
        for step in steps
    )
    head = f"<p><strong>Still to be set up.</strong>{link if setup.address else ''}</p>"
    return f'{said}<div class="lt-note lt-setup">{head}<ul>{items}</ul></div>'


def _named(step: SetupStep) -> str:
    """Within a line, with its price where that is a figure: `a GPU (a100-large: $2.50 an hour)`."""
    price = f" ({step.price})" if "$" in step.price else ""
    return f"{step.title[:1].lower()}{step.title[1:]}{price}"


def _problem(step: SetupStep) -> str:
    words = step.problem.rstrip(".")
    return f" <em>{_text(words[:1].upper() + words[1:])}.</em>" if words else ""


def _price(step: SetupStep) -> str:
    return f" <span>({_text(step.price)})</span>" if step.price else ""


def _text(words: str) -> str:
    """Escaped; what stands in backticks, to be typed, as code."""
    return _TYPED.sub(r"<code>\1</code>", html.escape(words))
