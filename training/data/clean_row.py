"""Cleans one row of a dataset, or refuses it with a reason. The cells of a dataset are as hostile as uploads.

    >>> raw = {"image": Image.new("RGB", (28, 28)), "problem": "How many?", "solution": 3}
    >>> clean_row(raw, None, DEFAULT_LIMITS).solution
    '3'

Nothing is fetched, and no path is followed out of the dataset's own folder.
"""

from __future__ import annotations

import hashlib
import io
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.prompt.image import check_together, content_key, load_image, small_copy
from training.data.pictures import Folders, read_pictures
from training.data.refusals import MAX_PROBLEM_CHARS, MAX_SOLUTION_CHARS, Refusal
from training.data.shapes.golds import says_nothing
from training.data.shapes.options import number_text
from training.grading.grader import gold_answer, gold_fault, options_of


@dataclass(frozen=True)
class CleanRow:
    """A row for training, its pictures encoded."""

    pictures: list[bytes]
    """PNG or JPEG: RGB, upright, within the limits."""
    sizes: list[int]
    """Width and height of each picture, one after the other."""
    original_pixels: int
    """Of all pictures, before they were scaled."""
    picture_digest: str
    """Of each picture a digest of its decoded pixels, equal for equal pictures whatever their file format, or of a JPEG
    that is kept as it is of its bytes (32 hexadecimal digits each, with spaces between them)."""
    look: str
    """For each picture 256 bits, in hexadecimal digits, nearly the same for pictures that look alike (`look_of`)."""
    row_digest: str
    """Digest of the pictures' digests and the `normalised` problem."""
    earlier_turns: int
    """User turns before the one that is the problem."""
    problem: str
    solution: str
    extras: dict[str, str | None]
    """`original_question`, `original_answer` and `kind` as text, if the dataset has them."""


def clean_row(
    raw: Mapping[str, object], folders: Folders | None, limits: Limits = DEFAULT_LIMITS, *, drop_unreadable: bool = True
) -> CleanRow:
    """Checks and cleans one row. `folders` are those its pictures may be read from; `None` allows no path.

    Raises `Refusal`, also for a solution that the grader cannot read, unless not `drop_unreadable`.
    Where `limits` scale nothing, the pictures are kept without loss.
    """
    problem, solution = _problem(raw.get("problem")), _solution(raw.get("solution"), drop_unreadable)
    if says_nothing(answer := gold_answer(solution)) and answer not in options_of(problem).values():
        raise Refusal("no gold", f"{answer!r} says that there is none")
    extras = {name: _extra(raw[name]) for name in ("original_question", "original_answer", "kind") if name in raw}
    pictures, sizes, originals, keys, looks = [], list[int](), list[tuple[int, int]](), list[bytes](), list[str]()
    for source in read_pictures(raw.get("image"), folders, limits):
        data, size, original_size, key, look = _clean_picture(source, limits)
        originals.append(original_size)
        _check_together(originals, limits)
        pictures.append(data)
        sizes += size
        keys.append(key)
        looks.append(look)
    digest = hashlib.blake2b(b"".join(keys) + normalised(problem).encode(), digest_size=16).hexdigest()
    original = sum(map(math.prod, originals))
    names = " ".join(key.hex() for key in keys)
    turns = int(str(raw.get("earlier_turns", 0)))
    return CleanRow(pictures, sizes, original, names, "".join(looks), digest, turns, problem, solution, extras)


def clean_picture(cell: object, folders: Folders | None, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The one picture in a cell, as `clean_row` has it: PNG or JPEG, RGB, upright, within the limits.

    Raises `Refusal`, also for several.
    """
    source, *more = read_pictures(cell, folders, limits)
    if more:
        raise Refusal("too many pictures", f"{1 + len(more)} pictures; a set that is made here has one a row")
    return _clean_picture(source, limits)[0]


def _clean_picture(
    source: bytes | Image.Image, limits: Limits
) -> tuple[bytes, tuple[int, int], tuple[int, int], bytes, str]:
    """A picture encoded, its size, that before it was scaled, its digest, and its look. Raises `Refusal`."""
    if isinstance(source, bytes) and (found := small_copy(source, limits)) is not None:
        small, size = found
        return source, size, size, hashlib.blake2b(source, digest_size=16).digest(), look_of(small)
    image = _decode(source, limits)
    original = source.size if isinstance(source, Image.Image) else _header(source).size
    is_lossless = limits.max_model_pixels >= limits.max_pixels
    data = _encode(image, source if isinstance(source, bytes) else None, is_lossless)
    return data, image.size, original, content_key(image), look_of(image)


def look_of(image: Image.Image) -> str:
    """A difference hash: for each of 16 × 16 places, whether it is brighter than its right neighbour."""
    small = np.asarray(image.resize((17, 16), Image.Resampling.BOX).convert("L"), dtype=np.int16)  # (16, 17)
    return np.packbits(small[:, :-1] > small[:, 1:]).tobytes().hex()


def normalised(problem: str) -> str:
    """A problem for comparing: one Unicode form, one case, single spaces.

    >>> normalised("How  MANY\\n?")
    'how many ?'
    """
    return " ".join(unicodedata.normalize("NFKC", problem).casefold().split())


def _decode(source: bytes | Image.Image, limits: Limits) -> Image.Image:
    if source == b"":
        raise Refusal("picture missing", "the picture has 0 bytes")
    try:
        return load_image(source, limits, wait_seconds=None)
    except UserError as error:
        # Pillow's failures are causes of the error; without one, or with its alarm at a bomb, it is about size.
        bomb = isinstance(error.__cause__, Image.DecompressionBombError | Image.DecompressionBombWarning)
        too_large = bomb or error.__cause__ is None
        of_all = " docs/data.md has the commands for all of a folder." if "HEIC" in str(error) else ""
        raise Refusal("picture too large" if too_large else "picture broken", str(error) + of_all) from error


def _check_together(sizes: list[tuple[int, int]], limits: Limits) -> None:
    try:
        check_together(sizes, limits)
    except UserError as error:
        raise Refusal("picture too large", str(error)) from error


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
    if says_nothing(text):
        raise Refusal("no problem", f"{text.strip()!r} says that there is none")
    if not text.strip():
        raise Refusal(
            "no problem", "empty" if cell in (None, "") or isinstance(cell, str) else _remedy(cell, "problem")
        )
    if len(text) > MAX_PROBLEM_CHARS:
        raise Refusal("problem too long", f"{len(text):,} characters")
    return text


def _solution(cell: object, drop_unreadable: bool) -> str:
    """The solution as text. A number is accepted (`24`); a truth value, a list or `nan` is not."""
    cell = _number_text(cell)
    if not isinstance(cell, str):
        raise Refusal("no gold", "empty" if cell is None or isinstance(cell, float) else _remedy(cell, "solution"))
    if len(cell) > MAX_SOLUTION_CHARS:
        raise Refusal("gold too long", f"{len(cell):,} characters")
    text = _text(cell)
    if drop_unreadable and (fault := gold_fault(text)):
        raise Refusal("no gold" if fault.endswith("no answer") else "gold unreadable", fault)
    return text


def _number_text(cell: object) -> object:
    """A finite number as text; any other cell as it is."""
    try:
        return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else number_text(cell)
    except ValueError as error:  # Python writes no integer of more than 4,300 digits
        raise Refusal("gold too long", "an integer of thousands of digits") from error


def _extra(cell: object) -> str | None:
    """A cell as text for display; `None` if it is neither text nor a number."""
    text = _number_text(cell)
    return _text(text)[:MAX_PROBLEM_CHARS] if isinstance(text, str) else None


def _text(text: str) -> str:
    """The text without null characters and halves of surrogate pairs, which Arrow and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _remedy(cell: object, column: str) -> str:
    """The kind of a problem or a gold that is no text, and a remedy."""
    if isinstance(cell, Mapping):
        names = ", ".join(map(str, list(cell)[:8]))
        return f'a mapping of {names[:200]}: name the text in it, as --columns "{{{column}: COLUMN.NAME}}"'
    if isinstance(cell, list | tuple) and column == "problem":
        return f"a list of {len(cell)}: write a row for each"
    if isinstance(cell, list | tuple):
        return (
            f"a list of {len(cell)}: write one answer, or call the column `answers` if it has those of several people"
        )
    return _type(cell) + ": write it as text"


def _type(cell: object) -> str:
    return f"a {type(cell).__name__}, not text"
