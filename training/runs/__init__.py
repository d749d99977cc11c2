"""Runs and their records. A run's folder is the truth; the database is an index of the folders.

Doors: `folder` (a run's files and checkpoints), `record` and `store` (the list of runs and their statuses), `recovery`
(a record read from its folder), `upkeep` (deleted, lost and resumed runs), `outcome` (how a run's process ended),
`snapshot` (the state of a run for a page), `metrics` (names and units of all figures), `diagnosis`, `provenance`,
`processes`, `failures` (errors in words, exit statuses), `estimate` (time, memory and money of a run before it is paid
for). `database` is behind `store`.
"""
