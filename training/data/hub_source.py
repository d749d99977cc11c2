"""Rows of a Hub dataset, at one commit, even if a branch was named.

Its files are chosen and read as those of a folder here, and only those of the splits that are open, and the pictures
that their rows name, are downloaded, into the Hub's cache. Where its card assigns the files, `datasets` says which;
what is packed in another way, as pictures in a ZIP, `datasets` reads. No code of a repository ever runs, no pickle is
opened, no link is followed, and nothing outside the repository is fetched.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
import huggingface_hub
import yaml
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import tqdm

from inference.common.errors import UserError
from inference.common.files import read_json, write_json
from inference.common.hub_errors import HubError, HubUnreachable, read_error, reason
from inference.common.hub_names import COMMIT
from training.config.data_config import DataConfig
from training.data.files.file_names import suffix_of
from training.data.files.layout import METADATA, by_folder, is_wanted, not_read, split_files, writer_of
from training.data.files.row_files import ArrowRows, open_file
from training.data.files.split_column import lists_of, open_splits
from training.data.local_source import CARD, DOCUMENTS, OpenFiles
from training.data.picture_cells.names import PictureNames
from training.data.picture_cells.text import looks_like_pictures
from training.data.pictures import Folders, plain_path
from training.data.refusals import Refusal
from training.data.shapes.class_labels import features_of_card
from training.data.source import RowFile

FORMATS = ("parquet", "json", "csv", "arrow", "imagefolder", "webdataset", "cache")
"""Builders of `datasets` that read plain data; `cache` reads what is on disk already."""
MAX_FILES = 200_000
"""Files of a repository that are listed."""
MAX_LIST_BYTES = 256 * 2**20
"""The list of so many files, as JSON."""
MAX_PICTURE_BYTES = 100e9
"""The pictures that a repository's rows may name, together."""
SPARE_BYTES = 2**30
"""Room on the disk that a download leaves."""
DOWNLOADS = 4
"""Data files that are downloaded at once."""
LINK_BYTES = 1_024
"""A longer file is no link: git keeps a link as a file that holds its target."""
CARDS = (CARD, ".huggingface.yaml")
"""Files in which a repository assigns its files to splits."""


class HubSource(OpenFiles):
    """A dataset on the Hub, or in the local cache if the Hub cannot be reached."""

    def __init__(self, config: DataConfig, splits: Sequence[str], commit: str | None = None) -> None:
        self.name = config.dataset
        pinned = commit or resolve_commit(config.dataset, config.revision)
        self.revision: str | None = pinned
        repository = _Repository(self.name, pinned)
        chosen = repository.chosen(config)
        self.features = repository.features(config)
        if chosen is None:
            prepared, subset = _prepared(config, pinned)
            folders = Folders.of(_cache_of(self.name))
            named = {split: [(ArrowRows(rows), folders)] for split, rows in prepared.items()}
            notes = repository.notes
            self.names, files = open_splits(self.name, list(named), splits, named.__getitem__, notes, "datasets")
        else:
            subset = config.subset or "default"
            only = [path for paths in chosen.values() for path in paths]
            inside: dict[str, list[tuple[RowFile, Folders]]] = {}
            if len(only) == 1 and suffix_of(PurePosixPath(only[0])) in DOCUMENTS:  # which may name its splits
                inside = repository.opened(only[0])
                inside = {next(iter(chosen)): inside[""]} if "" in inside else inside

            def opened(split: str) -> list[tuple[RowFile, Folders]]:
                if inside:
                    return inside[split]
                repository.bring(chosen[split])
                found = (lists_of(repository.opened(path), split, path) for path in chosen[split])
                return [one for of_file in found for one in of_file]

            notes, writer = repository.notes, writer_of(map(PurePosixPath, only))
            self.names, files = open_splits(self.name, list(inside or chosen), splits, opened, notes, writer)
        super().__init__(files, repository.notes)
        self.identity = f"{self.name}@{pinned}/{subset}"

    def signature(self) -> str:
        """Its identity: a commit does not change."""
        return self.identity


class _Repository:
    """The files of a dataset at one commit: their list, and those that are brought into the cache."""

    def __init__(self, name: str, commit: str) -> None:
        self._name, self._commit = name, commit
        self._root = _cache_of(name) / "snapshots" / commit
        self._list = _cache_of(name) / "lookthink" / f"{commit}.json"
        listed = read_json(self._list, MAX_LIST_BYTES)
        if listed is None:
            listed = {"files": _list_files(name, commit), "assigned": {}}
            self._list.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._list, listed, indent=None)  # so that the Hub need not be asked again
        self._files: dict[str, int] = listed["files"]
        self._assigned: dict[str, dict[str, list[str]] | None] = listed["assigned"]
        self.notes: list[str] = []
        """What is not read, and what is read as another thing than it says."""
        self._by_plain: dict[str, str] = {}
        self._names = (PictureNames(self._root, lambda: self._files),)
        self._pictures: set[str] = set()
        self._picture_bytes = 0
        self._lock = threading.Lock()

    def chosen(self, config: DataConfig) -> dict[str, list[str]] | None:
        """The files of each split, as a folder here would have them, or as the card says if it does.

        `None` if others may hold the rows, which `datasets` reads. Raises `UserError` for several subsets, and for a
        card that names data elsewhere.
        """
        names = [PurePosixPath(path) for path in sorted(self._files)]
        cards = [_configs(self._name, self._get(card), card) for card in CARDS if card in self._files]
        if any(cards):
            subset = config.subset or ""
            if subset not in self._assigned:
                self._assigned[subset] = self._as_the_card_says(config)
                write_json(self._list, {"files": self._files, "assigned": self._assigned}, indent=None)
            assigned = self._assigned[subset]
            if assigned is not None:
                known = {path for paths in assigned.values() for path in paths}
                self.notes = not_read(name for name in names if str(name) not in known)
            return assigned
        saved = {name.parent for name in names if name.name == "state.json"}
        wanted = [name for name in names if is_wanted(name)]
        wanted = [name for name in wanted if name.parent not in saved or name.name.startswith("data-")]
        if "dataset_dict.json" in self._files:  # written by `save_to_disk`
            found = by_folder(wanted)
        else:
            files = split_files(
                wanted,
                f"The dataset {self._name}",
                "--subset {}".format,
                config.subset,
                pictures={name.stem for name in names if looks_like_pictures(name.name)},
            )
            found, seen = files.splits, {*wanted, *(name for name in names if name.parent in saved)}
            self.notes = files.notes + not_read(name for name in names if name not in seen)
        splits = sorted(found, key=lambda split: split != "train")
        return {split: [str(name) for name in found[split]] for split in splits} or None

    def features(self, config: DataConfig) -> Mapping[str, Any]:
        """The columns with names of classes, by the card."""
        return features_of_card(self._get(CARD), config.subset) if CARD in self._files else {}

    def _as_the_card_says(self, config: DataConfig) -> dict[str, list[str]] | None:
        builder = _builder(config, self._commit)
        _check_files(builder, self._name)
        start = f"hf://datasets/{self._name}@{self._commit}/"
        chosen = {}
        for split, found in (builder.config.data_files or {}).items():
            paths = [str(file).removeprefix(start) for file in found]
            data = [path for path in paths if path in self._files and is_wanted(PurePosixPath(path))]
            if not data or not all(path in data or looks_like_pictures(path) for path in paths):
                return None
            metadata = [path for path in data if PurePosixPath(path).name.split(".")[0].lower() == METADATA]
            chosen[str(split)] = metadata or data
        return chosen or None

    def bring(self, paths: Sequence[str]) -> None:
        """Downloads data files, those that are not here. Raises `UserError`."""
        missing = sum(self._files[path] for path in paths if not (self._root / path).is_file())
        if missing and missing > shutil.disk_usage(_there(self._root)).free - SPARE_BYTES:
            raise UserError(
                f"{missing / 1e9:.1f} GB of the dataset {self._name} must be downloaded, and the disk of "
                f"{_there(self._root)} has no room for it. Free some space, or set HF_HOME to a larger disk."
            )
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            list(pool.map(self._get, paths))

    def opened(self, path: str) -> dict[str, list[tuple[RowFile, Folders]]]:
        """The rows of a data file, by the split that it names itself, if it does; downloaded if need be.

        Raises `UserError`.
        """
        self.bring([path])
        try:
            inside, note = open_file(self._get(path))
        except UserError as error:
            raise UserError(f"The dataset {self._name} at {self._commit[:12]} cannot be read: {error}") from error
        self.notes += [note] if note else []
        return {split: [(rows, self._folders(path))] for split, rows in inside.items()}

    def _folders(self, path: str) -> Folders:
        tried = dict.fromkeys(((self._root / path).parent, self._root))
        return Folders(tuple(tried), (self._root,), self._picture, self._near, names=self._names)

    def _near(self, path: str) -> str | None:
        with self._lock:
            if not self._by_plain:
                self._by_plain = {plain_path(name): name for name in self._files}
        return self._by_plain.get(plain_path(path))

    def _picture(self, path: str, max_bytes: float) -> Path | None:
        """A picture's file; `None` if there is none. Raises `Refusal` for a large one or a link."""
        size = self._files.get(path)
        if size is None:
            return None
        if size > max_bytes:
            detail = f"{path[:120]!r} has {size / 1e6:.1f} MB, {max_bytes / 1e6:g} are read"
            raise Refusal("picture too large", detail)
        with self._lock:
            self._picture_bytes += size if path not in self._pictures else 0
            self._pictures.add(path)
        if self._picture_bytes > MAX_PICTURE_BYTES:
            raise UserError(
                f"The pictures that the rows of {self._name} name have more than {MAX_PICTURE_BYTES / 1e9:g} GB. Read "
                "fewer rows: --split 'train[:10%]'."
            )
        target = self._get(path, tqdm_class=_NoBar)
        if 0 < size <= LINK_BYTES and (content := target.read_bytes()).isascii() and content.decode().isprintable():
            raise Refusal("picture refused", f"{path[:120]!r} is a link in the repository; none is followed")
        return target

    def _get(self, path: str, tqdm_class: type[tqdm] | None = None) -> Path:
        try:
            found = huggingface_hub.hf_hub_download(
                self._name, path, repo_type="dataset", revision=self._commit, tqdm_class=tqdm_class
            )
        except Exception as error:  # the Hub's client and its HTTP library share no base class
            cause = error.__cause__ if isinstance(error, hub_errors.LocalEntryNotFoundError) else None
            in_words = read_error("dataset", self._name, cause if isinstance(cause, Exception) else error)
            if in_words is None and isinstance(error, OSError):
                in_words = HubError(
                    f"A file of the dataset {self._name} cannot be kept in {_there(self._root)}: {error.strerror}. "
                    "Free some space, or set HF_HOME to another disk."
                )
            if in_words is None:
                raise
            raise in_words from error
        return Path(found)


class _NoBar(tqdm):
    """The progress of one of thousands of small files, which is not shown."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{**options, "disable": True})


def _list_files(name: str, commit: str) -> dict[str, int]:
    """The paths of a repository's files, with their sizes in bytes. Raises `UserError`."""
    files: dict[str, int] = {}
    try:
        for entry in huggingface_hub.HfApi().list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset"):
            if isinstance(entry, huggingface_hub.RepoFile) and ".." not in entry.path.split("/"):
                files[entry.path] = int(entry.size)
            if len(files) > MAX_FILES:
                raise UserError(
                    f"The dataset {name} has more than {MAX_FILES:,} files. Pack its pictures in Parquet or in tars."
                )
    except UserError:
        raise
    except Exception as error:  # the Hub's client and its HTTP library share no base class
        in_words = read_error("dataset", name, error)
        if in_words is None:
            raise
        if isinstance(in_words, HubUnreachable):
            raise HubUnreachable(
                f"The cache holds no list of the files of {name} at {commit[:12]}, and {reason(error)}. Connect this "
                "machine, or name a revision that is cached.",
                in_words.retry_after,
            ) from error
        raise in_words from error
    return files


def _prepared(config: DataConfig, commit: str) -> tuple[dict[str, datasets.Dataset], str]:
    """All splits as `datasets` reads them, and the name of the subset."""
    name = config.dataset
    builder = _builder(config, commit)
    _check_files(builder, name)
    try:
        builder.download_and_prepare()
        names = [str(split) for split in builder.info.splits or {}]
        return {split: builder.as_dataset(split) for split in names}, builder.config.name
    except UserError:
        raise
    except Exception as error:  # a repository is untrusted, and its readers raise errors of any kind
        raise UserError(
            f"The dataset {name} at {commit[:12]} cannot be read: {reason(error)}. "
            "If the download broke off, try again; else name another revision, or tell its owner."
        ) from error


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


def _configs(name: str, path: Path, filename: str) -> object:
    """The files of each split by a card. Raises `UserError` if it names data outside its repository."""
    text = path.read_text(encoding="utf-8", errors="replace")
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
    return configs


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


def _there(path: Path) -> Path:
    """The folder, or the first above it, that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
