"""Evaluation of adapters on held-out rows, the choice of a checkpoint and the comparison before a promotion.

Doors: `evaluate` (from a configuration to the report's files), `scoring` (for callers with an engine and rows),
`conditions`, `outcomes` (figures), `report` (tables, JSON, verdict), `measures` (besides accuracy), `compare` (with the
served adapter, and the rule of promotion), `checkpoint_choice`, `held_out` (the rows), `statistics` (shares with
intervals), `plots`. `resume` is behind `scoring`.
"""
