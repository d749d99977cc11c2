"""Draws the starter problems (pictures with questions) and makes the starter model that is trained on them.

Doors: `problems` (the generator and its data set), `templates` (kinds of picture and of question), `pretrainer` (the
training of the model), `model` (its configuration, tokenizer and processor), and `known_pictures` (statistics of them).
"""
