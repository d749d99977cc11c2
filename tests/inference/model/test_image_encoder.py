"""A picture is processed and encoded once, however many rows and questions use it."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from inference.adapters.live import LiveAdapters
from inference.common.settings import load_settings
from inference.engine.engine import Engine, Request
from inference.model import image_encoder as encoding
from inference.server.service import Service
from inference.ui.inputs import check_picture
from tests.support.serving import WAIT_SECONDS


@pytest.fixture
def pictures() -> list[Image.Image]:
    """New to the engine in each test."""
    noise = np.random.default_rng().integers(0, 256, (4, 84, 84, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def rows(images: list[Image.Image], question: str = "How many?") -> list[Request]:
    return [Request(image, question, max_new_tokens=2) for image in images]


def test_one_encoding_for_all_rows_and_follow_up_questions(engine: Engine, pictures) -> None:
    one, two = pictures[:2]
    before = engine.encoder.num_encodings
    engine.generate(rows([one, one, two, one]))
    assert engine.encoder.num_encodings == before + 2
    engine.generate(rows([two, one], "And how many are red?"))
    engine.generate(rows([one.copy()]))  # the same pixels in another object
    assert engine.encoder.num_encodings == before + 2


SIZE = 25 * 192 * 4
"""Tokens x width x bytes of float32, for the starter."""


@pytest.mark.parametrize(("bound", "value"), [("CACHE_BYTES", 2 * SIZE), ("CACHE_PICTURES", 2)])
def test_the_cache_is_bounded_and_forgets_the_oldest(
    bound: str, value: int, engine: Engine, pictures, monkeypatch
) -> None:
    one, two, three = pictures[:3]
    monkeypatch.setattr(encoding, bound, value)
    engine.generate(rows([one, two]))
    engine.generate(rows([one]))
    engine.generate(rows([three]))  # two was used least recently
    before = engine.encoder.num_encodings
    engine.generate(rows([one, three]))
    assert engine.encoder.num_encodings == before
    engine.generate(rows([two]))
    assert engine.encoder.num_encodings == before + 1


def test_pictures_in_small_batches_give_the_same_features(engine: Engine, pictures, monkeypatch) -> None:
    encoder = encoding.ImageEncoder(engine.family)
    alone = encoding.ImageEncoder(engine.family)
    with torch.inference_mode():
        together = encoder.encode(pictures)
        monkeypatch.setattr(encoding, "BATCH_PATCHES", 1)
        apart = alone.encode(pictures)
    assert encoder.num_encodings == alone.num_encodings == len(pictures)
    for a, b in zip(together, apart):
        torch.testing.assert_close(a.features, b.features, atol=1e-4, rtol=1e-4)
        assert a.placeholders == b.placeholders and torch.equal(a.grid, b.grid)


def test_a_picture_is_prepared_once_whoever_asks_and_when(engine: Engine, pictures) -> None:
    """By threads at once, and then for its question."""
    before, encoded = engine.encoder.num_preparations, engine.encoder.num_encodings
    threads = [threading.Thread(target=engine.prepare, args=([pictures[0].copy()],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (engine.encoder.num_preparations, engine.encoder.num_encodings) == (before + 1, encoded)
    engine.generate(rows([pictures[0]]))
    engine.prepare([pictures[0]])
    assert (engine.encoder.num_preparations, engine.encoder.num_encodings) == (before + 1, encoded + 1)


def test_prepared_pictures_are_bounded_and_a_failure_is_not_kept(engine: Engine, pictures, monkeypatch) -> None:
    encoder = encoding.ImageEncoder(engine.family)
    encoder.prepare(pictures[:1])
    [made] = encoder._prepared.values()
    monkeypatch.setattr(encoding, "PREPARED_BYTES", 2 * made.result()["pixel_values"].nbytes + 100)
    encoder.prepare(pictures[1:3])
    assert len(encoder._prepared) == 2
    with monkeypatch.context() as patch:
        patch.setattr(type(engine.family), "process", lambda self, image: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder.prepare(pictures[3:])
    encoder.prepare(pictures[3:])
    assert encoder.num_preparations == 5
    with torch.inference_mode():
        encoder.encode(pictures)
    assert (encoder.num_preparations, encoder.num_encodings) == (7, 4), "the two that had to leave, and no other"
    assert not encoder._prepared


def test_work_on_a_picture_begins_with_its_upload(engine: Engine, pictures, tmp_path) -> None:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter"}, has_gpu=False)
    service = Service(settings, lambda: engine, LiveAdapters(settings), cast(Any, None), cast(Any, None), [])
    service.queue.wait_loaded()
    before = engine.encoder.num_preparations
    pictures[0].save(tmp_path / "upload.png")
    check_picture(service, str(tmp_path / "upload.png"))
    until = time.monotonic() + WAIT_SECONDS
    while engine.encoder.num_preparations == before:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert service.queue.submit(rows([pictures[0]])).wait(WAIT_SECONDS)
    assert engine.encoder.num_preparations == before + 1


def test_pictures_that_came_long_ago_are_forgotten(engine: Engine, pictures) -> None:
    engine.generate(rows(pictures[:1]))
    engine.prepare(pictures[1:2])  # nobody has asked about it yet
    encodings, preparations = engine.encoder.num_encodings, engine.encoder.num_preparations
    assert engine.forget_pictures(3600) >= 2
    engine.generate(rows(pictures[:1]))
    assert engine.encoder.num_encodings == encodings
    assert engine.forget_pictures(0) == 0
    engine.generate(rows(pictures[:2]))
    assert engine.encoder.num_encodings == encodings + 2
    assert engine.encoder.num_preparations == preparations + 2
