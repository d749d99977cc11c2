"""Measures of an evaluation besides accuracy.

Doors: `probes` (whether the answer hangs on the thought), `calibration` (whether the share of votes is the chance to be
right), `outside` (what else training changed).
"""
