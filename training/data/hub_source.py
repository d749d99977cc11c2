"""Rows of a Hub dataset, at one commit, even if a branch was named.

Loaded by `datasets` from plain data files; pictures stay undecoded. No code of a repository ever runs, no pickle is
opened, and nothing outside the repository is fetched.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import huggingface_hub
import yaml
from huggingface_hub import errors as hub_errors

from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, read_error, reason
from inference.common.hub_names import COMMIT
from training.config.data_config import DataConfig
from training.data.pictures import Folders
from training.data.source import RawRow, cells_of, no_such_split

FORMATS = ("parquet", "json", "csv", "arrow", "imagefolder", "webdataset", "cache")
"""Builders of `datasets` that read plain data; `cache` reads what is on disk already."""
BATCH_ROWS = 16
"""Rows in memory at once."""
CARDS = ("README.md", ".huggingface.yaml")
"""Files in which a repository assigns its files to splits."""


class HubSource:
    """A dataset on the Hub, or in the local cache if the Hub cannot be reached."""

    def __init__(self, config: DataConfig, splits: Sequence[str], commit: str | None = None) -> None:
        self.name = config.dataset
        self.revision: str | None = commit or resolve_commit(config.dataset, config.revision)
        self._folders = Folders.of(_cache_of(config.dataset))
        _check_cards(self.name, self.revision)
        builder = _builder(config, self.revision)
        self.identity = f"{self.name}@{self.revision}/{builder.config.name}"
        _check_files(builder, self.name)
        try:
            builder.download_and_prepare()
            self.names = list(builder.info.splits or {})
            for split in splits:
                if split not in self.names:
                    raise no_such_split(self.name, split, self.names)
            self._datasets = {split: builder.as_dataset(split) for split in splits}
        except UserError:
            raise
        except Exception as error:  # a repository is untrusted, and its readers raise errors of any kind
            raise UserError(
                f"The dataset {self.name} at {self.revision[:12]} cannot be read: {reason(error)}. "
                "If the download broke off, try again; else name another revision, or tell its owner."
            ) from error
        self.sizes = {split: len(dataset) for split, dataset in self._datasets.items()}

    def signature(self) -> str:
        """Its identity: a commit does not change."""
        return self.identity

    def columns(self, split: str) -> list[str]:
        """The names of the columns."""
        return list(self._datasets[split].column_names)

    def rows(self, split: str, positions: Sequence[int], columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows at `positions`, from the memory-mapped files."""
        chosen = self._datasets[split].select_columns(list(columns)).select(positions).with_format("arrow")
        at = 0
        for table in chosen.iter(BATCH_ROWS):
            for index in range(table.num_rows):
                yield RawRow(positions[at], cells_of(table, index), self._folders)
                at += 1


def resolve_commit(name: str, revision: str | None) -> str:
    """The commit of a branch, a tag or a short commit; from the cache if the Hub cannot be reached."""
    try:
        api = huggingface_hub.HfApi()
        info = api.dataset_info(name, revision=revision)
        if info.gated:  # its description is public, its files are not
            api.auth_check(name, repo_type="dataset")
        # The cache then knows the branch's commit if the Hub cannot be reached later, even without a card.
        with contextlib.suppress(hub_errors.EntryNotFoundError):
            huggingface_hub.hf_hub_download(name, CARDS[0], repo_type="dataset", revision=revision)
        return str(info.sha)
    except Exception as error:  # the Hub's client and its HTTP library share no base class
        in_words = read_error("dataset", name, error)
        if in_words is None:
            raise
        if isinstance(in_words, HubUnreachable):
            return _cached_commit(name, revision, error)
        raise in_words from error


def published_sizes(config: DataConfig) -> dict[str, int]:
    """Rows of each split by the repository's card, without a download; empty if the card does not tell.

    Raises `UserError` for a dataset that is not there, and `HubUnreachable` if the Hub does not answer.
    """
    try:
        card = huggingface_hub.HfApi().dataset_info(config.dataset, revision=config.revision).card_data
    except Exception as error:  # the Hub's client and its HTTP library share no base class
        in_words = read_error("dataset", config.dataset, error)
        if in_words is None:
            raise
        raise in_words from error
    infos = card.to_dict().get("dataset_info") if card else None
    for info in infos if isinstance(infos, list) else [infos]:
        if isinstance(info, dict) and config.subset in (None, info.get("config_name")):
            splits = info.get("splits")
            named = [split for split in splits if isinstance(split, dict)] if isinstance(splits, list) else []
            return {str(s.get("name")): n for s in named if isinstance(n := s.get("num_examples"), int)}
    return {}


def _cached_commit(name: str, revision: str | None, error: Exception) -> str:
    """The commit of this revision in the cache."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    reference = _cache_of(name) / "refs" / (revision or "main")
    if not reference.resolve().is_relative_to(_cache_of(name).resolve()) or not reference.is_file():
        raise UserError(
            f"The Hub cannot be reached ({reason(error)}) and the cache holds no {revision or 'main'} of {name}. "
            "Connect this machine, or load the dataset once where it is connected."
        ) from error
    return reference.read_text(encoding="utf-8").strip()


def _check_cards(name: str, commit: str) -> None:
    """Refuses a card that names data outside its repository, before `datasets` resolves it."""
    for filename in CARDS:
        try:
            path = huggingface_hub.hf_hub_download(name, filename, repo_type="dataset", revision=commit)
        except (hub_errors.HfHubHTTPError, OSError):  # no such file; an unreachable Hub is noticed later
            continue
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        if filename.endswith(".md"):
            header = re.match(r"\s*---[ \t]*\n(.*?)\n---", text, re.DOTALL)
            text = header[1] if header else ""
        try:
            card = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"The dataset {name} has a broken {filename}: {reason(error)}.") from error
        configs = card.get("configs") if isinstance(card, dict) else None
        if foreign := next((text for text in _texts(configs) if "://" in text), None):
            raise UserError(
                f"The dataset {name} names data at {foreign[:120]!r}, which is not in its own repository; only its own "
                "files are read."
            )


def _texts(value: object) -> Iterator[str]:
    """Every string in nested lists and mappings; each list once, even if a YAML alias repeats it."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _builder(config: DataConfig, commit: str) -> datasets.DatasetBuilder:
    try:
        builder = datasets.load_dataset_builder(config.dataset, config.subset, revision=commit)
    except Exception as error:  # a repository is untrusted, and its readers raise errors of any kind
        raise UserError(
            f"The dataset {config.dataset} at {commit[:12]} cannot be loaded: {reason(error)}. "
            "It must hold Parquet, JSON, CSV or pictures; several subsets need --subset."
        ) from error
    if builder.hash != commit:  # `datasets` falls back to the latest version in its cache
        raise UserError(
            f"The Hub cannot be reached, and the cache holds {config.dataset} at {str(builder.hash)[:12]}, not at "
            f"{commit[:12]}. Connect this machine, or name the revision that is cached."
        )
    return builder


def _check_files(builder: datasets.DatasetBuilder, name: str) -> None:
    """Refuses everything but plain data of this repository, since a card can name addresses anywhere."""
    packaged = "datasets.packaged_modules."
    modules = [cls.__module__ for cls in type(builder).__mro__]  # the class itself may be made for this dataset
    kind = next((name.split(".")[2] for name in modules if name.startswith(packaged)), type(builder).__name__)
    if kind not in FORMATS:
        raise UserError(
            f"The dataset {name} is read by `{kind}`, which is not one of {', '.join(FORMATS)}. Convert it to Parquet."
        )
    files = [file for of_split in (builder.config.data_files or {}).values() for file in of_split]
    own = f"hf://datasets/{name}@"
    foreign = [file for file in files if not str(file).startswith(own)]
    if foreign and kind != "cache":
        raise UserError(
            f"The dataset {name} names {str(foreign[0])[:120]!r}, which is not in its own repository; only its own "
            "files are read."
        )


def _cache_of(name: str) -> Path:
    """The folder of the Hub's cache that holds this dataset's files."""
    return Path(huggingface_hub.constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
