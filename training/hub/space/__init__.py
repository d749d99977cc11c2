"""The Space itself: deployment, prices of hardware, sleep timer, and the setup steps that a deployment lacks.

Doors: `plan` and `apply` (for the command `deploy`), `prices`, `setup` and `sleep_timer` (for the page), `readme_block`
(for `make space`).
"""
