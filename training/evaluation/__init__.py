"""Evaluation of adapters on held-out rows, and what follows from it.

Doors: `evaluate` (from a configuration to the report's files), `scoring` (with an engine and rows at hand), `compare`
(the comparison with the served adapter), `checkpoint_choice`, `statistics` (shares with intervals).
"""
