"""Answers questions about pictures, thinking and answer apart; it knows nothing of training.

Doors: `server.service.Service` answers, `ui.page.build_page` shows it, and `engine.engine.Engine` generates for both
halves.
"""

import os

# TRL, Gradio and the Hub's client report their use unless told not to; they read this once, when they are imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
