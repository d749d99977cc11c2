"""Pictures in cells, as far as no file is read: `text`, pictures that are written as text, and `names`, their paths.

`training.data.pictures` reads the files.
"""
