"""Datasets that people make on this machine, from pictures that they label and from files that they upload.

Doors: `sets.OwnSets` keeps them, `upload.opened` reads an upload. Each is a folder that `local_source` reads.
"""
