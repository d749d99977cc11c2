"""The content of cells in the shapes of rows that people bring: turns, options, pictures in one or several columns.

`formats` in the folder above puts them together. Doors: `options`, `option_columns`, `golds`, `problems`, `turns`,
`image_columns`, `class_labels` and `cells`.
"""
