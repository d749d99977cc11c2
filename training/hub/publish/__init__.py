"""Publishing: sends a run's adapters to the Hub from a queue on disk, in a separate process.

Doors: `queue` (put an adapter in, and say how it stands), `retry` (start the process, from trainer and app), `publisher`
(that process, and `finish` for commands).
"""
