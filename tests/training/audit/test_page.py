"""The page: nothing of a dataset gets out of its text, and it needs nothing from anywhere."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.html import escape
from training.audit.page import THUMBNAIL_PIXELS, render_page
from training.audit.report import AuditReport, Example, Gold, Spread
from training.data.refusals import Drop, Dropped
from training.evaluation.statistics import share

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</p></article></main><style>*{display:none}</style>",
    "<!-- ", "]]>", "&lt;script&gt;", "javascript:alert(1)", "</title><svg onload=alert(1)>",
    "\u202egnp.exe\u2066", "\x00\x1b[31m", "𝕏 é 漢字",
]  # fmt: skip


def report(text: str = "plain", **changes: Any) -> AuditReport:
    spread = Spread(1, 2, 3, 4)
    image = Image.new("RGB", (900, 300), "navy")
    fields: dict[str, Any] = {
        "about": {"dataset": text, "revision": text, "split": "train[:5%]", "seed": 42},
        "kept_rows": {"train": 7, "validation": 1, "test": 2},
        "dropped": Dropped([Drop("train", "train[3]", "picture refused", text)]),
        "rules": {"same choice": 6, text: 4},
        "verified": share([True] * 9 + [False]),
        "unverified": [Gold("train-3", text, text)],
        "letters": {"A": 5, "B": 1},
        "pictures": {"width": spread},
        "num_scaled": 1,
        "prompts": {"text": spread, "picture": spread, "prompt": spread},
        "duplicates": {"train": 2, "validation": 0, "test": 0},
        "shared_pictures": 1,
        "examples": [Example(text, "train", text, text, "words", [image], 120)],
    }
    return AuditReport(**fields | changes)


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside style."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    found.close()
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    plain, hostile = elements(render_page(report())), elements(render_page(report(text)))
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert not {name for name, _ in hostile.attributes if name.startswith("on")}
    seen = re.sub("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", "", text)
    assert seen in hostile.text
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", hostile.text)


@given(st.text(max_size=300))
def test_escaped_text_cannot_open_or_close_anything(text: str) -> None:
    assert not set(escape(text)) & set("<>\"'")


def test_it_needs_nothing_else() -> None:
    page = render_page(report())
    found = elements(page)
    assert "default-src 'none'" in page and "script" not in found.tags and "link" not in found.tags
    sources = [value or "" for name, value in found.attributes if name in ("src", "href", "srcset", "action")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "url(" not in page and "@import" not in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    image = Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])))
    assert image.format == "JPEG" and max(image.size) == THUMBNAIL_PIXELS


def test_what_it_shows() -> None:
    text = elements(render_page(report())).text
    assert "Audit of plain" in text and "commit plain · split train[:5%]" in text
    assert "90.0 %" in text and "A is the gold of 83 %" in text and "Gold: plain" in text
    assert "an address, or a path that leads out of the dataset's folder" in text
    assert "Rows that repeat another one of their split: 2." in text


def test_long_texts_and_lists_are_cut() -> None:
    drops = [Drop("train", f"train[{i}]", "no gold") for i in range(500)]
    found = elements(render_page(report("x" * 50_000, dropped=Dropped(drops))))
    assert "x…" in found.text and "The first 50 of 500." in found.text
    assert len(found.text) < 40_000


def test_no_examples_no_cards() -> None:
    found = elements(render_page(report(examples=[], unverified=[], dropped=Dropped())))
    assert "article" not in found.tags and "Examples" not in found.text and "Golds that cannot" not in found.text
