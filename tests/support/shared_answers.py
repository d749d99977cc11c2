"""Answers as a visitor shares them, for tests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from PIL import Image

from inference.prompt.image import content_key
from inference.server.shares import DAY, SharedAnswer, Shares


def noise(side: int = 60) -> Image.Image:
    """A picture that no file makes much smaller."""
    return Image.effect_noise((side, side), 90).convert("RGB")


def answer_about(images: Sequence[Image.Image], question: str = "How many?", text: str = "Two. So 2") -> SharedAnswer:
    return SharedAnswer(
        pictures=tuple(content_key(image).hex() for image in images),
        question=question,
        expected="2",
        base="starter",
        adapter=None,
        title="the base alone",
        system_prompt="think",
        max_new_tokens=64,
        temperature=0.5,
        seed=3,
        state="done",
        text=text,
        num_tokens=4,
        seconds=0.5,
        thought_tokens=2,
        thought_seconds=0.25,
        picture_distance=None,
        verdict=None,
    )


def shared(shares: Shares, *images: Image.Image, visitor: str = "", days_ago: float = 0.0) -> tuple[str, str]:
    """Share an answer about these pictures, as it was done some days ago; returns its id and its key."""
    images = images or (noise(),)
    share_id, key = shares.save(shares.sign(answer_about(images)), images, visitor)
    file = shares.folder / share_id / "share.json"
    content = json.loads(file.read_text("utf-8")) | {"created": time.time() - days_ago * DAY}
    file.write_text(json.dumps(content), "utf-8")
    return share_id, key
