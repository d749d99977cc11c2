"""The page in Gradio: Ask, Compare and About, what a completion looks like, and the endpoints for programs.

Doors: `page.build_page` for the app, `theme` for its launch; `components` and `markup` serve the training half too.
"""
