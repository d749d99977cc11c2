"""What is missing in a deployment as HTML: in calm words for everybody, in full for the owner."""

from __future__ import annotations

import html

from training.space.setup_steps import Setup, SetupStep


def public_html(setup: Setup) -> str:
    """For the top of the page; empty where nothing is missing."""
    steps = setup.steps
    if not steps:
        return ""
    items = "".join(
        f"<li><strong>{_text(step.title)}.</strong> {_text(step.effect)}{_price(step)}</li>" for step in steps
    )
    where = "Its owner finds how under Train." if setup.is_on_space else "How is under Train."
    return (
        '<aside class="lt-notice lt-setup" aria-label="What is not set up yet"><p><strong>Not everything is set up '
        f"here yet.</strong> The page works with what there is. {where}</p><ul>{items}</ul></aside>"
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
        f"{f' <em>{_text(step.problem)}</em>' if step.problem else ''}</li>"
        for step in steps
    )
    head = f"<p><strong>Still to be set up.</strong>{link if setup.address else ''}</p>"
    return f'{said}<div class="lt-note lt-setup">{head}<ul>{items}</ul></div>'


def _price(step: SetupStep) -> str:
    return f" <span>({_text(step.price)})</span>" if step.price else ""


def _text(words: str) -> str:
    return html.escape(words)
