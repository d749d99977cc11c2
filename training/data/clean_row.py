"""Cleans one row of a dataset, or refuses it with a reason. The cells of a dataset are as hostile as uploads.

    >>> raw = {"image": Image.new("RGB", (28, 28)), "problem": "How many?", "solution": 3}
    >>> clean_row(raw, None, DEFAULT_LIMITS).solution
    '3'

Nothing is fetched, and no path is followed out of the dataset's own folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.model.image_encoder import content_key
from inference.prompt.image import load_image
from training.grading.grader import gold_fault

MAX_PROBLEM_CHARS = 20_000
"""A longer problem is refused, whatever the token limit."""
MAX_SOLUTION_CHARS = 100_000
MAX_PATH_CHARS = 1_024
REASONS = {
    "row unreadable": "the line is no JSON object, or a row is not what its file says",
    "picture missing": "there is no picture in the row, or no file where it says",
    "picture refused": "an address, or a path that leads out of the dataset's folder",
    "picture broken": "the file is no picture that can be read, or it is damaged",
    "picture too large": "more pixels, bytes or length than are read; decompression bombs are here",
    "several pictures": "more than one picture; a row has one",
    "no problem": "the problem is empty or not text",
    "problem too long": f"more than {MAX_PROBLEM_CHARS:,} characters",
    "no gold": "the solution is empty, holds no answer, or is neither text nor a number",
    "gold too long": f"the solution has more than {MAX_SOLUTION_CHARS:,} characters",
    "gold unreadable": "no answer can be read in it: a text with no marked answer, or braces that do not match",
    "prompt too long": "more tokens than max_prompt_tokens, those of the picture included",
    "also in test": "the same picture and problem are in test: a leak, dropped here",
    "also in validation": "the same picture and problem are in validation: a leak, dropped here",
}
"""The reasons for dropping a row, with their meaning."""

_ADDRESS = re.compile(r"\s*(?!data:)[a-zA-Z][a-zA-Z0-9+.-]+:")
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal(Exception):
    """The reason, one of `REASONS`, why a row is dropped, and a detail."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class CleanRow:
    """A row for training, its picture encoded."""

    picture: bytes
    """PNG or JPEG: RGB, upright, within the limits."""
    width: int
    height: int
    original_pixels: int
    """Before it was scaled."""
    picture_digest: str
    """Digest of the decoded pixels: equal for equal pictures, whatever their file format (32 hexadecimal digits)."""
    row_digest: str
    """Digest of the decoded pixels and the `normalised` problem."""
    problem: str
    solution: str
    extras: dict[str, str | None]
    """`original_question`, `original_answer` and `kind` as text, if the dataset has them."""


@dataclass(frozen=True)
class Drop:
    """A row that was left out."""

    role: str
    """`train`, `validation` or `test`: the split it was meant for."""
    place: str
    """Its split and position, as in `train[17]`."""
    reason: str
    """One of `REASONS`."""
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.reason in REASONS, self.reason


@dataclass(frozen=True)
class Dropped:
    """The rows that were left out of a dataset.

    >>> print(Dropped([Drop("train", "train[3]", "no gold", "empty")]))
    dropped 1 row: 1 no gold (train)
    """

    rows: Sequence[Drop] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "dropped no row"
        roles = {reason: sorted({d.role for d in self.rows if d.reason == reason}) for reason in self.counts()}
        parts = [f"{num} {reason} ({', '.join(roles[reason])})" for reason, num in self.counts().items()]
        return f"dropped {len(self.rows)} row{'s' if len(self.rows) > 1 else ''}: {'; '.join(parts)}"

    def counts(self, role: str | None = None) -> dict[str, int]:
        """Number of rows by reason, the most frequent first; of one role, or of all."""
        counted = Counter(drop.reason for drop in self.rows if role in (None, drop.role))
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def with_more(self, more: Sequence[Drop]) -> Dropped:
        """These rows and others."""
        return Dropped([*self.rows, *more])

    def to_json(self) -> list[dict[str, str]]:
        """The rows as plain data."""
        return [asdict(drop) for drop in self.rows]


def clean_row(
    raw: Mapping[str, object], root: Path | None, limits: Limits = DEFAULT_LIMITS, *, drop_unreadable: bool = True
) -> CleanRow:
    """Checks and cleans one row. `root` is the only folder its picture may be read from; `None` allows no path.

    Raises `Refusal`, also for a solution that the grader cannot read, unless not `drop_unreadable`.
    Where `limits` scale nothing, the picture is kept without loss.
    """
    problem, solution = _problem(raw.get("problem")), _solution(raw.get("solution"), drop_unreadable)
    extras = {name: _extra(raw[name]) for name in ("original_question", "original_answer", "kind") if name in raw}
    source = read_picture(raw.get("image"), root, limits)
    image = _decode(source, limits)
    original = source.size if isinstance(source, Image.Image) else _header(source).size
    key = content_key(image)
    digest = hashlib.blake2b(key + normalised(problem).encode(), digest_size=16).hexdigest()
    as_it_came = limits.max_model_pixels >= limits.max_pixels
    data = _encode(image, source if isinstance(source, bytes) else None, is_lossless=as_it_came)
    return CleanRow(data, *image.size, math.prod(original), key.hex(), digest, problem, solution, extras)


def normalised(problem: str) -> str:
    """A problem for comparing: one Unicode form, one case, single spaces.

    >>> normalised("How  MANY\\n?")
    'how many ?'
    """
    return " ".join(unicodedata.normalize("NFKC", problem).casefold().split())


def read_picture(cell: object, root: Path | None, limits: Limits) -> bytes | Image.Image:
    """The picture in a cell: bytes, a path under `root`, a data URI, or `{"bytes": …, "path": …}` with one of them."""
    if isinstance(cell, list | tuple):
        if len(cell) > 1:
            raise Refusal("several pictures", f"{len(cell)} pictures")
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping):
        data = cell.get("bytes")
        cell = _from_base64(data) if isinstance(data, str) else data or cell.get("path")
    if cell is None or cell == "":
        raise Refusal("picture missing", "the cell is empty")
    if isinstance(cell, bytes | Image.Image):
        return cell
    if not isinstance(cell, str):
        raise Refusal("picture missing", f"a {type(cell).__name__} is no picture")
    if match := _DATA_URI.match(cell):
        return _from_base64(cell[match.end() :])
    return _read_file(cell, root, limits)


def _read_file(path: str, root: Path | None, limits: Limits) -> bytes:
    shown = repr(path[:120])
    if _ADDRESS.match(path) or path.startswith(("//", "\\\\")):
        raise Refusal("picture refused", f"{shown} is an address; pictures are never fetched")
    if root is None:
        raise Refusal("picture refused", f"{shown} is a path, and this dataset has no folder of pictures")
    if len(path) > MAX_PATH_CHARS or "\0" in path:
        raise Refusal("picture refused", f"{shown} is no path of a file")
    try:
        target = (root / path).resolve()
        if not target.is_relative_to(root.resolve()):
            raise Refusal("picture refused", f"{shown} leads out of the dataset's folder")
        if not target.is_file():
            raise Refusal("picture missing", f"there is no file {shown}")
        size = target.stat().st_size
        if size > limits.max_upload_mb * 1e6:
            raise Refusal("picture too large", f"{shown} has {size / 1e6:.1f} MB, {limits.max_upload_mb:g} are read")
        return target.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a name too long, no permission
        raise Refusal("picture missing", f"{shown} cannot be read: {type(error).__name__}") from error


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("picture broken", "the picture's base64 is broken") from error


def _decode(source: bytes | Image.Image, limits: Limits) -> Image.Image:
    if source == b"":
        raise Refusal("picture missing", "the picture has 0 bytes")
    try:
        return load_image(source, limits, wait_seconds=None)
    except UserError as error:
        # Pillow's failures are causes of the error; without one, or with its alarm at a bomb, it is about size.
        bomb = isinstance(error.__cause__, Image.DecompressionBombError | Image.DecompressionBombWarning)
        too_large = bomb or error.__cause__ is None
        raise Refusal("picture too large" if too_large else "picture broken", str(error)) from error


def _header(data: bytes) -> Image.Image:
    """The image opened without decoding; it was decoded before."""
    return Image.open(io.BytesIO(data))


def _encode(image: Image.Image, data: bytes | None, is_lossless: bool) -> bytes:
    """`data` itself if it decodes to exactly this picture; else PNG, or JPEG at quality 95 if it was a JPEG.

    With `is_lossless` always one that decodes to exactly this picture.
    """
    file_format = None
    if data is not None:
        header = _header(data)
        file_format = header.format
        plain = header.mode == "RGB" and header.size == image.size and not header.has_transparency_data
        if plain and file_format in ("PNG", "JPEG") and header.getexif().get(0x0112, 1) == 1:
            return data
    buffer = io.BytesIO()
    if file_format == "JPEG" and not is_lossless:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _problem(cell: object) -> str:
    text = _text(cell) if isinstance(cell, str) else ""
    if not text.strip():
        raise Refusal("no problem", "empty" if cell in (None, "") or isinstance(cell, str) else _type(cell))
    if len(text) > MAX_PROBLEM_CHARS:
        raise Refusal("problem too long", f"{len(text):,} characters")
    return text


def _solution(cell: object, drop_unreadable: bool) -> str:
    """The solution as text. A number is accepted (`24`); a truth value or a list is not."""
    if (
        isinstance(cell, bool)
        or not isinstance(cell, str | int | float)
        or (isinstance(cell, float) and not math.isfinite(cell))
    ):
        raise Refusal("no gold", "empty" if cell is None else _type(cell))
    if isinstance(cell, str) and len(cell) > MAX_SOLUTION_CHARS:
        raise Refusal("gold too long", f"{len(cell):,} characters")
    text = _text(_number_text(cell))
    if drop_unreadable and (fault := gold_fault(text)):
        raise Refusal("no gold" if fault.endswith("no answer") else "gold unreadable", fault)
    return text


def _number_text(cell: str | int | float) -> str:
    if isinstance(cell, float):
        return f"{cell:.15g}"
    try:
        return str(cell)
    except ValueError as error:  # Python writes no integer of more than 4,300 digits
        raise Refusal("gold too long", "an integer of thousands of digits") from error


def _extra(cell: object) -> str | None:
    """A cell as text for display; `None` if it is neither text nor a number."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    return _text(_number_text(cell))[:MAX_PROBLEM_CHARS]


def _text(text: str) -> str:
    """The text without null characters and halves of surrogate pairs, which Arrow and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _type(cell: object) -> str:
    return f"a {type(cell).__name__}, not text"
