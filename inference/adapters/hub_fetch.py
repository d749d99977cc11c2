"""Fetches an adapter of the Hub, `owner/name` or `owner/name@revision`, into a checked folder.

    folder = fetch_adapter("owner/name@v1", settings.home, settings.base)

It is pinned to a commit. Only the files listed here are fetched, safetensors and no pickle, after their sizes and the
adapter's settings were checked; each is compared with the Hub's digest. After that it is served without a network, as
long as its name stands for the same commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.hub_cache import FOLDER, HubName, Ref, cached_folder, hub_name, read_ref, write_ref
from inference.adapters.record import (
    MAX_JSON_BYTES,
    ORIGIN_FILE,
    RECORD_FILE,
    SAY_SO,
    SAYS_PROMPT,
    base_problem,
    read_record,
)
from inference.common.errors import UserError
from inference.common.files import exclusive
from inference.common.hub_errors import HubUnreachable, read_error
from inference.common.hub_names import COMMIT
from inference.common.settings import Settings
from inference.model.lora_file import CONFIG_FILE, MAX_WEIGHTS_BYTES, WEIGHTS_FILE
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import check_system_prompt, write_system_prompt

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

RUN_FILE = "lookthink/run.json"
"""LookThink's record of the run that made the adapter; its system prompt is read from it."""
REMOTE = {CONFIG_FILE: MAX_JSON_BYTES, WEIGHTS_FILE: MAX_WEIGHTS_BYTES}
REMOTE |= {RUN_FILE: MAX_JSON_BYTES, f"lookthink/{RECORD_FILE}": MAX_JSON_BYTES}
"""The only files that are fetched, with the most bytes of each."""
PICKLES = ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin")
TIMEOUT_SECONDS = 10.0
"""Silence of the Hub after which it counts as unreachable."""
_LOCK = f"{FOLDER}/lock"
"""Held during a fetch, so that two processes that want the same adapter fetch it once."""
_SPARE_BYTES = 200_000_000
log = logging.getLogger(__name__)


def fetch_adapter(text: str, home: Path, base: str | None) -> Path:
    """The folder of the adapter named `text`, fetched if it is not here; if the Hub is unreachable, the one here.

    Without a `base` its owner has to say that it is of the base here (`promote` with `same_base`).
    Raises `UserError` if the Hub has no such adapter or it cannot be served with `base`, `HubUnreachable` if the Hub
    does not answer and the adapter was never fetched.
    """
    name = hub_name(text)
    if name is None:
        raise UserError(f"{text[:200]!r} is no adapter's name on the Hub. Write owner/name, or owner/name@revision.")
    try:
        folder = _fetch(name, home, base)
    except HubUnreachable as error:
        cached = cached_folder(home, name)
        if cached is None:
            raise
        log.warning("%s Meanwhile %s is served as it was fetched before: %s.", error, name, cached.name)
        _check_base(cached, name, base)
        return cached
    except OSError as error:
        where, why = error.filename or home / FOLDER, error.strerror or error
        raise UserError(f"{where}: {why}. Free some space there, or set LOOKTHINK_HOME to another folder.") from error
    return folder


def fetch_named(settings: Settings) -> str:
    """Fetch the adapter that the settings name, if it is one of the Hub. Returns the problem; empty if there is none.

    The problem is also stored beside the adapter's name, and `serving` reports it.
    """
    name = hub_name(settings.adapter) if settings.adapter else None
    if name is None:
        return ""
    problem = ""
    try:
        fetch_adapter(str(name), settings.home, settings.base)
    except UserError as error:
        problem = str(error)
    try:
        with exclusive(settings.home / _LOCK, wait_seconds=-1):
            write_ref(settings.home, name, Ref(read_ref(settings.home, name).commit, problem))
    except OSError as error:
        problem = problem or f"{settings.home}: {error.strerror}."
    if problem:
        log.warning("%s", problem)
    return problem


def _fetch(name: HubName, home: Path, base: str | None) -> Path:
    if name.revision and COMMIT.fullmatch(name.revision) and (folder := name.folder(home, name.revision)).is_dir():
        _check_base(folder, name, base)
        return folder
    info = _look_up(name)
    commit = str(info.sha)
    folder = name.folder(home, commit)
    with exclusive(home / _LOCK, wait_seconds=-1):
        if not folder.is_dir():
            _download(name, commit, _files(name, info), folder, base)
        _check_base(folder, name, base)
        write_ref(home, name, Ref(commit))
    return folder


def _look_up(name: HubName) -> ModelInfo:
    """The commit that the name stands for now, and its files with their sizes."""
    import huggingface_hub

    with _hub_errors(name):
        api = huggingface_hub.HfApi()
        info = api.model_info(name.id, revision=name.revision, files_metadata=True, timeout=TIMEOUT_SECONDS)
    if not COMMIT.fullmatch(str(info.sha)):
        raise HubUnreachable(f"The Hub names no commit for {name}. Try again later.")
    if name.revision and COMMIT.fullmatch(name.revision) and info.sha != name.revision:
        raise UserError(
            f"{name} looks like a commit, but there it is a branch or a tag, which can move. Name the commit, "
            f"{name.id}@{info.sha}."
        )
    return info


def _download(name: HubName, commit: str, files: dict[str, RepoSibling], folder: Path, base: str | None) -> None:
    """Fetch the small files, check them, then fetch the weights. The folder gets its name once all is complete."""
    incoming = folder.with_name(f".incoming-{folder.name}")
    room = shutil.disk_usage(folder.parent).free - _SPARE_BYTES
    if sum(file.size or 0 for file in files.values()) > room:
        raise UserError(f"The disk of {folder.parent} has no room for the adapter {name}. Free some space.")
    says_prompt = False
    try:
        for path in sorted(files, key=lambda path: path == WEIGHTS_FILE):
            if path == WEIGHTS_FILE:
                says_prompt = _check_small_files(incoming, name, base)
            _get(name, commit, files[path], incoming)
        _check_weights(incoming, name)
        shutil.rmtree(incoming / ".cache", ignore_errors=True)
        shutil.rmtree(incoming / "lookthink", ignore_errors=True)
        origin = {"adapter": str(name), "commit": commit, SAYS_PROMPT: says_prompt}
        (incoming / ORIGIN_FILE).write_text(json.dumps(origin), encoding="utf-8")
    except UserError as error:
        if not isinstance(error, HubUnreachable):  # else the next attempt continues with what has arrived
            shutil.rmtree(incoming, ignore_errors=True)
        raise
    incoming.rename(folder)


def _files(name: HubName, info: ModelInfo) -> dict[str, RepoSibling]:
    """The allowed files that are there. Raises `UserError` if they are not an adapter, or too large."""
    listed = {file.rfilename: file for file in info.siblings or ()}
    if WEIGHTS_FILE not in listed:
        pickles = [path for path in PICKLES if path in listed]
        if pickles:
            raise UserError(
                f"The adapter {name} has its weights as a pickle only ({pickles[0]}), which could run any code and is "
                "never opened. Save it with safe_serialization=True."
            )
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if needed not in listed:
            raise UserError(f"{name} is not an adapter: it has no {needed}. Name a repository that PEFT saved one in.")
    files = {path: listed[path] for path in REMOTE if path in listed}
    for path, file in files.items():
        size = file.size
        if size is None or not 0 <= size <= REMOTE[path]:
            raise UserError(
                f"{path} of the adapter {name} has {_size(size)}; at most {_size(REMOTE[path])} are taken. Lower its "
                "rank, or take out what is no adapter."
            )
    return files


def _get(name: HubName, commit: str, file: RepoSibling, incoming: Path) -> None:
    """Download one file and compare it with the size and the digest that the Hub named."""
    import huggingface_hub

    incoming.mkdir(parents=True, exist_ok=True)
    with _hub_errors(name):
        path = Path(
            huggingface_hub.hf_hub_download(
                name.id, file.rfilename, revision=commit, local_dir=incoming, etag_timeout=TIMEOUT_SECONDS
            )
        )
    if not _matches(path, file):
        shutil.rmtree(incoming, ignore_errors=True)
        raise HubUnreachable(f"{file.rfilename} of the adapter {name} did not arrive as the Hub has it. Try again.")


def _matches(path: Path, file: RepoSibling) -> bool:
    """True if a file has the Hub's size and digest: git's for a small file, SHA-256 for a large one."""
    size = path.stat().st_size
    with path.open("rb") as content:
        if file.lfs:
            return size == file.size and hashlib.file_digest(content, "sha256").hexdigest() == file.lfs.sha256
        blob = hashlib.sha1(b"blob %d\0" % size)
        while piece := content.read(1 << 20):
            blob.update(piece)
    return size == file.size and blob.hexdigest() == file.blob_id


def _check_small_files(incoming: Path, name: HubName, base: str | None) -> bool:
    """Check the settings and the system prompt, and put the small files where an adapter has them.

    True if the repository says the system prompt.
    """
    from inference.model.lora_file import check_config  # it loads torch, which callers may not need

    evaluation, run = incoming / "lookthink" / RECORD_FILE, incoming / RUN_FILE
    if evaluation.is_file():
        shutil.copyfile(evaluation, incoming / RECORD_FILE)
    try:
        check_config(incoming, base, str(name))
        prompt = _prompt_in(run) if run.is_file() else None
        if prompt not in (None, THINK_PROMPT):
            write_system_prompt(incoming, check_system_prompt(prompt))
    except UserError as error:
        raise UserError(f"The adapter {name} cannot be served: {_lower(str(error))}") from error
    return prompt is not None


def _prompt_in(run: Path) -> object:
    """The system prompt in a run's record; `None` if it has none."""
    try:
        record = json.loads(run.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"Its record {RUN_FILE} is not JSON ({error}).") from error
    return record.get("system_prompt") if isinstance(record, dict) else None


def _check_weights(incoming: Path, name: HubName) -> None:
    """Check that the weights are safetensors with a LoRA, by their header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(incoming / WEIGHTS_FILE, "np") as file:
            if not any(".lora_" in key for key in file.keys()):
                raise UserError(f"{WEIGHTS_FILE} of {name} holds no LoRA. Only plain LoRA can be served.")
    except SafetensorError as error:
        raise UserError(f"{WEIGHTS_FILE} of {name} is no safetensors file ({error}). Save it again.") from error


def _check_base(folder: Path, name: HubName, base: str | None) -> None:
    if base is not None and (problem := base_problem(read_record(folder), base)):
        raise UserError(f"The adapter {name} cannot be served: {problem}. Name an adapter of this base. {SAY_SO}")


@contextmanager
def _hub_errors(name: HubName) -> Iterator[None]:
    """Translates the Hub's errors into `UserError`."""
    try:
        yield
    except Exception as error:  # the HTTP library's own errors share no base with Python's
        in_words = read_error("adapter", str(name), error)
        if in_words is None:
            raise
        raise in_words from error


def _size(size: int | None) -> str:
    return f"{size / 1e6:,.1f} MB" if size is not None else "no size"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
