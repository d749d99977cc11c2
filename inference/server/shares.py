"""Answers that visitors share: signed when they are given, kept for some days at addresses that cannot be guessed.

    shares = Shares(settings.home, settings.sharing)
    record = shares.sign(answer)                         # goes to the page with the completion
    share_id, key = shares.save(record, pictures)        # what came back from the page
    shares.read(share_id).answer
    shares.delete(share_id, key)

The signature (HMAC-SHA256 under a secret of this process) shows that an answer was given here; it names the pictures by
their content, so nothing of an answer stays in memory. A share is the folder `<home>/shares/<id>` with `share.json` and
its pictures; a text and a JPEG or PNG that were written here, never a visitor's file.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from inference.common.errors import Busy, UserError
from inference.common.files import Timeout, exclusive, read_json, write_json, write_whole
from inference.common.space_file import SharingSection
from inference.common.validation import Strict
from inference.prompt.image import content_key
from inference.server.visitors import RateLimit, whole_seconds

MAX_RECORD_CHARS = 200_000
"""A longer answer is not signed, so it cannot be shared."""
SHARES_PER_HOUR = 20
"""Of one visitor."""
DAY = 86_400
LOCK_SECONDS = 10.0
_FILE, _NEW = "share.json", ".new-"
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_BLOCK = 4_096
"""A file takes at least this many bytes of a disk."""
MAX_PNG_BYTES = 250_000
"""A picture that takes more is kept as a JPEG, which is not pixel for pixel the same."""
_JPEG_QUALITY = 92
_UNFINISHED_SECONDS = 3_600
UNKNOWN = "There is no shared answer at this address: its days are over, it was deleted, or the address is incomplete."
UNSIGNED = (
    "This answer cannot be shared: it was changed, or the app was started anew since it was given. Ask again, and "
    "share that answer."
)
OFF = "Answers cannot be shared here. The owner turns it on: sharing.allowed in space.yaml."


class SharedVerdict(Strict):
    """The grader's verdict."""

    correct: bool
    gold: str
    answer: str
    rule: str


class SharedAnswer(Strict):
    """One question with its settings, and its completion."""

    pictures: tuple[str, ...]
    """By their `content_key`, in hex."""
    question: str
    expected: str
    base: str
    adapter: str | None
    """`None` for the base alone."""
    title: str
    """What the page calls the adapter, or the base."""
    system_prompt: str
    max_new_tokens: int
    temperature: float
    seed: int
    state: str
    text: str
    num_tokens: int
    seconds: float
    thought_tokens: int
    thought_seconds: float
    picture_distance: float | None
    verdict: SharedVerdict | None


class Share(Strict):
    """Content of a share's file."""

    answer: SharedAnswer
    created: float
    """Seconds since 1970."""
    key_sha256: str
    """Of the key that deletes it; its visitor's browser has the key."""
    files: tuple[str, ...]
    """The pictures, in their order."""


class Shares:
    """The shares of one home folder."""

    def __init__(self, home: Path, settings: SharingSection) -> None:
        self.folder, self.settings = home / "shares", settings
        self._secret = secrets.token_bytes(32)
        self._rate = RateLimit(SHARES_PER_HOUR, 3_600)

    def sign(self, answer: SharedAnswer) -> str:
        """The answer as a signed text; empty where sharing is off, or if it is too long."""
        text = answer.model_dump_json() if self.settings.allowed else ""
        return self._signature(text) + text if 0 < len(text) <= MAX_RECORD_CHARS else ""

    def save(self, record: object, images: Sequence[Image.Image], visitor: str = "") -> tuple[str, str]:
        """Keep an answer with its pictures; returns its id and the key that deletes it.

        Raises `UserError` for a record that was not signed here, for other pictures, and if there is no room.
        """
        answer = self._verified(record)
        if [content_key(image).hex() for image in images] != list(answer.pictures):
            raise UserError("The pictures are not those of this answer. Ask about them, and share that answer.")
        if wait := self._rate.take(visitor):
            raise Busy(f"You shared {SHARES_PER_HOUR} answers in an hour. Share the next in {whole_seconds(wait)}.")
        encoded = [_encoded(image) for image in images]
        share_id, key = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        files = {f"picture-{i}.{kind}": data for i, (kind, data) in enumerate(encoded, 1)}
        share = Share(answer=answer, created=time.time(), key_sha256=_sha256(key), files=tuple(files))
        try:
            with self._locked():
                self._check_room(sum(map(_taken, files.values())) + _taken(share.model_dump_json().encode()))
                self._write(share_id, share, files)
        except OSError as error:
            raise UserError(f"The answer cannot be kept here ({error.strerror}). Tell the owner.") from error
        return share_id, key

    def read(self, share_id: object) -> Share:
        """The share of that id; raises `UserError` if there is none or its days are over."""
        if not self.settings.allowed:
            raise UserError(OFF)
        share = self._stored(share_id)
        if share is None or self._is_over(share.created):
            raise UserError(UNKNOWN)
        return share

    def pictures(self, share_id: str, share: Share) -> list[bytes]:
        """The files of its pictures; raises `UserError` if it was deleted meanwhile."""
        try:
            return [(self.folder / share_id / Path(name).name).read_bytes() for name in share.files]
        except OSError:
            raise UserError(UNKNOWN) from None

    def delete(self, share_id: object, key: object) -> None:
        """Delete it for whoever has its key; raises `UserError` for another key, and if there is no such share."""
        share = self._stored(share_id)
        if share is None:
            raise UserError(UNKNOWN)
        if not isinstance(key, str) or not hmac.compare_digest(_sha256(key), share.key_sha256):
            raise UserError("Only the browser that shared this answer has the key to delete it. Ask the owner.")
        self.delete_as_owner(share_id)

    def delete_as_owner(self, share_id: object) -> None:
        """Delete it; raises `UserError` if there is no such share."""
        folder = self._folder_of(share_id)
        if folder is None or not folder.is_dir():
            raise UserError(UNKNOWN)
        try:
            with self._locked():
                shutil.rmtree(folder)
        except OSError as error:
            raise UserError(f"The shared answer cannot be deleted ({error.strerror}). Tell the owner.") from error

    def newest(self) -> Iterator[tuple[str, Share]]:
        """All shares that can be read, by their ids, the newest first."""
        found = [(path.name, share) for path in self._folders() if (share := self._stored(path.name)) is not None]
        yield from sorted(found, key=lambda one: -one[1].created)

    def num_bytes(self) -> int:
        """Bytes of the disk that all shares take."""
        sizes = (path.stat().st_size for folder in self._folders() for path in folder.glob("*") if path.is_file())
        return sum(max(_BLOCK, size) for size in sizes)

    def sweep(self) -> None:
        """Delete the shares whose days are over, also where sharing was turned off, and what was left half made."""
        if not self.folder.is_dir():
            return
        oldest = time.time() - _UNFINISHED_SECONDS
        with self._locked():
            for folder in list(self._folders()):
                share = self._stored(folder.name)
                if self._is_over(share.created) if share else folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The right to change the folder, in all processes of this home; raises `Busy` if it takes too long."""
        try:
            with exclusive(self.folder / ".lock", LOCK_SECONDS):
                yield
        except Timeout:
            raise Busy("Others share answers just now. Try again in a minute.") from None

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _verified(self, record: object) -> SharedAnswer:
        if not self.settings.allowed:
            raise UserError(OFF)
        text = record[64:] if isinstance(record, str) and len(record) <= MAX_RECORD_CHARS + 64 else ""
        signature = str(record)[:64].encode(errors="replace")
        if not text or not hmac.compare_digest(self._signature(text).encode(), signature):
            raise UserError(UNSIGNED)
        return SharedAnswer.model_validate_json(text)

    def _check_room(self, num_bytes: int) -> None:
        used, most = self.num_bytes(), self.settings.megabytes * 1e6
        if used + num_bytes > most:
            raise UserError(
                f"Shared answers take {used / 1e6:.1f} MB of {self.settings.megabytes:,} MB, and this one needs "
                f"{num_bytes / 1e6:.1f} MB. Nothing is deleted before its days are over: try again on another day, or "
                "ask the owner to delete some."
            )

    def _write(self, share_id: str, share: Share, files: dict[str, bytes]) -> None:
        """A folder that is whole as soon as it has its name."""
        new = self.folder / f"{_NEW}{share_id}"
        new.mkdir(mode=0o700)
        try:
            for name, data in files.items():
                write_whole(new / name, data)
            write_json(new / _FILE, share.model_dump(mode="json"))
            new.rename(self.folder / share_id)
        except BaseException:  # such as a full disk
            shutil.rmtree(new, ignore_errors=True)
            raise

    def _folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())

    def _folder_of(self, share_id: object) -> Path | None:
        return self.folder / share_id if isinstance(share_id, str) and _ID.fullmatch(share_id) else None

    def _stored(self, share_id: object) -> Share | None:
        folder = self._folder_of(share_id)
        content = read_json(folder / _FILE) if folder else None
        try:
            return Share.model_validate(content) if content is not None else None
        except ValidationError:
            return None

    def _is_over(self, created: float) -> bool:
        return time.time() - created > self.settings.days * DAY


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    """The picture as a PNG, or as a JPEG where that takes too much: the ending of its name, and the file."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    if png.tell() <= MAX_PNG_BYTES:
        return "png", png.getvalue()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return "jpg", jpeg.getvalue()


def _taken(data: bytes) -> int:
    return max(_BLOCK, len(data))


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
