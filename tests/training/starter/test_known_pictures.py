"""Pictures unlike all that the starter knows are found: photographs, and charts drawn in another style."""

from __future__ import annotations

import importlib.util
import io
import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.known_pictures import FILE, UNKNOWN_FROM, WEIGHTS, KnownPictures, pooled
from training.starter.known_pictures import make
from training.starter.problems import iterate_problems
from training.ui.training_app import example_problems

PHOTOGRAPHS = {
    "astronaut.png": "NASA Great Images, public domain",
    "brick.png": "CC0Textures, CC0",
    "camera.png": "Lav Varshney, CC0",
    "chelsea.png": "Stefan van der Walt, CC0",
    "clock_motion.png": "Stefan van der Walt, public domain",
    "coffee.png": "Rachel Michetti, CC0",
    "gravel.png": "CC0Textures, CC0",
    "hubble_deep_field.jpg": "NASA, public domain",
    "retina.jpg": "Mikael Häggström, public domain",
    "rocket.jpg": "SpaceX, public domain",
}
"""Pictures that come within scikit-image, each with its source."""
STYLES = ("default", "ggplot", "dark_background", "fivethirtyeight", "grayscale", "Solarize_Light2")
CHARTS = ("bar", "barh", "plot", "stackplot", "pie")


def crops() -> Iterator[Image.Image]:
    """Five squares of each photograph, the first as large as it allows."""
    rng = random.Random(4)
    found = importlib.util.find_spec("skimage")
    assert found is not None and found.submodule_search_locations
    for name in PHOTOGRAPHS:
        with Image.open(Path(found.submodule_search_locations[0]) / "data" / name) as opened:
            picture = opened.convert("RGB")
        for number in range(5):
            side = int(min(picture.size) * (1 if number == 0 else rng.uniform(0.4, 0.9)))
            x, y = (rng.randint(0, length - side) for length in picture.size)
            yield picture.crop((x, y, x + side, y + side))


def charts() -> Iterator[Image.Image]:
    """A chart of each kind in each of matplotlib's styles."""
    rng = random.Random(5)
    for style, kind in itertools.product(STYLES, CHARTS):
        values = [rng.randint(1, 20) for _ in range(5)]
        content = io.BytesIO()
        with plt.style.context(style):
            figure, axes = plt.subplots(figsize=(5, 5))
            getattr(axes, kind)(*([] if kind == "pie" else [["Oslo", "Rome", "Lima", "Kyiv", "Cairo"]]), values)
            axes.set_title("Rainy days")
            figure.savefig(content, dpi=56)
            plt.close(figure)
        yield Image.open(content).convert("RGB")


def share_unknown(engine: Engine, pictures: Iterator[Image.Image]) -> float:
    """The share of pictures beyond the limit, with the features of all of them from the tower."""
    distances = [encoding.distance for encoding in engine.encode(list(pictures))]
    assert distances and None not in distances
    return sum(distance > UNKNOWN_FROM for distance in distances if distance is not None) / len(distances)


def test_the_shipped_statistics_are_of_the_shipped_weights() -> None:
    assert KnownPictures.read(STARTER) is not None, "python -m training.starter.known_pictures makes them anew"
    assert (STARTER / FILE).stat().st_size < 400_000


@pytest.mark.long
def test_pictures_of_its_own_kinds_are_known(engine: Engine) -> None:
    """None of these held-out ones is not."""
    problems = itertools.islice(iterate_problems("test", 2_024), 200)
    assert share_unknown(engine, (problem.image for problem in problems)) == 0


def test_no_example_of_the_page_is_called_unknown(engine: Engine) -> None:
    assert share_unknown(engine, (example.image for example in example_problems(True))) == 0


@pytest.mark.long
def test_charts_in_another_style_are_not(engine: Engine) -> None:
    assert share_unknown(engine, charts()) >= 0.9


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
def test_photographs_are_not(engine: Engine) -> None:
    assert share_unknown(engine, crops()) >= 0.9


def test_statistics_are_made_for_the_weights_in_a_folder(engine: Engine, tmp_path: Path, caplog) -> None:
    """Few pictures make a rough limit; other weights make the file unused, which is logged."""
    folder = tmp_path / "base"
    shutil.copytree(STARTER, folder, ignore=shutil.ignore_patterns("adapter", "digits", FILE))
    assert KnownPictures.read(folder) is None
    make(folder, num_pictures=96, num_held_out=48)
    known = KnownPictures.read(folder)
    assert known is not None
    white, photo = engine.encode(
        [Image.new("RGB", (140, 140), "white"), Image.effect_noise((140, 140), 90).convert("RGB")]
    )
    assert known.distance(photo.features) > known.distance(white.features) > 0
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b" ")
    assert KnownPictures.read(folder) is None and "other weights" in caplog.text


def test_the_distance_is_mahalanobis_in_units_of_the_limit() -> None:
    """Beside the formula with the inverse covariance, on features that all vary."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.eye(6).double() + 0.5 * torch.ones(6, 6).double().triu(1)
    pictures = torch.randn(4_000, 6, generator=generator, dtype=torch.float64) @ mixing
    known = KnownPictures.fit(pictures, pictures)
    inverse = torch.linalg.inv(torch.cov(pictures.T))
    away = pictures - pictures.mean(0)
    expected = ((away @ inverse) * away).sum(1).sqrt()
    tokens = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    assert torch.equal(pooled(tokens)[:3], tokens.float().mean(0))
    distances = (away @ known.whitening).norm(dim=1)
    assert (distances > 1).double().mean() == pytest.approx(0.012, abs=1e-3)
    torch.testing.assert_close(distances, expected / expected.quantile(0.988), rtol=2e-2, atol=1e-2)
