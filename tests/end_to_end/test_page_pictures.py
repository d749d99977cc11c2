"""Pictures from people's hands in a real browser: pasted, dropped, and made smaller before they are sent."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import MARKS, browser, server, visit

__all__ = ["browser", "server", "visit"]
pytestmark = MARKS
GIVE = """async ([kind, data, type, name]) => {
  const bytes = await (await fetch(`data:application/octet-stream;base64,${data}`)).blob();
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true };
  if (kind === 'paste') {
    document.body.dispatchEvent(new ClipboardEvent('paste', { ...options, clipboardData: carried }));
    return;
  }
  const target = document.querySelector('h1');
  target.dispatchEvent(new DragEvent('dragover', { ...options, dataTransfer: carried }));
  window.overlay = getComputedStyle(document.querySelector('.gradio-container'), '::after').content;
  target.dispatchEvent(new DragEvent('drop', { ...options, dataTransfer: carried }));
}"""
SHOWN = """(name) => {
  const image = document.querySelector('#ask-picture img');
  const size = image?.complete && [image.naturalWidth, image.naturalHeight];
  return size && size[0] > 1 && image.src.endsWith(name) && size;
}"""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def give(page: Any, kind: str, data: bytes, mime: str, name: str) -> None:
    page.page.evaluate(GIVE, [kind, base64.b64encode(data).decode(), mime, name])


def shown(page: Any, name: str) -> list[int]:
    return page.page.wait_for_function(SHOWN, arg=name).json_value()


def test_a_picture_can_be_pasted_and_dropped_anywhere(visit: Any) -> None:
    page, image = visit(), Image.new("RGB", (300, 200), "teal")
    give(page, "paste", encoded(image, "PNG"), "image/png", "pasted.png")
    assert shown(page, "pasted.png") == [300, 200]
    give(page, "drop", encoded(image.resize((120, 90)), "AVIF"), "image/avif", "dropped.avif")
    assert "Drop the picture anywhere" in page.page.evaluate("window.overlay")
    assert shown(page, "dropped.avif") == [120, 90], "over the one that is there"
    page.page.get_by_role("tab", name="Compare").click()
    page.page.wait_for_selector("#compare-picture img")
    give(page, "paste", encoded(image, "PNG"), "image/png", "second.png")
    page.page.wait_for_function("document.querySelector('#compare-picture img')?.src.endsWith('second.png')")


def test_a_photograph_is_made_smaller_before_it_is_sent(visit: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize(
        (4000, 3000), Image.Resampling.BICUBIC
    )
    grainy = np.asarray(drawn, dtype=np.int16) + rng.integers(-20, 20, (3000, 4000, 3), dtype=np.int16)
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=92, exif=exif)
    assert (tmp_path / "photo.jpg").stat().st_size > 4e6
    page = visit()
    page.page.set_input_files("#ask-picture input[type=file]", tmp_path / "photo.jpg")
    width, height = shown(page, "photo.jpg")
    assert 950_000 < width * height <= 1_003_520 and height > width
    sent = page.page.evaluate(
        "fetch(document.querySelector('#ask-picture img').src).then((it) => it.blob()).then((it) => it.size)"
    )
    assert sent < 600_000


def test_how_much_has_been_sent_is_said_where_it_is_slow(visit: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page = visit()
    network = page.context.new_cdp_session(page.page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 50, "downloadThroughput": -1, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.page.set_input_files("#ask-picture input[type=file]", tmp_path / "noise.png")
    page.page.locator(".lt-say").get_by_text("%").wait_for()
    assert shown(page, "noise.png") == [500, 500]
    page.page.wait_for_function("!document.querySelector('.lt-say').textContent")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_heic_that_the_browser_cannot_read_is_told_in_words(visit: Any, way: str) -> None:
    page = visit()
    give(page, way, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "", "IMG_1.HEIC")
    page.page.locator(".lt-say").get_by_text(
        "This browser cannot read HEIC pictures. Export the picture as JPEG"
    ).wait_for()
    assert page.page.locator("#ask-picture img").count() == 0
