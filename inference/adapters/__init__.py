"""Adapters on disk, on the Hub and in memory: records, versions, the served one, and those of a running app.

Doors: `record` (adapters and their records), `catalog` (all of them as a list), `served` (promote, roll back, and what
is served), `versions`, `hub_fetch` and `hub_cache` (adapters of the Hub), and `live` for the app.
"""
