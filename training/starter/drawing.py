"""Draws the pictures of the starter problems: handwritten digits, bar charts, labelled figures, coloured shapes.

Every `draw_*` takes the values that the picture shows and a seeded `random.Random`, draws at twice the size and
scales down, and returns a 448-pixel RGB picture and its `Mark`s: where each meaningful thing stands.
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
_PENS = ((28, 48, 120), (40, 40, 48), (92, 32, 80), (20, 84, 72))


class Mark(NamedTuple):
    """A thing in a picture: its centre as fractions of the side, and what it is (`"glyph 7"`, `"red circle"`)."""

    x: float
    y: float
    label: str


@functools.cache
def digit_scans() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 scans in the starter's folder: ink from 0 to 1 (N, 8, 8) and digits (N,)."""
    table = np.loadtxt(STARTER / "digits" / "digits.csv.gz", delimiter=",", dtype=np.int64)  # (N, 65)
    return (table[:, :-1].reshape(-1, 8, 8) / 16.0).astype(np.float32), table[:, -1]


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Canvas:
    def __init__(self, rng: random.Random) -> None:
        self.image = Image.new("RGB", (_DRAWN, _DRAWN), rng.choice(_PAPERS))
        self.pen = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []

    def mark(self, x: float, y: float, label: str) -> None:
        self.marks.append(Mark(x / _DRAWN, y / _DRAWN, label))

    def text(self, x: float, y: float, text: str, size: int, marked: bool = True) -> None:
        """Centred text; each of its letters and digits becomes a mark where it stands."""
        font = _font(size)
        self.pen.text((x, y), text, fill=_INK, font=font, anchor="mm")
        if marked:
            left = x - font.getlength(text) / 2
            for i, letter in enumerate(text):
                if letter.isalnum() or letter == "?":
                    centre = left + font.getlength(text[:i]) + font.getlength(letter) / 2
                    self.mark(centre, y, f"glyph {letter}")

    def finish(self) -> tuple[Image.Image, list[Mark]]:
        return self.image.reduce(2), self.marks


def draw_digits(digits: tuple[int, ...], scans: tuple[int, ...], rng: random.Random) -> tuple[Image.Image, list[Mark]]:
    """Handwritten digits in a row on ruled paper; `scans` are the indices of the scans that show them."""
    canvas = _Canvas(rng)
    for y in range(96, _DRAWN, 100):
        canvas.pen.line((0, y, _DRAWN, y), fill=(214, 226, 240), width=3)
    ink = rng.choice(_PENS)
    step = _DRAWN // len(digits)
    for i, (digit, scan) in enumerate(zip(digits, scans)):
        size = rng.randint(320, 370) if len(digits) == 3 else rng.randint(390, 480)
        pixels = np.pad((digit_scans()[0][scan] * 255).astype(np.uint8), 1)
        mask = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        mask = mask.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
        mask = mask.point([min(255, max(0, int((v - 70) * 2.6))) for v in range(256)])
        x = step * i + step // 2 + rng.randint(-10, 10)
        y = _DRAWN // 2 + rng.randint(-130, 130)
        canvas.image.paste(ink, (x - size // 2, y - size // 2), mask)
        canvas.mark(x, y, f"glyph {digit}")
    return canvas.finish()


def draw_bars(heights: tuple[int, ...], rng: random.Random) -> tuple[Image.Image, list[Mark]]:
    """A bar chart with lettered bars and an axis from 0 to 10."""
    canvas = _Canvas(rng)
    left, right, top, bottom = 150, _DRAWN - 30, 60, _DRAWN - 130
    unit = (bottom - top) / 10
    for value in range(0, 11):
        y = bottom - value * unit
        canvas.pen.line((left, y, right, y), fill=(212, 216, 222) if value % 2 == 0 else (234, 237, 241), width=4)
        if value % 2 == 0:
            canvas.text(left - 62, y, str(value), 64, marked=False)
    step = (right - left) / len(heights)
    colours = (
        rng.sample(_BAR_COLOURS, len(heights)) if rng.random() < 0.6 else [rng.choice(_BAR_COLOURS)] * len(heights)
    )
    width = step * rng.uniform(0.5, 0.72)
    for i, (height, colour) in enumerate(zip(heights, colours)):
        x, y = left + step * (i + 0.5), bottom - height * unit
        canvas.pen.rectangle((x - width / 2, y, x + width / 2, bottom), fill=colour)
        canvas.text(x, bottom + 62, "ABCD"[i], 84)
        canvas.mark(x, y, f"top {height}")
    canvas.pen.line((left, bottom, right, bottom), fill=_INK, width=7)
    return canvas.finish()


def draw_shapes(groups: tuple[tuple[str, str, int], ...], rng: random.Random) -> tuple[Image.Image, list[Mark]]:
    """Scattered shapes; `groups` are (colour, form, count)."""
    canvas = _Canvas(rng)
    cell = _DRAWN // 4
    places = rng.sample(range(16), sum(count for _, _, count in groups))
    things = [(colour, form) for colour, form, count in groups for _ in range(count)]
    for place, (colour, form) in zip(places, things):
        radius = rng.randint(70, 86)
        x = cell * (place % 4) + cell // 2 + rng.randint(-24, 24)
        y = cell * (place // 4) + cell // 2 + rng.randint(-24, 24)
        fill = tuple(min(255, max(0, c + rng.randint(-14, 14))) for c in COLOURS[colour])
        edge = tuple(int(c * 0.7) for c in fill)
        if form == "circle":
            canvas.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=edge, width=7)
        else:
            sides, turn = (4, 45) if form == "square" else (3, 0)
            canvas.pen.regular_polygon(
                (x, y, radius * 1.12),
                sides,
                rotation=turn + rng.randint(-7, 7) - (45 if sides == 4 else 0),
                fill=fill,
                outline=edge,
                width=7,
            )
        canvas.mark(x, y, f"{colour} {form}")
    return canvas.finish()


def draw_figure(
    figure: str, labels: tuple[str, ...], rng: random.Random, apart: bool = False
) -> tuple[Image.Image, list[Mark]]:
    """A rectangle or triangle with its labels: (width, height), (base, height), three sides or three angles.

    `apart` puts it a little higher or lower than others can be, so that no other picture is the same.
    """
    canvas = _Canvas(rng)
    tint = rng.choice(list(COLOURS.values()))
    fill = tuple(int(255 - (255 - c) * 0.22) for c in tint)
    outline = tuple(int(c * 0.75) for c in tint)
    dx, dy = rng.randint(-16, 16), rng.randint(-16, 16)
    if apart:
        dy = 17 + dy % 2 if dy > 0 else -17 - dy % 2
    if figure == "rectangle":
        corners, spots = _rectangle(labels, rng)
    elif figure == "right triangle":
        corners, spots = _right_triangle(rng)
    elif figure == "triangle sides":
        corners, spots = _triangle(rng, 260 + rng.randint(-20, 20), 640)
    else:
        corners, spots = _triangle(rng, 210, 640)
        spots = [(x, y + 74) for x, y in corners[:2]] + [(corners[2][0], corners[2][1] - 66)]
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


def _rectangle(labels: tuple[str, ...], rng: random.Random) -> tuple[list, list]:
    numbers = [int(label) if label.isdigit() else rng.randint(3, 10) for label in labels]
    longest = max(numbers)
    width, height = (int(560 * max(0.42, n / longest)) for n in numbers)
    left, bottom = 230 + (560 - width) // 2, 690 - (560 - height) // 2
    corners = [(left, bottom), (left + width, bottom), (left + width, bottom - height), (left, bottom - height)]
    return corners, [(left + width // 2, bottom + 92), (left - 104, bottom - height // 2)]


def _right_triangle(rng: random.Random) -> tuple[list, list]:
    width, height = rng.randint(380, 570), rng.randint(360, 540)
    left, bottom = 240 + (570 - width) // 2, 690 - (540 - height) // 2
    corners = [(left, bottom), (left + width, bottom), (left, bottom - height)]
    return corners, [(left + width // 2, bottom + 92), (left - 104, bottom - height // 2)]


def _triangle(rng: random.Random, top: int, bottom: int) -> tuple[list, list]:
    apex = rng.randint(360, 540)
    corners = [(170, bottom), (730, bottom), (apex, top)]
    spots = [
        (450, bottom + 92),
        ((730 + apex) // 2 + 96, (bottom + top) // 2 - 36),
        ((170 + apex) // 2 - 96, (bottom + top) // 2 - 36),
    ]
    return corners, spots


def _arcs(canvas: _Canvas, corners: list, colour: tuple[int, ...]) -> None:
    for i, (x, y) in enumerate(corners):
        start, end = sorted(math.degrees(math.atan2(b - y, a - x)) for j, (a, b) in enumerate(corners) if j != i)
        if end - start > 180:
            start, end = end, start + 360
        canvas.pen.arc((x - 84, y - 84, x + 84, y + 84), start, end, fill=colour, width=8)
