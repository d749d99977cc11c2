"""Starts the trainer's process: its command, session and log, and an environment with the secrets that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from inference.common.environment import HUB_TOKENS, MARK, is_secret
from inference.common.settings import STARTER_NAME
from training.config.run_config import RunConfig
from training.runs.outcome import OUTPUT
from training.runs.record import RunRecord

_ROOT = Path(__file__).resolve().parents[2]
_BAR_SECONDS = "2"
"""The seconds between two states of the progress bar in the log."""


def spawn(record: RunRecord) -> subprocess.Popen[bytes]:
    """Starts the trainer for a record that is `starting`; it outlives this process. Raises `OSError`."""
    command = [sys.executable, "-m", "training.launch.worker", str(record.folder.parents[1]), record.id, record.launch]
    with (record.folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environment(record, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def environment(record: RunRecord, env: Mapping[str, str]) -> dict[str, str]:
    """The environment for the trainer of a run: this process's, with only the secrets that it needs.

    These are the Hub's token if base or dataset come from the Hub, or adapters or metrics go to it, and the key of a
    tracker that the run reports to.
    """
    needed = _needed(record)
    allowed = {name: value for name, value in env.items() if name in needed or not is_secret(name, value)}
    home = str(record.folder.parents[1])
    return allowed | {
        MARK: record.launch,
        "LOOKTHINK_HOME": home,
        "PYTHONIOENCODING": "utf-8",  # its output goes into a file that is read as UTF-8
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning",  # of libraries, for their users' code
        "TQDM_MININTERVAL": _BAR_SECONDS,
    }


def secrets_for(record: RunRecord, env: Mapping[str, str]) -> dict[str, str]:
    """The secrets of an environment that the trainer of a run needs, for a trainer on another machine."""
    return {name: env[name] for name in sorted(_needed(record)) if env.get(name)}


def _needed(record: RunRecord) -> set[str]:
    try:
        config = record.run_config
    except ValueError:
        return set()  # the trainer refuses it and says why
    needed = set(HUB_TOKENS) if _uses_hub(config) else set()
    return needed | ({"WANDB_API_KEY"} if "wandb" in config.report_to else set())


def _uses_hub(config: RunConfig) -> bool:
    is_hub_base = config.base != STARTER_NAME and not Path(config.base).expanduser().exists()
    return is_hub_base or config.data.is_hub or config.publish_to is not None or "trackio" in config.report_to
