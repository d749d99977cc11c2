"""Answers questions about pictures, thinking and answer apart; it knows nothing of training.

Doors: `server.service.Service` answers, `ui.page.build_page` shows it, and `engine.engine.Engine` generates for both
halves.
"""
