"""Runs as Hugging Face Jobs.

Doors: `launcher` (starts, watches and stops runs, Jobs or processes), `placement` (words and prices before a start),
`worker` (the program inside a Job).
"""
