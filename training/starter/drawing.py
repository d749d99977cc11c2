"""Draws the pictures of the starter problems: handwritten digits, bar charts, labelled figures, coloured shapes.

Every `draw_*` takes the values that the picture shows and a seeded `random.Random`, draws at twice the size and
scales down, and returns a 448-pixel RGB picture and its `Mark`s: the position of each meaningful thing.
"""

from __future__ import annotations

import functools
import math
import random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inference.common.settings import STARTER

SIZE = 448
"""Side of a picture in pixels."""
_DRAWN = 2 * SIZE
_INK = (38, 42, 51)
_PAPERS = ((255, 255, 255), (252, 250, 245), (246, 249, 253), (249, 250, 246))
COLOURS = {"red": (214, 64, 60), "blue": (52, 110, 205), "green": (58, 155, 86), "yellow": (238, 184, 40)}
FORMS = ("circle", "square", "triangle")
_BAR_COLOURS = ((75, 124, 191), (221, 132, 82), (96, 160, 108), (148, 115, 178), (196, 91, 96))
_DIGIT_SIZES = {2: (390, 480), 3: (320, 370), 4: (240, 270), 5: (190, 215)}
"""Least and largest side of a scan on the canvas, by the number of digits."""
_PENS = ((28, 48, 120), (40, 40, 48), (92, 32, 80), (20, 84, 72))
_Points = list[tuple[int, int]]
_font = functools.cache(ImageFont.load_default)


class Mark(NamedTuple):
    """A thing in a picture: its centre as fractions of the side, and its name (`"glyph 7"`, `"red circle"`)."""

    x: float
    y: float
    label: str


Drawing = tuple[Image.Image, list[Mark]]


@functools.cache
def digit_scans() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 scans in the starter's folder: ink from 0 to 1 (N, 8, 8) and digits (N,)."""
    table = np.loadtxt(STARTER / "digits" / "digits.csv.gz", delimiter=",", dtype=np.int64)  # (N, 65)
    return (table[:, :-1].reshape(-1, 8, 8) / 16.0).astype(np.float32), table[:, -1]


class _Canvas:
    def __init__(self, rng: random.Random) -> None:
        self.image = Image.new("RGB", (_DRAWN, _DRAWN), rng.choice(_PAPERS))
        self.pen = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []

    def mark(self, x: float, y: float, label: str) -> None:
        self.marks.append(Mark(x / _DRAWN, y / _DRAWN, label))

    def text(self, x: float, y: float, text: str, size: int, is_marked: bool = True) -> None:
        """Centred text; each of its letters and digits gets a mark."""
        font = _font(size)
        self.pen.text((x, y), text, fill=_INK, font=font, anchor="mm")
        left = x - font.getlength(text) / 2
        for i, letter in enumerate(text):
            if is_marked and (letter.isalnum() or letter == "?"):
                centre = left + font.getlength(text[:i]) + font.getlength(letter) / 2
                self.mark(centre, y, f"glyph {letter}")

    def finish(self) -> Drawing:
        return self.image.reduce(2), self.marks


def draw_digits(digits: tuple[int, ...], scans: tuple[int, ...], rng: random.Random) -> Drawing:
    """Handwritten digits in a row on ruled paper; `scans` are the indices of the scans that show them."""
    canvas = _Canvas(rng)
    for y in range(96, _DRAWN, 100):
        canvas.pen.line((0, y, _DRAWN, y), fill=(214, 226, 240), width=3)
    ink = rng.choice(_PENS)
    step = _DRAWN // len(digits)
    for i, (digit, scan) in enumerate(zip(digits, scans)):
        size = rng.randint(*_DIGIT_SIZES[len(digits)])
        pixels = np.pad((digit_scans()[0][scan] * 255).astype(np.uint8), 1)
        mask = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        mask = mask.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
        mask = mask.point([min(255, max(0, int((v - 70) * 2.6))) for v in range(256)])
        x = step * i + step // 2 + rng.randint(-10, 10)
        y = _DRAWN // 2 + rng.randint(-130, 130)
        canvas.image.paste(ink, (x - size // 2, y - size // 2), mask)
        canvas.mark(x, y, f"glyph {digit}")
    return canvas.finish()


def draw_bars(heights: tuple[int, ...], rng: random.Random) -> Drawing:
    """A bar chart with lettered bars and an axis from 0 to 10."""
    canvas = _Canvas(rng)
    left, right, top, bottom = 150, _DRAWN - 30, 60, _DRAWN - 130
    unit = (bottom - top) / 10
    for value in range(11):
        y = bottom - value * unit
        canvas.pen.line((left, y, right, y), fill=(212, 216, 222) if value % 2 == 0 else (234, 237, 241), width=4)
        if value % 2 == 0:
            canvas.text(left - 62, y, str(value), 64, is_marked=False)
    count = len(heights)
    step = (right - left) / count
    colours = rng.sample(_BAR_COLOURS, count) if rng.random() < 0.6 else [rng.choice(_BAR_COLOURS)] * count
    width = step * rng.uniform(0.5, 0.72)
    for i, (height, colour) in enumerate(zip(heights, colours)):
        x, y = left + step * (i + 0.5), bottom - height * unit
        canvas.pen.rectangle((x - width / 2, y, x + width / 2, bottom), fill=colour)
        canvas.text(x, bottom + 62, "ABCDE"[i], 84)
        canvas.mark(x, y, f"top {height}")
    canvas.pen.line((left, bottom, right, bottom), fill=_INK, width=7)
    return canvas.finish()


def draw_shapes(groups: tuple[tuple[str, str, int], ...], rng: random.Random) -> Drawing:
    """Scattered shapes; `groups` are (colour, form, count)."""
    canvas = _Canvas(rng)
    cell = _DRAWN // 4
    cells = rng.sample(range(16), sum(count for _, _, count in groups))
    shapes = [(colour, form) for colour, form, count in groups for _ in range(count)]
    for index, (colour, form) in zip(cells, shapes):
        radius = rng.randint(70, 86)
        x = cell * (index % 4) + cell // 2 + rng.randint(-24, 24)
        y = cell * (index // 4) + cell // 2 + rng.randint(-24, 24)
        fill = tuple(min(255, max(0, c + rng.randint(-14, 14))) for c in COLOURS[colour])
        edge = tuple(int(c * 0.7) for c in fill)
        if form == "circle":
            canvas.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill, edge, 7)
        else:
            sides = 4 if form == "square" else 3
            canvas.pen.regular_polygon((x, y, radius * 1.12), sides, rng.randint(-7, 7), fill, edge, 7)
        canvas.mark(x, y, f"{colour} {form}")
    return canvas.finish()


def draw_figure(figure: str, labels: tuple[str, ...], rng: random.Random, is_apart: bool = False) -> Drawing:
    """A rectangle or triangle with its labels: (width, height), (base, height), three sides or three angles.

    `is_apart` puts it a little higher or lower than others can be, so that no other picture is the same.
    """
    canvas = _Canvas(rng)
    tint = rng.choice(list(COLOURS.values()))
    fill = tuple(int(255 - (255 - c) * 0.22) for c in tint)
    outline = tuple(int(c * 0.75) for c in tint)
    dx, dy = rng.randint(-16, 16), rng.randint(-16, 16)
    if is_apart:
        dy = 17 + dy % 2 if dy > 0 else -17 - dy % 2
    if figure == "triangle sides":
        corners, spots = _triangle(rng, 260 + rng.randint(-20, 20), 640)
    elif figure == "triangle angles":
        corners, _ = _triangle(rng, 210, 640)
        spots = [(x, y + 74) for x, y in corners[:2]] + [(corners[2][0], corners[2][1] - 66)]
    else:
        corners, spots = _right_angled(figure, labels, rng)
    corners = [(x + dx, y + dy) for x, y in corners]
    canvas.pen.polygon(corners, fill=fill)
    canvas.pen.line([*corners, corners[0], corners[1]], fill=outline, width=11, joint="curve")
    if figure == "right triangle":
        x, y = corners[0]
        canvas.pen.line([(x + 50, y), (x + 50, y - 50), (x, y - 50)], fill=outline, width=7)
    if figure == "triangle angles":
        _arcs(canvas, corners, outline)
    for (x, y), label in zip(spots, labels):
        canvas.text(x + dx, y + dy, label, 120 if len(label) < 4 else 104)
    return canvas.finish()


def _right_angled(figure: str, labels: tuple[str, ...], rng: random.Random) -> tuple[_Points, _Points]:
    """Corners of a rectangle or right triangle, the right angle first, and the positions of its labels."""
    if figure == "rectangle":
        numbers = [int(label) if label.isdigit() else rng.randint(3, 10) for label in labels]
        width, height = (int(560 * max(0.42, n / max(numbers))) for n in numbers)
        left, bottom = 230 + (560 - width) // 2, 690 - (560 - height) // 2
    else:
        width, height = rng.randint(380, 570), rng.randint(360, 540)
        left, bottom = 240 + (570 - width) // 2, 690 - (540 - height) // 2
    corners = [(left, bottom), (left + width, bottom), (left + width, bottom - height), (left, bottom - height)]
    if figure != "rectangle":
        del corners[2]
    return corners, [(left + width // 2, bottom + 92), (left - 104, bottom - height // 2)]


def _triangle(rng: random.Random, top: int, bottom: int) -> tuple[_Points, _Points]:
    apex = rng.randint(360, 540)
    middle = (bottom + top) // 2 - 36
    spots = [(450, bottom + 92), ((730 + apex) // 2 + 96, middle), ((170 + apex) // 2 - 96, middle)]
    return [(170, bottom), (730, bottom), (apex, top)], spots


def _arcs(canvas: _Canvas, corners: _Points, colour: tuple[int, ...]) -> None:
    for i, (x, y) in enumerate(corners):
        start, end = sorted(math.degrees(math.atan2(b - y, a - x)) for j, (a, b) in enumerate(corners) if j != i)
        if end - start > 180:
            start, end = end, start + 360
        canvas.pen.arc((x - 84, y - 84, x + 84, y + 84), start, end, fill=colour, width=8)
