"""Pictures as people send them: whatever it is, an upright RGB picture of bounded size or a clear error."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.prompt.decoding import limit_decoding
from inference.prompt.image import FORMATS, MIN_SIDE, content_key, load_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Something with content, so that a half of its file is not the whole of it."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def claimed(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """A real one: 144 million pixels in a few kilobytes."""
    row = zlib.compressobj(9)
    body = b"".join(row.compress(bytes(1 + 12_000 // 8)) for _ in range(12_000)) + row.flush()
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect/></svg>'

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "0-byte file": (lambda: b"", "empty"),
    "text named .png": (lambda: b"hello, I am a text\n" * 40, "not a picture"),
    "truncated JPEG": (lambda: encoded(gradient(), "JPEG")[:1500], "damaged or incomplete"),
    "truncated PNG": (lambda: encoded(gradient())[:5000], "damaged or incomplete"),
    "JPEG header alone": (lambda: encoded(gradient(), "JPEG")[:20], "not a picture"),
    "SVG": (lambda: SVG, "SVG drawings cannot be read. Export"),
    "SVG without prolog": (lambda: b"\n <svg viewBox='0 0 1 1'/>", "SVG"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), "HEIC pictures cannot be read. Export"),
    "PDF": (lambda: b"%PDF-1.7\n" + bytes(100), "not a picture"),
    "ICO, a format not read": (lambda: encoded(gradient(), "ICO"), "not a picture"),
    "20,000 pixels wide": (lambda: encoded(Image.new("L", (20_000, 2_000))), "20,000 × 2,000.*at most 16,384"),
    "a line": (lambda: encoded(Image.new("L", (15_000, 3))), "at most 50 times"),
    "decompression bomb": (bomb, "144,000,000 in all; at most 50,000,000"),
    "larger bomb": (lambda: claimed(60_000, 60_000), "far more pixels"),
    "claims of a header": (lambda: claimed(16_000, 16_000), "pixels"),
    "large file": (lambda: bytes(21_000_000), "21.0 MB; at most 20 MB"),
}


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no app had lowered it in this process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1024**3 // 12)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("as_file", [False, True])
def test_refused_with_a_clear_message(name: str, as_file: bool, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    data, path = make(), tmp_path / "upload.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        load_image(path if as_file else data)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(("source", "message"), [(None, "There is no picture"), ("/no/such/a.png", "file a.png")])
def test_no_picture(source: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_image(source)


def animation() -> bytes:
    frames = [Image.new("RGB", (40, 30), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def palette_with_transparency() -> bytes:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, 20, 30))  # the left half is colour 0, which is transparent
    return encoded(image, "PNG", transparency=0)


def half_transparent(mode: str) -> bytes:
    image = Image.new("RGBA", (40, 30), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 30))
    return encoded(image.convert(mode))


def sixteen_bits() -> bytes:
    levels = np.full((30, 40), 65_535, np.uint16)
    levels[:, :20] = 257 * 100
    return encoded(Image.fromarray(levels))


def grey_tiff(bits: int, photometric: int) -> bytes:
    """Grey levels of 12 or 16 bits in 40 × 30 pixels: 100 of 255 to the left, the highest one to the right."""
    left, full = round(100 / 255 * (2**bits - 1)), 2**bits - 1
    levels = [left if x < 20 else full for _ in range(30) for x in range(40)]
    pairs = zip(levels[::2], levels[1::2])
    if bits == 12:
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    else:
        data = np.array(levels, "<u2").tobytes()
    values = {256: 40, 257: 30, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 30, 279: len(data)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(values)) + tags + bytes(4)


def floats() -> bytes:
    levels = np.full((30, 40), 2.5, np.float32)
    levels[:, :20] = -0.5
    return encoded(Image.fromarray(levels), "TIFF")


def one_bit() -> bytes:
    image = Image.new("1", (40, 30), 1)
    image.paste(0, (0, 0, 20, 30))
    return encoded(image)


ACCEPTED: dict[str, tuple[Callable[[], bytes], tuple[int, int, int], tuple[int, int, int]]] = {
    "animated GIF, first frame": (animation, RED, RED),
    "CMYK": (lambda: encoded(Image.new("CMYK", (40, 30), (0, 255, 255, 0)), "TIFF"), RED, RED),
    "CMYK JPEG": (lambda: encoded(Image.new("CMYK", (40, 30), (0, 255, 255, 0)), "JPEG"), (254, 0, 0), (254, 0, 0)),
    "12-bit TIFF": (lambda: grey_tiff(12, 1), (100, 100, 100), WHITE),
    "16-bit TIFF": (lambda: grey_tiff(16, 1), (100, 100, 100), WHITE),
    "16-bit TIFF, white is zero": (lambda: grey_tiff(16, 0), (155, 155, 155), (0, 0, 0)),
    "16-bit": (sixteen_bits, (100, 100, 100), WHITE),
    "floating point": (floats, (0, 0, 0), WHITE),
    "palette with transparency": (palette_with_transparency, WHITE, RED),
    "RGBA": (lambda: half_transparent("RGBA"), WHITE, RED),
    "grey with alpha": (lambda: half_transparent("LA"), WHITE, (76, 76, 76)),
    "black and white": (one_bit, (0, 0, 0), WHITE),
    "1 pixel": (lambda: encoded(Image.new("RGB", (1, 1), RED)), RED, RED),
    "AVIF": (lambda: encoded(Image.new("RGB", (40, 30), RED), "AVIF", quality=100), RED, RED),
    "JPEG 2000": (lambda: encoded(Image.new("RGB", (40, 30), RED), "JPEG2000"), RED, RED),
    "WebP": (lambda: encoded(Image.new("RGB", (40, 30), RED), "WEBP", lossless=True), RED, RED),
    "BMP": (lambda: encoded(Image.new("RGB", (40, 30), RED), "BMP"), RED, RED),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    make, left, right = ACCEPTED[name]
    image = load_image(make())
    width, height = image.size
    assert image.mode == "RGB" and min(image.size) >= MIN_SIDE
    for x, colour in ((width // 8, left), (7 * width // 8, right)):
        assert np.abs(np.asarray(image)[height // 2, x] - np.array(colour)).max() <= 1


STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright picture into the one that is stored with an orientation."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_rotation_is_honoured(orientation: int) -> None:
    """A picture that is stored turned comes out upright: red above, blue below."""
    upright = Image.new("RGB", (60, 40), RED)
    upright.paste((0, 0, 255), (0, 20, 60, 40))
    stored = upright.transpose(STORED_BY[orientation]) if orientation in STORED_BY else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(stored, "PNG", exif=exif))
    assert image.size == (60, 40)
    assert image.getpixel((30, 5)) == RED and image.getpixel((30, 35)) == (0, 0, 255)


def test_a_picture_within_the_bounds_keeps_its_pixels() -> None:
    image = gradient(size=(448, 448))
    assert load_image(image).tobytes() == image.tobytes()
    assert load_image(encoded(image)).tobytes() == image.tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_large_picture_is_scaled_down_and_keeps_its_shape(format: str) -> None:
    image = load_image(encoded(gradient(size=(3000, 2000)), format))
    assert 0.9 * DEFAULT_LIMITS.max_model_pixels < image.width * image.height <= DEFAULT_LIMITS.max_model_pixels
    assert image.width / image.height == pytest.approx(1.5, rel=0.01)


def test_pillow_is_told_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    limit_decoding(DEFAULT_LIMITS)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bomb()))


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]))
def test_any_picture_comes_out_bounded_or_is_refused_for_its_shape(width: int, height: int, mode: str) -> None:
    limits = Limits.model_validate({"max_model_pixels": 20_000})
    try:
        image = load_image(Image.new(mode, (width, height)), limits)
    except UserError as error:
        assert "times as long as wide" in str(error) and max(width, height) > 50 * min(width, height)
        return
    assert image.mode == "RGB" and min(image.size) >= MIN_SIDE
    assert image.width * image.height <= max(20_000, 50 * MIN_SIDE**2)


ORIGINALS = {f: encoded(gradient("P" if f == "GIF" else "RGB", (24, 16)), f) for f in FORMATS}


@given(st.sampled_from(FORMATS), st.data())
def test_a_damaged_file_is_read_or_refused(format: str, data: st.DataObject) -> None:
    """Bytes changed or cut anywhere: no other error, and never a picture beyond the bounds."""
    content = bytearray(ORIGINALS[format])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        image = load_image(bytes(content))
    except UserError:
        return
    assert image.mode == "RGB" and image.width * image.height <= DEFAULT_LIMITS.max_model_pixels


def test_shape_counts_not_bytes_alone() -> None:
    wide, tall = Image.new("RGB", (30, 20)), Image.new("RGB", (20, 30))
    assert wide.tobytes() == tall.tobytes() and content_key(wide) != content_key(tall)
    assert content_key(wide) == content_key(wide.copy())
