"""Runs as Hugging Face Jobs, behind the launcher's door."""
