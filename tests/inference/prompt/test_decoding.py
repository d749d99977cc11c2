"""What reading a picture takes is known before it is spent, and all pictures of the process share one bound."""

from __future__ import annotations

import contextlib
import gc
import io
import re
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from inference.common.errors import Busy, UserError
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.prompt import image as reading
from inference.prompt.decoding import MOST_AT_ONCE, decoding_bytes, limit_decoding, reduced_rgb, room_for
from inference.prompt.image import load_image, load_images
from training.data.clean_row import CleanRow, clean_row

SIDE = 2_700
SLACK_MB = 10.0
"""What else the process may take in the meantime."""


def picture(mode: str, format: str, **options: Any) -> bytes:
    """A flat one of seven million pixels."""
    buffer = io.BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(buffer, format, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "16-bit PNG": ("I;16", "PNG", {"compress_level": 1}),
    "grey PNG with alpha": ("LA", "PNG", {"compress_level": 1}),
    "PNG stored turned": ("RGB", "PNG", {"compress_level": 1, "exif": turned()}),
    "progressive JPEG": ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}),
    "WebP": ("RGB", "WEBP", {"method": 0}),
    "AVIF": ("RGB", "AVIF", {"speed": 10}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    "GIF": ("P", "GIF", {}),
    "TIFF in one strip": ("RGB", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),
    "TIFF stored turned": ("RGB", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {274: 6}}),
    "floating point TIFF": ("F", "TIFF", {"compression": "tiff_lzw"}),
}


def memory_mb(name: str) -> float:
    """`VmRSS`, the memory of this process, or `VmHWM`, its peak."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_is_taken_than_was_admitted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mode, format, options = KINDS[kind]
    data = picture(mode, format, **options)
    admitted: list[int] = []

    def noted(needed: int, *rest: Any) -> Any:
        admitted.append(needed)
        return room_for(needed, *rest)

    monkeypatch.setattr(reading, "room_for", noted)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_mb("VmRSS")
    load_image(data)
    taken = memory_mb("VmHWM") - before
    assert len(admitted) == 1 and taken < admitted[0] / 1e6 + SLACK_MB


@pytest.mark.parametrize("kind", ["WebP", "progressive JPEG"])
def test_a_picture_that_would_take_too_much_is_refused_before_it_is_read(kind: str) -> None:
    mode, format, options = KINDS[kind]
    tight = DEFAULT_LIMITS.model_copy(update={"max_decoding_mb": 40})
    with pytest.raises(UserError, match=r"would take [0-9]+ MB of memory; at most 40 MB .* Scale it down"):
        load_image(picture(mode, format, **options), tight)


def test_the_pictures_of_a_question_are_admitted_together_before_the_first_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that none is held, decoded, by a question that waits for room for the next."""
    steps: list[object] = []

    def noted(needed: int, *rest: Any) -> Any:
        steps.append(needed)
        return room_for(needed, *rest)

    decode = reading._loaded
    monkeypatch.setattr(reading, "room_for", noted)
    monkeypatch.setattr(reading, "_loaded", lambda *values: steps.append("decoded") or decode(*values))
    files = [picture("RGB", "PNG"), picture("L", "PNG")]
    images = load_images(files, DEFAULT_LIMITS.model_copy(update={"max_pixels": 150_000_000}))
    [admitted, *rest] = steps
    assert rest == ["decoded"] * 2
    assert isinstance(admitted, int) and admitted > sum(len(image.tobytes()) for image in images)


def test_pictures_at_once_stay_within_the_bound() -> None:
    """Forty threads with pictures of all sizes: the sum is never above the bound, and every one gets in."""
    most, taken, peak, done = int(DEFAULT_LIMITS.max_decoding_mb * 1e6), [0, 0], [0, 0], []
    lock = threading.Lock()

    def read(size: int) -> None:
        with room_for(size, DEFAULT_LIMITS):
            for sign in (1, -1):
                with lock:
                    taken[0], taken[1] = taken[0] + sign * size, taken[1] + sign
                    peak[:] = map(max, peak, taken)
                time.sleep(0.005)
        done.append(size)

    sizes = [int(size) for size in np.random.default_rng(0).integers(1, most, 20)] + [1_000] * 20
    threads = [threading.Thread(target=read, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == sorted(sizes)
    assert 1 < peak[1] <= MOST_AT_ONCE and peak[0] <= most


def test_whoever_waits_too_long_is_told_and_a_failure_gives_its_room_back() -> None:
    most = int(DEFAULT_LIMITS.max_decoding_mb * 1e6)
    with pytest.raises(ZeroDivisionError), room_for(most, DEFAULT_LIMITS):
        with pytest.raises(Busy, match="Many large pictures"), room_for(1, DEFAULT_LIMITS, seconds=0.01):
            raise AssertionError("there was no room")
        raise ZeroDivisionError
    with room_for(most, DEFAULT_LIMITS, seconds=0.01):
        pass


def test_a_dataset_waits_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is not dropped because others were read at the time."""

    def hurried(needed: int, limits: Limits, seconds: float | None) -> Any:
        return room_for(needed, limits, None if seconds is None else 0.01)

    monkeypatch.setattr(reading, "room_for", hurried)
    read: list[CleanRow] = []
    row = {"image": picture("RGB", "PNG"), "problem": "How many?", "solution": 3}
    thread = threading.Thread(target=lambda: read.append(clean_row(row, None)))
    with room_for(int(DEFAULT_LIMITS.max_decoding_mb * 1e6), DEFAULT_LIMITS):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not read
    thread.join(60)
    assert len(read) == 1


@pytest.mark.parametrize("size", [(1_300, 1_700), (999, 2_003)])
def test_strips_give_what_pillow_gives(size: tuple[int, int]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image, wanted = Image.fromarray(levels), (150, 170)
    expected = image.resize(wanted, Image.Resampling.LANCZOS, reducing_gap=3.0)
    assert np.array_equal(np.asarray(reduced_rgb(image, wanted)), np.asarray(expected))


def test_a_png_of_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 64 * 2**20)  # Pillow's own, which an app may have lowered
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    texts = PngImagePlugin.PngInfo()
    for number in range(6):
        texts.add_text(f"text {number}", " " * 900_000, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28)).save(buffer, "PNG", pnginfo=texts)
    assert len(buffer.getvalue()) < 20_000 and load_image(buffer.getvalue()).size == (28, 28)
    limit_decoding(DEFAULT_LIMITS)
    with pytest.raises(UserError, match="not a picture that can be read"):
        load_image(buffer.getvalue())


@pytest.mark.parametrize(("kind", "value"), [(7, b",\0\0\0"), (2, b"a\0\0\0"), (9, struct.pack("<i", -2_000_000))])
def test_a_tag_that_holds_no_count_makes_no_picture_cheaper(kind: int, value: bytes) -> None:
    """Bytes, text, or less than nothing for the rows per strip: words or a picture, and the room of a whole one."""
    whole = picture("L", "TIFF", compression="tiff_lzw", tiffinfo={278: SIDE})
    where = whole.index(struct.pack("<H", 278), int.from_bytes(whole[4:8], "little"))
    damaged = whole[: where + 2] + struct.pack("<HI", kind, 1) + value + whole[where + 12 :]
    with contextlib.suppress(UserError):
        load_image(damaged)
    with Image.open(io.BytesIO(whole)) as one, Image.open(io.BytesIO(damaged)) as other:
        assert isinstance(other, TiffImagePlugin.TiffImageFile) and other.tag_v2[278] != SIDE
        assert decoding_bytes(other, len(damaged), (100, 100)) >= decoding_bytes(one, len(whole), (100, 100))
