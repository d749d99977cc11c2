"""Runs and their records. A run's folder is the truth; the database is an index of the folders.

Doors: `folder` (a run's files and checkpoints), `record` and `store` (the list of runs and their statuses), `recovery`
(a record read from its folder), `outcome` (how a start ended), `snapshot` (a run as a page shows it), `diagnosis`,
`estimate`, `provenance`, `processes`, `failures` (errors in words, exit statuses).
"""
