"""Publishing: sends a run's adapters to the Hub from a queue on disk, in a separate process.

Doors: `queue` (add an adapter, describe what waits), `retry` (start the process, from trainer and app), `publisher`
(that process, and `finish` for commands).
"""
