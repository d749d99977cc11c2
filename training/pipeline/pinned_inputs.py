"""What a run reads, pinned at its first start and compared at every later one: base, rows, adapter, curriculum.

A base and a dataset of the Hub are pinned to their commits, in the run's configuration. What is on this machine cannot
be pinned; its digests are kept in `sources.json`, and a start that finds other ones is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.settings import base_source
from training.config.run_config import RunConfig
from training.data.dataset import Splits
from training.runs.folder import RunFolder, write_whole
from training.runs.provenance import base_commit, model_digest

ROLES = ("train", "validation", "test")


class OtherSources(UserError):
    """What a run reads is not what it began with."""


def pin(config: RunConfig) -> RunConfig:
    """`config` with commits in the place of the branches and tags of its base and its dataset on the Hub.

    Raises `UserError` for a dataset that is not there. The base is checked before (`training.pipeline.preflight.check_base`).
    """
    data = config.data
    if data.is_hub:
        from training.data.hub_source import resolve_commit

        data = data.model_copy(update={"revision": resolve_commit(data.dataset, data.revision)})
    commit = base_commit(config.base, config.base_revision)
    return config.model_copy(update={"data": data, "base_revision": commit or config.base_revision})


def check_sources(config: RunConfig, folder: RunFolder, splits: Splits) -> None:
    """Keep what the first start reads, and refuse a later one that reads something else.

    Raises `UserError` also where rows are missing that the run needs at its end.
    """
    _check_roles(config, splits)
    found = _sources(config, splits)
    path = folder.path / "sources.json"
    if not path.exists():
        write_whole(path, json.dumps(found, indent=1))
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in found if name in before and before[name] != found[name]]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); put it back, or {folder.way_out()}") from None
    if differing:
        name = differing[0]
        raise OtherSources(
            f"{name} of the run in {folder.path} was {_shown(before[name])} when it began, and is "
            f"{_shown(found[name])} now ({_named(config, name)}): a run does not go on with something else. "
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


def _sources(config: RunConfig, splits: Splits) -> dict[str, Any]:
    """The digest of each thing that the run reads, by name; those that it does not read are `None`."""
    adapter, curriculum = config.start_adapter, config.curriculum
    return {
        "base": model_digest(base_source(config.base), config.base_revision),
        "start_adapter": model_digest(Path(adapter).expanduser()) if adapter else None,
        "curriculum": _file_digest(Path(curriculum).expanduser()) if curriculum else None,
        **{f"{role} rows": _rows(getattr(splits, role)) for role in ROLES},
    }


def _rows(rows: Any) -> dict[str, Any]:
    """How many rows, and a digest of them in order: the beginning of a row's name is that of picture and problem."""
    found = hashlib.blake2b(digest_size=16)
    for texts in zip(rows["row_id"], rows["problem"], rows["solution"]):
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            found.update(len(content).to_bytes(8) + content)
    return {"num": len(rows), "digest": found.hexdigest()}


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise UserError(f"the curriculum {path} cannot be read ({error.strerror}); name an audit's JSON") from None


def _shown(source: Any) -> str:
    return f"{source['num']:,} rows ({source['digest'][:8]})" if isinstance(source, dict) else str(source)


def _named(config: RunConfig, name: str) -> str:
    values = {"base": config.base, "start_adapter": config.start_adapter, "curriculum": config.curriculum}
    return str(values.get(name) or config.data.dataset)
