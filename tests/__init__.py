"""Tests, in the same folders as the code. `support/` holds helpers, `end_to_end/` what crosses rooms."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
