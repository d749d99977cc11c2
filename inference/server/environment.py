"""The environment for Gradio, set before it is imported: no analytics, and uploads that are deleted in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from inference.common.background import PeriodicTask
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.prompt.image import limit_decoding

UPLOAD_SECONDS = 3600
"""Uploads are deleted when they are older than this."""
CLEANING_SECONDS = 300
"""Between two searches for old uploads."""


def prepare(settings: Settings) -> None:
    """Set what Gradio reads when it is imported, and delete old uploads from now on.

    Raises `UserError` if the home folder is not writable.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio sums up all past events after each one, for a page of figures that is turned off here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**12)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"
    # The server would believe X-Forwarded-For from any caller on this machine; the owner of a proxy may set this.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    uploads = settings.home / "uploads"
    try:
        uploads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{uploads} cannot be made ({error.strerror}). Make the folder writable for this user, or set "
            "LOOKTHINK_HOME to one that is."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    PeriodicTask(lambda: _delete_old_files(uploads), CLEANING_SECONDS, name="uploads").start()
    limit_decoding(settings.limits)


def _delete_old_files(folder: Path) -> None:
    """Uploads of earlier processes too: Gradio deletes only its own, and forgets them at its end."""
    oldest = time.time() - UPLOAD_SECONDS
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
