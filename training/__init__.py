"""Makes adapters: GRPO runs, their evaluation, and their way to the Hub; built on `inference`.

Doors: `python -m training` (`cli`), the tab Train (`ui.training_app.TrainingApp`), and `pipeline.run` for one run.
"""
