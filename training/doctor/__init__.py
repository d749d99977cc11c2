"""Trying out whether this machine is right for a run: the doctor.

Doors: `checks.examine` (the table of lines, each looked at), `report` (the JSON report, and where it is kept),
`background.Examination` (the doctor as a process of its own, for the page and a Job) and `background.FirstLook` (the
short form at a Space's first start). `inference.engine.fast_paths` reads which fast paths a report has proven.
"""
