"""An audit of a dataset before money is spent on it: golds, sizes, leaks, and how hard the problems are for the base.

Doors: `scan.audit` makes an `AuditReport`, `sample` adds completions of the base and a projection of the planned run,
`page.render_page` turns the report into one HTML file. The command line is `training.cli.audit`.
"""
