"""The missing parts of a deployment as HTML: briefly for everybody, in full for the owner."""

from __future__ import annotations

import html
import re

from training.hub.space.setup import Setup, SetupStep

_TYPED = re.compile(r"`([^`]+)`")


def public_html(setup: Setup) -> str:
    """A notice for the top of the page: one line that unfolds; empty if nothing is missing.

    The remedies are under Train, and also here if nobody could log in to read them there.
    """
    steps = setup.steps
    if not steps:
        return ""
    with_remedy = not setup.offers_login
    items = "".join(_item(step, with_remedy) for step in steps)
    missing = ", ".join(_title(step) for step in steps)
    where = "" if with_remedy else " Its owner finds how under Train." if setup.is_on_space else " How is under Train."
    is_open = " open" if setup.model_problem else ""
    return (
        f'<aside class="lt-notice lt-setup" aria-label="What is not set up yet"><details{is_open}><summary>'
        f"<strong>Not everything is set up here yet:</strong> {_text(missing)}.</summary>"
        f"<p>The page works with what there is.{where}</p><ul>{items}</ul></details></aside>"
    )


def owner_html(setup: Setup, notes: list[str]) -> str:
    """For the Train tab: current notes, then each step with its remedy and the last error."""
    shown = "".join(f'<p class="lt-note lt-warn" role="status">{_text(note)}</p>' for note in notes if note)
    steps = setup.steps
    if not steps:
        return shown
    link = f' <a href="{_text(setup.address)}" target="_blank" rel="noopener">Settings of this Space</a>'
    items = "".join(_item(step, True, step.problem.rstrip(".")) for step in steps)
    head = f"<p><strong>Still to be set up.</strong>{link if setup.address else ''}</p>"
    return f'{shown}<div class="lt-note lt-setup">{head}<ul>{items}</ul></div>'


def _item(step: SetupStep, with_remedy: bool, problem: str = "") -> str:
    remedy = f" {_text(step.remedy)}" if with_remedy else ""
    price = f" <span>({_text(step.price)})</span>" if step.price else ""
    error = f" <em>{_text(problem[:1].upper() + problem[1:])}.</em>" if problem else ""
    return f"<li><strong>{_text(step.title)}.</strong> {_text(step.effect)}{remedy}{price}{error}</li>"


def _title(step: SetupStep) -> str:
    """The title within a line, with its price if that is an amount: `a GPU (a100-large: $2.50 an hour)`."""
    price = f" ({step.price})" if "$" in step.price else ""
    return f"{step.title[:1].lower()}{step.title[1:]}{price}"


def _text(words: str) -> str:
    """The words escaped; text in backticks, which is to be typed, as code."""
    return _TYPED.sub(r"<code>\1</code>", html.escape(words))
