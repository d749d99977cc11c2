"""Sharing an answer: the button, the panel that says what is kept, and what an address opens.

Doors: `panel`.
"""
