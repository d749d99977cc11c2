"""How often a Job is looked at, and how long is waited for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How often and how long; in seconds."""

    look: float = 5.0
    """Between two looks at the Hub."""
    others: float = 60.0
    """Between two looks for Jobs that nobody knows of."""
    longest_wait: float = 120.0
    """Between two looks while it does not answer."""
    in_queue: float = 600.0
    """After this a Job that waits is told of, with other machines."""
    cancel_again: float = 30.0
    log: float = 60.0
    """After the end, for the rest of the log."""
    fetch: float = 120.0
    """Between two tries to bring home what is still in the bucket."""
    mirror: float = 60.0
    """Between two copies of the run's folder to the bucket, inside the Job."""
    least_timeout: float | None = None
    """For tests: the Job's timeout, instead of what the estimate makes it."""
