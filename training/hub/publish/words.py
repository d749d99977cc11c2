"""How the publishing of a run stands, in a sentence or two for whoever watches it.

>>> publish_words(Path("nowhere"), "me/adapter")
'Its adapter goes to me/adapter: nothing is there yet.'
"""

from __future__ import annotations

import time
from pathlib import Path

from training.hub.publish.queue import QUEUE, PublishQueue


def publish_words(folder: Path, publish_to: str | None = None) -> str:
    """What went, what waits and why; empty for a run that goes nowhere. Not escaped."""
    queue = PublishQueue(folder)
    state, waiting = queue.state(), queue.waiting()
    broken = [path.name for path in queue.unreadable()]
    if not (state.published or waiting or state.notice or broken):
        return f"Its adapter goes to {publish_to}: nothing is there yet." if publish_to else ""
    parts = [broken_words(folder, broken)] if broken else []
    if state.published:
        last = state.published[-1]
        what = "The result" if last.get("is_result") else f"Step {last.get('step')}"
        name = last.get("tag") or str(last.get("commit"))[:12]
        parts.append(f"{what} is published as {last.get('repo')}@{name}.")
    if waiting and not state.tries:
        parts.append(f"Step {waiting[-1].step} is on its way to {waiting[-1].repo}.")
    if state.notice:
        parts.append(f"{state.notice[:1].upper()}{state.notice[1:].rstrip('.')}.")
    if waiting and state.tries:
        parts.append(f"The next try is {_in(state.next_try - time.time())}.")
    return " ".join(parts)


def broken_words(folder: Path, names: list[str]) -> str:
    """What is to be done about items that cannot be read."""
    named = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{named} in {folder.name}/{QUEUE} cannot be read and is not sent: publish the run again, then delete it."


def _in(seconds: float) -> str:
    if seconds <= 1:
        return "now"
    return f"in {seconds:.0f} s" if seconds < 90 else f"in {seconds / 60:.0f} min"
