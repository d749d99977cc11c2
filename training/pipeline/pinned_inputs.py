"""Comparison of a run's inputs with those of its first start: base, rows, adapter to start from, curriculum,
own reward functions.

Inputs from the Hub are pinned to their commits in the run's configuration (`training.pipeline.preflight`). The digests
of all inputs are in `sources.json`, and a start with other inputs is refused.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from inference.common.errors import UserError
from inference.common.files import read_json, write_json
from inference.common.settings import base_source
from training.config.run_config import RunConfig
from training.data.dataset import Splits
from training.data.splits import ROLES
from training.evaluation.held_out import texts_digest
from training.grading.reward_loading import code_digest
from training.runs.folder import DROPPED, RunFolder
from training.runs.provenance import model_digest

if TYPE_CHECKING:
    from datasets import Dataset


MAX_DROPPED_SHOWN = 20
"""Rows that a run's record of what was left out names."""
log = logging.getLogger(__name__)


class RowsDigest(TypedDict):
    """The number of rows of a role, and a digest of them."""

    num: int
    digest: str


Digest = str | RowsDigest | None


class OtherSources(UserError):
    """The run's inputs differ from those of its first start."""


def check_sources(config: RunConfig, folder: RunFolder, splits: Splits) -> None:
    """Writes the digests of the first start's inputs; raises `OtherSources` for a later start with other inputs.

    Raises `UserError` if rows are missing that the run needs at its end.
    """
    _check_roles(config, splits)
    first = splits.dropped.to_json()[:MAX_DROPPED_SHOWN]
    write_json(folder.path / DROPPED, {"num": len(splits.dropped), "words": splits.dropped.words(), "first": first})
    digests = _digests(config, splits)
    path = folder.path / "sources.json"
    before: dict[str, Digest] | None = read_json(path)
    if before is None:
        if path.exists():
            log.warning("%s is damaged: the inputs cannot be compared, and are taken as they are now", path)
        write_json(path, digests)
        return
    differing = [name for name in digests if name in before and before[name] != digests[name]]
    if differing:
        name = differing[0]
        raise OtherSources(
            f"{name} of the run in {folder.path} was {_shown(before[name])} when it began, and is "
            f"{_shown(digests[name])} now ({_source_of(config, name)}): a run does not go on with other inputs. "
            f"Put it back as it was, or {folder.way_out()}"
        )


def _check_roles(config: RunConfig, splits: Splits) -> None:
    if config.eval_rows and not len(splits.test):
        raise UserError(
            f"eval_rows is {config.eval_rows}, but {config.data.dataset} has no test rows as it is split "
            f"({splits.dropped}); give --test-rows, or --eval-rows 0"
        )
    if config.choose_checkpoint and not len(splits.validation):
        raise UserError(
            f"choose_checkpoint needs validation rows, and {config.data.dataset} has none left ({splits.dropped}); "
            "give more with --validation-rows, or --choose-checkpoint false"
        )


def _digests(config: RunConfig, splits: Splits) -> dict[str, Digest]:
    """The digest of each input by name; `None` for one that the run does not have."""
    adapter, curriculum = config.start_adapter, config.curriculum
    digests: dict[str, Digest] = {
        "base": model_digest(base_source(config.base), config.base_revision),
        "start_adapter": model_digest(Path(adapter).expanduser()) if adapter else None,
        "curriculum": _file_digest(Path(curriculum).expanduser()) if curriculum else None,
    }
    digests |= {f"reward {name}": digest for name in config.rewards if (digest := code_digest(name))}
    for role in ROLES:
        rows: Dataset = getattr(splits, role)
        digest = texts_digest(
            rows["row_id"], rows["problem"], rows["solution"]
        )  # an id begins with the picture's digest
        digests[f"{role} rows"] = {"num": len(rows), "digest": digest}
    return digests


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise UserError(f"the curriculum {path} cannot be read ({error.strerror}); name an audit's JSON") from None


def _shown(digest: Digest) -> str:
    if not isinstance(digest, dict):
        return str(digest)
    return f"{digest.get('num')} rows ({str(digest.get('digest'))[:8]})"  # the file may have been edited


def _source_of(config: RunConfig, name: str) -> str:
    values = {"base": config.base, "start_adapter": config.start_adapter, "curriculum": config.curriculum}
    if name.startswith("reward "):
        return "the code of " + name.removeprefix("reward ").partition(":")[0]
    return str(values.get(name) or config.data.dataset)
