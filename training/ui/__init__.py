"""The Train tab in Gradio, for the admin: log-in, then the sections Start, Watch, Runs and Adapters.

Door: `training_app.TrainingApp`, which the app makes; `base` holds what the sections share.
"""
