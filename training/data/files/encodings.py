"""The encoding of a text file: UTF-8, or what is read as another one, or refused in words.

Read are UTF-8, UTF-16 and UTF-32 with their mark, and Windows-1252 where its letters can be no others': the same in
the encoding of Central Europe, where no other language has them (`ñ` before a vowel), or of a language whose words are
in the file.
"""

from __future__ import annotations

import codecs
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.common.errors import UserError

_BOMS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_PART_BYTES = 2**20
_HEAD_BYTES = 2**16
"""The start of a file in which the null bytes of UTF-16 are sought."""
_SAMPLE_BYTES = 2**12
_MOST_WRONG = 3
"""With so many right signs beyond ASCII for each wrong one, text is UTF-8 of which some rows are damaged."""
_MAX_WRONG_LINES = 0.5
"""With a smaller share of wrong lines, JSON is UTF-8 of which some rows are damaged."""
_RIGHT = re.compile("[^\x00-\x7f\udc80-\udcff]+")
_WRONG = re.compile("[\udc80-\udcff]+")
"""Bytes that are no UTF-8, as `surrogateescape` reads them."""
_SAME_LETTERS = set("äöüßéóáâçëíîôúñï")
"""Letters that are the same in the Western and Central European encodings of Windows, or told by the letters beside."""
_TOGETHER = set("öß äß üß éé ää öö äö öä åå çã çõ éç ñí ñó ñá ñé ñú".split())
"""Letters beyond ASCII that follow one another in a language of the West; others stand alone."""
_ICELANDIC = set("ðþ")
_CZECH = set("aeiouáéíóú")
_VOWELS = set("aeiouyáéíóúäöü")
_SAME_SIGNS = set("–—‘’“”„…€°±§«»µ·×÷©®™\xa0")
_QUOTES = set("“”„«»‘")
_LANGUAGES = {
    "French": ("le la les des est une quelle quel combien dans de du et sur à où là très être même", "àèêùûœæÿ"),
    "Spanish": ("el la los las que es una de del con por y en hay qué cuántos cuál", "¿¡ªº"),
    "Portuguese": ("que da os as uma qual em com de quantos cor é à há são não", "ãàêõªº"),
    "Italian": ("il la che di una quanto quanti quale qual della gli del sono nel è perché così più", "àèìòù"),
    "Catalan": ("el la els les quants quin quina amb dels és això què hi", "àèò"),
    "German": ("der die das ist wie und ein eine viele den", "èàê"),
    "Nordic": ("och hur det hvad hvor hvilken mange er som av af og den en der vad många på är för så når røde", "åæø"),
    "Icelandic": ("og er eru á hversu margir hvað það þetta við að í", "ðþæý"),
    "Dutch": ("het een van de hoeveel is wat welke", "èê"),
    "English": ("the what how which many with and of is here where this in", "åø"),
}
"""Frequent words of a language, and its letters beyond those that are the same everywhere."""
_ENOUGH_WORDS = 2
_BEFORE = {"²": r"[\w)]", "³": r"[\w)]", "¹": r"[\w)]", "º": r"\w", "ª": r"\w", "¢": r"\d"}
"""Signs that stand behind something, and never before a letter."""
_SIGNS = {*_BEFORE, *"½¼¾£¥"}


@dataclass
class _Seen:
    """A file's signs that are no UTF-8, read as Windows-1252."""

    num_right: int = 0
    num_wrong: int = 0
    wrong_lines: int = 0
    lines: int = 0
    is_odd: bool = False
    """True if a sign stands where none does in Windows-1252."""
    beyond: set[str] = field(default_factory=set)
    """Letters and signs that are others in other encodings."""
    words: set[str] = field(default_factory=set)
    sample: bytes = b""
    """The first signs that are no UTF-8."""

    @property
    def is_western(self) -> bool:
        """True if the file can only be Windows-1252."""
        found = [
            letters for words, letters in _LANGUAGES.values() if len(self.words & set(words.split())) >= _ENOUGH_WORDS
        ]
        fits = any(self.beyond <= {*letters, *letters.upper(), *_SIGNS} for letters in found)
        return not self.is_odd and (not self.beyond or fits)


def in_utf8(path: Path, name: str, is_table: bool) -> tuple[Any, str]:
    """The file as a temporary one in UTF-8, and a note, if it is written in another encoding that can be told.

    `None` for a file that may be read as it is; some rows of it may be damaged. Raises `UserError` for one in an
    encoding that cannot be told.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)
    if encoding is None:
        _check_nulls(head, name)
        if _is_utf8(path) or not _is_windows(path, name, is_table):
            return None, ""
        encoding = "cp1252"
    target = tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", prefix="lookthink-")
    try:
        with path.open(encoding=encoding, newline="") as source:
            while part := source.read(_PART_BYTES):
                target.write(part)
    except UnicodeError as error:
        raise UserError(f"{name} begins as {encoding.upper()} does and is damaged. Save it as UTF-8.") from error
    target.flush()
    return target, f"{name} is read as {'Windows-1252' if encoding == 'cp1252' else encoding.upper()}, not as UTF-8"


def _check_nulls(head: bytes, name: str) -> None:
    """Raises `UserError` for UTF-16 without a mark: every second byte of its ASCII signs is null."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 40 and min(even, odd) < max(even, odd) / 10:
        order = "BE" if even > odd else "LE"
        raise UserError(
            f"{name} is written in UTF-16 without the mark that says so. Save it as UTF-8: "
            f"{_command(f'UTF-16{order}', name)}"
        )


def _command(encoding: str, name: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > utf8 && mv utf8 {shlex.quote(name)} || rm utf8"


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_windows(path: Path, name: str, is_table: bool) -> bool:
    """True for a file in Windows-1252, false for UTF-8 that is damaged in places. Raises `UserError` for another."""
    seen = _Seen()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for part in iter(lambda: file.read(_PART_BYTES) + file.readline(_PART_BYTES), ""):
            _look_at(part, seen)
    if _MOST_WRONG * seen.num_wrong <= seen.num_right:
        return False
    if seen.is_western:
        return True
    if not is_table and seen.wrong_lines < _MAX_WRONG_LINES * seen.lines:
        return False
    raise UserError(
        f"{name} is not written in UTF-8, nor plainly in Windows-1252. Convert it from the encoding that it has, as "
        f"in: {_command(_likely(seen), name)} (GB18030 for Chinese, WINDOWS-1250 for Polish or Czech, WINDOWS-1251 for "
        "Russian, WINDOWS-1252 for French or Spanish)."
    )


def _likely(seen: _Seen) -> str:
    """The encoding that signs in no known one are most like."""
    runs = seen.sample.split()
    num_bytes = sum(map(len, runs))
    if num_bytes < 2.5 * len(runs) and sum(len(run) % 2 for run in runs) > 0.2 * len(runs):
        western = any(len(seen.words & set(words.split())) >= _ENOUGH_WORDS for words, _ in _LANGUAGES.values())
        return "WINDOWS-1252" if western and not seen.is_odd else "WINDOWS-1250"
    if sum(byte >= 0xE0 for run in runs for byte in run) > 0.6 * num_bytes:  # the small letters of Cyrillic
        return "WINDOWS-1251"
    return "GB18030"


def _look_at(part: str, seen: _Seen) -> None:
    seen.lines += part.count("\n") or 1
    wrong = [match.span() for match in _WRONG.finditer(part)]
    if not wrong:
        seen.num_right += sum(1 for _ in _RIGHT.finditer(part)) if not part.isascii() else 0
        return
    seen.num_right += sum(1 for _ in _RIGHT.finditer(part))
    seen.num_wrong += len(wrong)
    seen.wrong_lines += sum(1 for line in part.splitlines() if _WRONG.search(line))
    whole = part.encode("utf-8", "surrogateescape").decode("cp1252", "replace").lower()
    seen.words |= _WORDS.intersection(re.findall(r"[^\W\d_]+", whole))
    for start, end in wrong:
        signs = part[start:end].encode("utf-8", "surrogateescape")
        seen.sample += signs + b" " if len(seen.sample) < _SAMPLE_BYTES else b""
        text = signs.decode("cp1252", "replace")
        before, after = part[max(0, start - 1) : start], part[end : end + 1]
        letters = "".join(sign for sign in text.lower() if sign.isalpha() and sign not in "ªº")
        is_pair = letters in _TOGETHER or len(letters) < 4 and not _ICELANDIC.isdisjoint(letters)
        seen.is_odd |= len(letters) > 1 and not is_pair or any(_odd(before + text + after))
        seen.beyond |= {sign.lower() for sign in text} - _SAME_LETTERS - _SAME_SIGNS


_WORDS = {word for words, _ in _LANGUAGES.values() for word in words.split()}


def _odd(text: str) -> Iterator[bool]:
    """For each sign of a text, whether it stands where none does."""
    for at, sign in enumerate(text):
        before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
        if sign in _QUOTES:
            yield before.isalpha() and after.isalpha()
        elif sign in _BEFORE:
            yield not re.match(_BEFORE[sign], before) or after.isalpha()
        elif sign in "½¼¾":
            yield before.isalpha()
        elif sign in "£¥":
            yield after.isalpha() or before.isalpha()
        elif sign in "¿¡":
            yield before.isalpha()
        elif sign in "ñÑ":
            yield after.lower() not in _VOWELS  # else it is a letter of Polish
        elif sign in "ïÏ":
            yield before.lower() not in _VOWELS or not after.isalpha()  # else of Czech
        elif sign in "åøÅØ":
            yield before.lower() in _CZECH and after.lower() in _CZECH
