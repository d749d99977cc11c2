"""Problems for a base that is not the starter: pictures as people bring them, drawn at a size that such models know.

    >>> problem = everyday_problem("receipt", random.Random(1))
    >>> problem.image.size, problem.answer
    ((720, 960), '6.90')

A receipt, a chart, a geometry figure, a scene of objects to count, a table, handwriting, a clock and a street map, each
with a question whose answer is known.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.starter.drawing import COLOURS, FORMS, digit_scans

INK, PALE, PAPER = (38, 42, 51), (150, 156, 166), (252, 251, 248)
_GOODS = ("Bread", "Milk", "Apples", "Coffee", "Cheese", "Rice", "Tea", "Butter", "Eggs", "Honey", "Pasta", "Oranges")
_CITIES = ("Lisbon", "Oslo", "Athens", "Dublin", "Vienna", "Prague", "Riga", "Bern")
_STREETS = ("Mill Street", "Oak Street", "Park Street", "Lake Street")
_PLACES = ("Library", "Bakery", "School", "Museum", "Station", "Market")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug")


@dataclass(frozen=True)
class EverydayProblem:
    """A picture, a question about it, and the answer."""

    image: Image.Image
    problem: str
    answer: str


def everyday_problem(kind: str, rng: random.Random) -> EverydayProblem:
    """A new problem of one of `EVERYDAY_KINDS`."""
    return EVERYDAY_KINDS[kind](rng)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def _text(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int = 28, anchor: str = "lm") -> None:
    pen.text((x, y), text, fill=INK, font=ImageFont.load_default(size), anchor=anchor)


def _receipt(rng: random.Random) -> EverydayProblem:
    """Goods with prices in cents; the question asks for the total, or for the change."""
    image, pen = _canvas(720, 960)
    goods = [(name, rng.randint(1, 4), 5 * rng.randint(15, 120)) for name in rng.sample(_GOODS, rng.randint(4, 6))]
    _text(pen, 360, 90, "CORNER SHOP", 44, "mm")
    _text(pen, 360, 140, f"Receipt {rng.randint(1000, 9999)}", 24, "mm")
    for row, (name, count, cents) in enumerate(goods):
        y = 230 + 70 * row
        _text(pen, 80, y, f"{count} x {name}", 32)
        _text(pen, 640, y, f"{count * cents / 100:.2f}", 32, "rm")
    y = 230 + 70 * len(goods)
    pen.line((80, y - 10, 640, y - 10), fill=PALE, width=3)
    total = sum(count * cents for _, count, cents in goods)
    paid = (total // 1000 + 1) * 1000
    if rng.random() < 0.5:
        _text(pen, 80, y + 40, "Cash", 32)
        _text(pen, 640, y + 40, f"{paid / 100:.2f}", 32, "rm")
        question = "The customer paid the cash shown. The receipt leaves out the total. How much change was due?"
        return EverydayProblem(image, question, f"{(paid - total) / 100:.2f}")
    return EverydayProblem(image, "The receipt leaves out the total. What is it?", f"{total / 100:.2f}")


def _chart(rng: random.Random) -> EverydayProblem:
    """A line chart of two cities over some months."""
    image, pen = _canvas(960, 640)
    cities, months = rng.sample(_CITIES, 2), _MONTHS[: rng.randint(5, 8)]
    pairs = [rng.choice([(a, b) for a in range(1, 20) for b in range(1, 20) if abs(a - b) > 1]) for _ in months]
    _text(pen, 480, 44, "Rainy days in a month", 36, "mm")
    left, right, top, bottom = 110, 920, 100, 540
    for mark in range(0, 21, 5):
        y = bottom - (bottom - top) * mark / 20
        pen.line((left, y, right, y), fill=(225, 227, 231), width=2)
        _text(pen, left - 20, y, str(mark), 24, "rm")
    xs = [left + 60 + (right - left - 120) * i / (len(months) - 1) for i in range(len(months))]
    for x, month in zip(xs, months):
        _text(pen, x, bottom + 32, month, 26, "mm")
    colours = rng.sample(list(COLOURS.values()), 2)
    for i, (city, values, colour) in enumerate(zip(cities, zip(*pairs), colours)):
        points = [(x, bottom - (bottom - top) * value / 20) for x, value in zip(xs, values)]
        pen.line(points, fill=colour, width=5)
        for (x, y), value, pair in zip(points, values, pairs):
            pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill=colour)
            _text(pen, x, y - 24 if value == max(pair) else y + 26, str(value), 22, "mm")
        pen.rectangle((280 + 260 * i, 592, 310 + 260 * i, 612), fill=colour)
        _text(pen, 322 + 260 * i, 602, city, 26)
    month, (one, other) = rng.choice(list(zip(months, pairs)))
    question = f"By how many rainy days do {cities[0]} and {cities[1]} differ in {month}?"
    return EverydayProblem(image, question, str(abs(one - other)))


def _geometry(rng: random.Random) -> EverydayProblem:
    """A right triangle with two sides of a Pythagorean triple and a letter at the third."""
    image, pen = _canvas(840, 640)
    scale, triple = rng.randint(1, 6), rng.choice([(3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29)])
    a, b, c = (scale * side for side in triple)
    corners = [(160, 520), (700, 520), (160, 130)]
    pen.polygon(corners, fill=(232, 238, 248))
    pen.line([*corners, corners[0]], fill=INK, width=5)
    pen.line([(160, 484), (196, 484), (196, 520)], fill=INK, width=4)
    for (x, y), name in zip([(128, 548), (728, 540), (140, 96)], "ABC"):
        _text(pen, x, y, name, 36, "mm")
    labels = [f"{b} cm", f"{a} cm", f"{c} cm"]
    hidden = rng.randrange(3)
    labels[hidden] = "x"
    for (x, y), label in zip([(430, 562), (90, 325), (480, 290)], labels):
        _text(pen, x, y, label, 36, "mm")
    answer = (b, a, c)[hidden]
    question = "In triangle ABC the angle at A is a right angle. How many centimetres long is the side x?"
    return EverydayProblem(image, question, str(answer))


def _scene(rng: random.Random) -> EverydayProblem:
    """Shapes on a table; some are to be counted, by colour or by form."""
    image, pen = _canvas(960, 640)
    pen.rectangle((0, 0, 960, 640), fill=(226, 214, 196))
    things = [(rng.choice(list(COLOURS)), rng.choice(FORMS)) for _ in range(rng.randint(9, 14))]
    cells = rng.sample(range(24), len(things))
    for cell, (colour, form) in zip(cells, things):
        x, y = 80 + 160 * (cell % 6) + rng.randint(-24, 24), 80 + 160 * (cell // 6) + rng.randint(-24, 24)
        radius = rng.randint(38, 56)
        fill = COLOURS[colour]
        if form == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=INK, width=3)
        else:
            sides, turn = (4, rng.randint(0, 45)) if form == "square" else (3, rng.randint(0, 60))
            pen.regular_polygon((x, y, radius), sides, rotation=turn, fill=fill, outline=INK)
    colour, form = rng.choice(things)
    if rng.random() < 0.5:
        return EverydayProblem(image, f"How many {form}s are there?", str(sum(f == form for _, f in things)))
    return EverydayProblem(image, f"How many shapes are {colour}?", str(sum(c == colour for c, _ in things)))


def _table(rng: random.Random) -> EverydayProblem:
    """A timetable; the question asks how long a train takes."""
    image, pen = _canvas(880, 600)
    cities = rng.sample(_CITIES, 4)
    _text(pen, 440, 56, "Departures", 40, "mm")
    for x, heading in zip((80, 340, 540, 740), ("To", "Leaves", "Arrives", "Track")):
        _text(pen, x, 130, heading, 28)
    pen.line((60, 160, 820, 160), fill=INK, width=3)
    times = []
    for row, city in enumerate(cities):
        leaves, takes = rng.randint(6 * 60, 18 * 60), rng.randint(25, 190)
        times.append(takes)
        cells = (city, _clock_text(leaves), _clock_text(leaves + takes), str(rng.randint(1, 12)))
        for x, cell in zip((80, 340, 540, 740), cells):
            _text(pen, x, 215 + 90 * row, cell, 32)
        pen.line((60, 260 + 90 * row, 820, 260 + 90 * row), fill=(225, 227, 231), width=2)
    row = rng.randrange(4)
    return EverydayProblem(image, f"How many minutes does the train to {cities[row]} take?", str(times[row]))


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02d}"


def _handwriting(rng: random.Random) -> EverydayProblem:
    """Two handwritten numbers to add, of the scans that the starter is tested with."""
    image, pen = _canvas(800, 600)
    for y in range(60, 600, 60):
        pen.line((0, y, 800, y), fill=(214, 226, 240), width=2)
    scans, targets = digit_scans()
    numbers = [rng.randint(100, 999) for _ in range(2)]
    for row, number in enumerate(numbers):
        for i, digit in enumerate(map(int, str(number))):
            scan = rng.choice([j for j in (targets == digit).nonzero()[0].tolist() if j % 5 == 0])
            pixels = np.pad((scans[scan] * 255).astype(np.uint8), 1)
            mask = Image.fromarray(pixels).resize((170, 170), Image.Resampling.BICUBIC)
            mask = mask.point([min(255, max(0, int((v - 70) * 2.6))) for v in range(256)])
            image.paste((28, 48, 120), (270 + 150 * i, 60 + 210 * row), mask)
    _text(pen, 190, 350, "+", 90, "mm")
    pen.line((150, 480, 720, 480), fill=(28, 48, 120), width=6)
    return EverydayProblem(image, "What is the sum of the two handwritten numbers?", str(sum(numbers)))


def _clock(rng: random.Random) -> EverydayProblem:
    """A clock face with two hands; the time is a multiple of five minutes."""
    image, pen = _canvas(700, 700)
    hour, minute = rng.randint(1, 12), 5 * rng.randint(0, 11)
    pen.ellipse((60, 60, 640, 640), fill=(255, 255, 255), outline=INK, width=10)
    for mark in range(1, 13):
        angle = math.radians(30 * mark - 90)
        _text(pen, 350 + 236 * math.cos(angle), 350 + 236 * math.sin(angle), str(mark), 44, "mm")
    for turn, length, width in (((hour % 12 + minute / 60) / 12, 140, 18), (minute / 60, 215, 10)):
        angle = math.radians(360 * turn - 90)
        end = (350 + length * math.cos(angle), 350 + length * math.sin(angle))
        pen.line((350, 350, *end), fill=INK, width=width)
    pen.ellipse((334, 334, 366, 366), fill=INK)
    return EverydayProblem(image, "What time does the clock show? Answer as hours:minutes.", f"{hour}:{minute:02d}")


def _map(rng: random.Random) -> EverydayProblem:
    """Streets that cross, and places on them, with a question about the way between two of them."""
    image, pen = _canvas(900, 700)
    for i in range(4):
        pen.rectangle((0, 90 + 170 * i, 900, 130 + 170 * i), fill=(230, 230, 226))
        pen.rectangle((110 + 220 * i, 0, 150 + 220 * i, 700), fill=(230, 230, 226))
    for i, name in enumerate(rng.sample(_STREETS, 4)):
        _text(pen, 450, 110 + 170 * i, name, 24, "mm")
    crossings = rng.sample([(x, y) for x in range(4) for y in range(4)], 4)
    names = rng.sample(_PLACES, 4)
    for (column, row), name in zip(crossings, names):
        x, y = 130 + 220 * column, 110 + 170 * row
        pen.ellipse((x - 16, y - 16, x + 16, y + 16), fill=COLOURS["red"], outline=INK, width=3)
        _text(pen, x, y - 34, name, 26, "mm")
    (a, b), (c, d) = crossings[:2]
    question = f"A block is the way from one crossing to the next. How many blocks is it from the {names[0]} to the "
    return EverydayProblem(image, question + f"{names[1]} along the streets, at least?", str(abs(a - c) + abs(b - d)))


EVERYDAY_KINDS: dict[str, Callable[[random.Random], EverydayProblem]] = {
    "receipt": _receipt,
    "chart": _chart,
    "geometry": _geometry,
    "scene": _scene,
    "table": _table,
    "handwriting": _handwriting,
    "clock": _clock,
    "map": _map,
}
