"""What ends a run early, in words: what happened, what to change, and the exit status that says so.

>>> print(explain_failure(MemoryError(), RunConfig(), Path("run")).status)
3
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from training.config import RunConfig

OUT_OF_MEMORY, DISK_FULL, NOT_A_NUMBER, REFUSED, UNREACHABLE, INTERRUPTED = 3, 4, 5, 6, 7, 75
"""Exit statuses of `train`. 1 is a bug, 2 wrong input; 75 (`EX_TEMPFAIL`) is a stop that can be resumed."""


class RunFailed(Exception):
    """A run that ended early; `str` of it tells the user why and what to do."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotANumber(ArithmeticError):
    """A loss or a gradient that is not finite."""


def explain_failure(error: BaseException, config: RunConfig, folder: Path) -> RunFailed | None:
    """The failure that an exception stands for; `None` for one that nobody has a remedy for."""
    if _is_out_of_memory(error):
        return RunFailed(_memory_message(config), OUT_OF_MEMORY)
    if isinstance(error, NotANumber):
        return RunFailed(
            f"{error}; the checkpoints hold the weights from before. Lower learning_rate (now "
            f"{config.learning_rate:g}) or max_grad_norm (now {config.max_grad_norm:g}) in a new "
            "run, from a checkpoint with --start-adapter or from the beginning",
            NOT_A_NUMBER,
        )
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return RunFailed(_disk_message(folder), DISK_FULL)
        if (status := _hub_status(cause)) in (401, 403):
            return RunFailed(
                f"the Hub refused the token (HTTP {status}): {_first_line(cause)}. Set HF_TOKEN to a token that may "
                "read this repository, and accept its terms on its page if it is gated",
                REFUSED,
            )
        if status is not None or type(cause).__name__ in ("ConnectError", "ConnectTimeout", "LocalEntryNotFoundError"):
            return RunFailed(
                f"the Hub cannot be reached or has no such thing ({_first_line(cause)}); check the name and the "
                "network, or use what is on this machine with HF_HUB_OFFLINE=1",
                UNREACHABLE,
            )
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    named = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return named or isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def _memory_message(config: RunConfig) -> str:
    at_resume = []
    if config.micro_batch_size > 1:
        at_resume.append(f"lower micro_batch_size (now {config.micro_batch_size})")
    if not config.gradient_checkpointing:
        at_resume.append("turn gradient_checkpointing on")
    first = f"with --resume {', or '.join(at_resume)}; or, " if at_resume else ""
    return (
        f"out of memory; {first}in a new run from the last checkpoint (--start-adapter), lower max_completion_length "
        f"(now {config.max_completion_length}), or lower data.max_pixels (now {config.data.max_pixels}). "
        "The checkpoints are whole"
    )


def _disk_message(folder: Path) -> str:
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    return (
        f"the disk is full: {free / 1e6:.0f} MB free at {folder}. Make room, then resume with "
        "--resume from the last whole checkpoint, and a lower keep_checkpoints if need be"
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it, the outermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _hub_status(error: BaseException) -> int | None:
    """The HTTP status of an error of `huggingface_hub`, known by its response; `None` for other errors."""
    if not any(kind.__name__ == "HfHubHTTPError" for kind in type(error).__mro__):
        return None
    return getattr(getattr(error, "response", None), "status_code", 0)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
