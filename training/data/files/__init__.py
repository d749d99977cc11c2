"""The files of a dataset: which of them make which split, and the rows of each by position, whatever its format.

Doors: `layout.split_files`, `row_files.open_file`, `row_files.saved_splits`.
"""
