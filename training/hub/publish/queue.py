"""The publish queue of a run: files in its folder that trainer, app and command line share.

    publish/key                  eight digits that mark the run's own commits
    publish/<time>-<digits>/     one item: an adapter, its processor, and `item.json`
    publish/record.json          publications, and why the next one waits
    publish/lock                 held by the process that sends

Queueing makes a few links, so a step never waits for it. A newer checkpoint replaces one that waits for the same
repository, unless each is to be published; only a newer result replaces a result. Imports neither torch nor the Hub's
client.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inference.adapters.record import RECORD_FILE, evaluation_of, read_beside
from inference.common.errors import UserError
from inference.common.files import Json, Timeout, exclusive, read_json, write_json, write_whole
from inference.common.hub_names import repository_problem
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from training.runs.folder import RunFolder, step_of

QUEUE, RECORD, ITEM = "publish", "record.json", "item.json"
CURVE = "rewards.png"
PROCESSOR_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
)
"""The files of a processor; no other file of a checkpoint leaves this machine."""
MAX_WAIT_SECONDS = 5_000.0
"""The longest wait between two tries; a later time comes from a clock that was set back, or from an edit by hand."""
_MAX_KEPT = 200
"""Publications that the record keeps."""
_KEY = re.compile(r"[0-9a-f]{8}")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "repo": str,
    "step": int,
    "is_result": bool,
    "public": bool,
    "replace": bool,
    "is_kept": bool,
    "queued_at": (int, float),
}


@dataclass(frozen=True)
class Item:
    """An adapter in the queue, and its repository."""

    folder: Path
    """The folder with the adapter, the processor, and of a result the evaluation."""
    repo: str
    step: int
    is_result: bool
    """True for the adapter of a finished run, False for a checkpoint."""
    public: bool = False
    """Make a new repository public."""
    replace: bool = False
    """Write to the main branch even if somebody else wrote to it last."""
    is_kept: bool = False
    """True for a checkpoint that no newer one replaces."""
    queued_at: float = 0.0
    """Seconds since 1970."""


@dataclass
class State:
    """The content of `record.json`."""

    notice: str = ""
    """The reason of a delay, or a warning, in words; empty if there is none."""
    tries: int = 0
    """Failures in a row."""
    next_try: float = 0.0
    """Seconds since 1970."""
    published: list[Json] = field(default_factory=list)
    """The newest last: `repo`, `step`, `is_result`, `revision`, `commit`, `tag`, `time`, `publication`."""


class PublishQueue:
    """The queue of the run in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.run = folder
        self.path = folder / QUEUE

    def put(self, source: Path, processor: Path | None, base_name: str, **about: Any) -> Path:
        """Queues the adapter in `source` with the processor in `processor`; `about` are fields of `Item`.

        Returns the item's folder. Raises `UserError` if there is no adapter, and `OSError` for a full disk.
        """
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (source / name).is_file():
                raise UserError(f"{source} holds no adapter to publish ({name} is missing); let the run make one")
        self.path.mkdir(exist_ok=True)
        self.key()
        new = self.path / f".new-{secrets.token_hex(4)}"
        new.mkdir()
        try:
            _link(source / WEIGHTS_FILE, new / WEIGHTS_FILE)
            settings = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
            write_json(new / CONFIG_FILE, settings | {"base_model_name_or_path": base_name}, indent=2)
            is_stale = bool(read_beside(source, RECORD_FILE)) and not evaluation_of(source)  # of other weights
            extra = {RECORD_FILE: source / RECORD_FILE} if about["is_result"] and not is_stale else {}
            extra |= {name: processor / name for name in PROCESSOR_FILES} if processor else {}
            for name, path in extra.items():
                if path.is_file():
                    _link(path, new / name)
            write_json(new / ITEM, about | {"queued_at": time.time()})
            return new.rename(self.path / f"{time.time_ns()}-{secrets.token_hex(2)}")
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def waiting(self) -> list[Item]:
        """The items to send, oldest first, without those that a newer one replaces."""
        items = [item for path in sorted(self.path.glob("[0-9]*-*")) if (item := _read_item(path)) is not None]
        return [item for at, item in enumerate(items) if not any(_replaces(new, item) for new in items[at + 1 :])]

    def unreadable(self) -> list[Path]:
        """Folders in the queue that are not valid items: they are neither sent nor deleted."""
        return [path for path in sorted(self.path.glob("[0-9]*-*")) if _read_item(path) is None]

    def take_out(self, item: Item) -> None:
        """Deletes an item and the older ones that it replaces."""
        for path in sorted(self.path.glob("[0-9]*-*")):
            other = _read_item(path)
            if other is not None and (path == item.folder or path.name < item.folder.name and _replaces(item, other)):
                shutil.rmtree(path, ignore_errors=True)

    def key(self) -> str:
        """The run's own eight hexadecimal digits, made at the first call."""
        path = self.path / "key"
        if (key := _read_key(path)) is None:
            new = path.with_name(f".key-{secrets.token_hex(4)}")
            write_whole(new, secrets.token_hex(4))
            try:
                _link(new, path)
            except FileExistsError:  # of two at once one was first, and both read its key; or it is broken
                if _read_key(path) is None:
                    new.replace(path)
            new.unlink(missing_ok=True)
            key = _read_key(path)
        if key is None:
            raise OSError(errno.EIO, "cannot be written and read again", str(path))
        return key

    def state(self) -> State:
        """The record; an empty one if there is none or it is damaged."""
        try:
            values = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
            published = [entry for entry in values["published"] if _is_entry(entry)]
            next_try = float(values["next_try"])
            is_near = next_try - time.time() <= MAX_WAIT_SECONDS
            return State(str(values["notice"]), int(values["tries"]), next_try if is_near else 0.0, published)
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return State()

    def keep(self, state: State) -> None:
        """Writes the record; only for the process that holds the queue."""
        values = asdict(state) | {"published": state.published[-_MAX_KEPT:]}
        write_json(self.path / RECORD, values)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Holds the queue for sending; yields False where another process does. The lock ends with the process."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self.path / "lock"))
            except Timeout:
                yield False
                return
            yield True


def result_step(folder: RunFolder) -> int:
    """The step of a run's adapter: the chosen checkpoint's, else the last."""
    chosen = (read_json(folder.path / "validation.json") or {}).get("chosen")
    if isinstance(chosen, int):
        return chosen
    newest = folder.newest_checkpoint()
    return step_of(newest) if newest else len(folder.history())


def waiting_runs(runs: Path) -> Iterator[tuple[str, Path]]:
    """The runs in a folder with queued items, each with the name of an item; names sort by age."""
    for path in runs.glob(f"[!.]*/{QUEUE}/[0-9]*-*/{ITEM}"):
        yield path.parent.name, path.parents[2]


def _replaces(new: Item, old: Item) -> bool:
    return new.repo == old.repo and not old.is_kept and (new.is_result or not old.is_result)


def _read_item(path: Path) -> Item | None:
    """`None` for a folder that is not a valid item: somebody may have edited it."""
    try:
        values = json.loads((path / ITEM).read_text(encoding="utf-8"))
        item = Item(path, **values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_typed = all(isinstance(getattr(item, name), kind) for name, kind in _KINDS.items())
    return item if is_typed and repository_problem("", item.repo) is None and item.step >= 0 else None


def _read_key(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        key = path.read_text(encoding="ascii").strip()
        return key if _KEY.fullmatch(key) else None
    return None


def _is_entry(entry: object) -> bool:
    """True for a valid entry of the record."""
    return isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("repo", "commit"))


def _link(source: Path, target: Path) -> None:
    """Links a file, so that it stays when the source is deleted; copies it where the disk has no hard links."""
    try:
        os.link(source, target, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def find_run(named: str, home: Path) -> Path:
    """The folder of a run, given by its id or its path. Raises `UserError`."""
    path = Path(named).expanduser()
    for place in (path, *([home / "runs" / named] if len(path.parts) == 1 else [])):
        if (place / "config.json").is_file():
            return place.absolute()
    raise UserError(f"there is no run {named!r}; `python -m training runs` lists them")


def queue_run(path: Path, to: str | None, *, public: bool = False, replace: bool = False) -> str:
    """Queues the result of a run, else its newest checkpoint, for `to` or its own `publish_to`; returns the repository.

    Raises `UserError` if no repository is named, or there is nothing to publish yet.
    """
    folder, config = RunFolder.open(path)
    repo = to or config.publish_to
    if repo is None:
        raise UserError(
            f"no repository is named for the adapter of {path.name}; give --to owner/name, or set publish_to under "
            "training in space.yaml"
        )
    if problem := repository_problem("the repository", repo):
        raise UserError(problem)
    newest = folder.newest_checkpoint()
    is_result = is_done(folder)
    source = folder.adapter if is_result else newest
    if source is None:
        raise UserError(f"run {path.name} has no checkpoint yet; publish it when it has")
    public = public or config.publish_public
    PublishQueue(path).put(
        source,
        newest,
        plain_name(config.base),
        repo=repo,
        step=result_step(folder) if is_result else step_of(source),
        is_result=is_result,
        public=public,
        replace=replace,
    )
    return repo


def is_done(folder: RunFolder) -> bool:
    """True if a run has its adapter and has ended."""
    has_adapter = all((folder.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))
    return has_adapter and folder.status().get("status") != "running"


def plain_name(name: str) -> str:
    """A Hub id unchanged; of a path the last part.

    >>> plain_name("Qwen/Qwen2.5-VL-3B-Instruct"), plain_name("/data/bases/mine"), plain_name("./pictures")
    ('Qwen/Qwen2.5-VL-3B-Instruct', 'mine', 'pictures')
    """
    is_path = name.startswith(("/", "~", ".")) or name.count("/") > 1 or Path(name).exists()
    return Path(name).name if is_path else name


def publish_words(folder: Path, publish_to: str | None = None) -> str:
    """Sentences on what is published, what waits and why; empty for a run that is not published. Not escaped.

    >>> publish_words(Path("nowhere"), "me/adapter")
    'Its adapter goes to me/adapter: nothing is there yet.'
    """
    queue = PublishQueue(folder)
    state, waiting = queue.state(), queue.waiting()
    broken = [path.name for path in queue.unreadable()]
    if not (state.published or waiting or state.notice or broken):
        return f"Its adapter goes to {publish_to}: nothing is there yet." if publish_to else ""
    parts = [broken_words(folder, broken)] if broken else []
    if state.published:
        last = state.published[-1]
        what = "The result" if last.get("is_result") else f"Step {last.get('step')}"
        name = last.get("tag") or str(last.get("commit"))[:12]
        parts.append(f"{what} is published as {last.get('repo')}@{name}.")
    if waiting and not state.tries:
        parts.append(f"Step {waiting[-1].step} is on its way to {waiting[-1].repo}.")
    if state.notice:
        parts.append(f"{state.notice[:1].upper()}{state.notice[1:].rstrip('.')}.")
    if waiting and state.tries:
        parts.append(f"The next try is {_in(state.next_try - time.time())}.")
    return " ".join(parts)


def broken_words(folder: Path, names: list[str]) -> str:
    """The remedy for items that cannot be read."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} in {folder.name}/{QUEUE} cannot be read and is not sent: publish the run again, then delete it."


def _in(seconds: float) -> str:
    if seconds <= 1:
        return "now"
    return f"in {seconds:.0f} s" if seconds < 90 else f"in {seconds / 60:.0f} min"
