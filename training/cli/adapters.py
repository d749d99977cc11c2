"""Lists the adapters on this machine with their scores, and names the served one: `python -m training adapters`."""

from __future__ import annotations

import argparse
import textwrap

from inference.adapters.catalog import Version, adapter_versions
from inference.adapters.served import Serving, serving
from inference.common.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no options."""


def main(args: argparse.Namespace) -> int:
    """Prints the list."""
    settings = load_settings()
    now = serving(settings)
    print(listing(now, adapter_versions(settings, now)))
    return 0


def listing(now: Serving, versions: list[Version]) -> str:
    """The served adapter, then a paragraph for each adapter."""
    since = f" since {now.since}, by {now.by}" if now.since else ""
    lines = [f"served: {now.name or 'the base alone'}{since}"]
    if now.notice:
        lines.append(_wrapped(now.notice))
    for version in versions:
        marks = [word for word, holds in (("served", version.is_served), ("before", version.is_before)) if holds]
        facts = [version.origin, *marks, *([version.scores] if version.scores else [])]
        if version.promoted_at:
            facts.append(f"promoted {version.promoted_at} by {version.promoted_by}")
        lines.append(f"\n{version.name}: {', '.join(facts)}")
        lines += [_wrapped(text) for text in (version.verdict, version.problem) if text]
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  ")
