"""Copies of runs, and of what is served, that outlive the machine.

Doors: `backup` (what the app does in the background), `mirror` (copies one folder), `restore` (brings copies back),
`copies` (how a copy lies in the bucket).
"""
