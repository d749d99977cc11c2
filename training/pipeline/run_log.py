"""A run's own log file."""

from __future__ import annotations

import logging
from pathlib import Path


class Logged:
    """Writes what is logged to the file `path` too, for as long as it is entered."""

    def __init__(self, path: Path) -> None:
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        """Begin."""
        logging.getLogger().addHandler(self.handler)
        logging.getLogger("training").setLevel(logging.INFO)

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()
