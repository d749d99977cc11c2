"""Failures that end a run early: the cause, the remedy, and the exit status.

>>> print(explain_failure(MemoryError(), RunConfig(), Path("run")).status)
3
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from inference.common.errors import UserError, first_line
from training.config.run_config import RunConfig

OUT_OF_MEMORY, DISK_FULL, NOT_A_NUMBER, REFUSED, UNREACHABLE = 3, 4, 5, 6, 7
INTERRUPTED, BUDGET_SPENT = 75, 76
"""Exit statuses of `train`. 1 is a bug, 2 is wrong input; after 75 (`EX_TEMPFAIL`) and 76 a run can be resumed."""
OTHER_PROCESS = "process "
"""The beginning of the reason where one of several processes failed that does not write the records."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_SPACE_WORDS = ("no space left on device", "disk quota exceeded")
"""The words of safetensors and Arrow, whose errors have no number."""
_TORN_WRITE_WORDS = ("pytorchstreamwriter failed", "unexpected pos", "iostream error")
"""The words of `torch.save` where a write was cut short, whatever the reason."""
_ALMOST_NOTHING = 64 * 2**20
"""Bytes free at most on a disk that a large write has just filled."""
_UNREACHED = ("TransportError", "LocalEntryNotFoundError", "OfflineModeIsEnabled")
_NOT_THERE = ("RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError")


class RunFailed(Exception):
    """A run that ended early; its `str` has the reason and the remedy for the user."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotANumber(ArithmeticError):
    """A loss or a gradient that is not finite."""


def explain_failure(error: BaseException, config: RunConfig, folder: Path) -> RunFailed | None:
    """The failure that an exception means; `None` for wrong input and for errors without a known remedy.

    A `UserError` caused by the Hub or a full disk keeps its words, and gets the exit status of its cause.
    """
    if isinstance(error, UserError):
        full = any(isinstance(cause, OSError) and cause.errno in NO_SPACE for cause in _chain(error))
        status = DISK_FULL if full else hub_trouble(error)
        return RunFailed(str(error), status) if status else None
    if is_out_of_memory(error):
        return RunFailed(memory_message(config), OUT_OF_MEMORY)
    if isinstance(error, NotANumber):
        return RunFailed(
            f"{error}; the checkpoints have the weights of earlier steps. Lower learning_rate (now "
            f"{config.learning_rate:g}) or max_grad_norm (now {config.max_grad_norm:g}) in a new "
            "run, from a checkpoint with --start-adapter or from the beginning",
            NOT_A_NUMBER,
        )
    if any(_is_disk_full(cause, folder) for cause in _chain(error)):
        return RunFailed(_disk_message(folder), DISK_FULL)
    return _explain_hub(error)


def hub_trouble(error: BaseException) -> int | None:
    """`REFUSED` or `UNREACHABLE` where the Hub was the cause of an error; `None` for others, also "no such thing"."""
    kinds = [({kind.__name__ for kind in type(cause).__mro__}, _http_status(cause)) for cause in _chain(error)]
    for names, status in kinds:
        if "GatedRepoError" in names or status in (401, 403) and not names.intersection(_NOT_THERE):
            return REFUSED
    if any(s is not None and names.intersection(_NOT_THERE) for names, s in kinds):  # the Hub was reached, and said so
        return None
    if any(names.intersection(_UNREACHED) or s is not None and (s >= 500 or s in (0, 408, 429)) for names, s in kinds):
        return UNREACHABLE
    return None


def _explain_hub(error: BaseException) -> RunFailed | None:
    trouble = hub_trouble(error)
    answers = [first_line(cause) for cause in _chain(error) if _http_status(cause) is not None]
    words = (answers or [first_line(error)])[0]
    if trouble == REFUSED:
        return RunFailed(
            f"the Hub refused the token: {words}. Set HF_TOKEN to a token that may read this repository, and accept "
            "its terms on its page if it is gated",
            REFUSED,
        )
    if trouble == UNREACHABLE or answers:
        return RunFailed(
            f"the Hub cannot be reached or has no such thing ({words}); check the name and the network, or use what "
            "is on this machine with HF_HUB_OFFLINE=1",
            UNREACHABLE,
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """True if the memory of a card or of the machine ran out."""
    words = str(error).lower()
    is_named = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return (
        is_named or isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )


def memory_message(config: RunConfig) -> str:
    """The words for a run whose memory, a card's or the machine's, ran out, with the remedies."""
    at_resume = []
    if config.micro_batch_size == "auto" or config.micro_batch_size > 1:
        at_resume.append(f"lower micro_batch_size (now {config.micro_batch_size})")
    if config.gradient_checkpointing is not True:
        at_resume.append("turn gradient_checkpointing on")
    first = f"with --resume {', or '.join(at_resume)}; or, " if at_resume else ""
    return (
        f"out of memory; {first}in a new run from the last checkpoint (--start-adapter), lower max_completion_length "
        f"(now {config.max_completion_length}), or lower data.max_pixels (now {config.data.max_pixels or 'no limit'}). "
        "The checkpoints are complete"
    )


def _is_disk_full(error: BaseException, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    words = str(error).lower()
    if any(phrase in words for phrase in _NO_SPACE_WORDS):
        return True
    torn = isinstance(error, RuntimeError) and any(phrase in words for phrase in _TORN_WRITE_WORDS)
    return torn and _free_bytes(folder) < _ALMOST_NOTHING


def _free_bytes(folder: Path) -> int:
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(nearest).free


def _disk_message(folder: Path) -> str:
    return (
        f"the disk is full: {_free_bytes(folder) / 1e6:.0f} MB free at {folder}. Make room, or lower "
        f"keep_checkpoints; then go on with --resume {folder} from the last complete checkpoint"
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An error and its causes, the outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


def _http_status(error: BaseException) -> int | None:
    """The HTTP status of an error of `huggingface_hub`, known by its response; `None` for other errors."""
    if not any(kind.__name__ == "HfHubHTTPError" for kind in type(error).__mro__):
        return None
    return getattr(getattr(error, "response", None), "status_code", 0)
