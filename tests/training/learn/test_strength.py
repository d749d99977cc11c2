"""An adapter at another strength: written as a folder, it is the engine's own at that strength."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine, Request
from tests.support.samples import problems
from training.learn.strength import write_scaled


@pytest.mark.parametrize("strength", [0.25, 1.0, 1.5])
def test_the_folder_answers_as_the_engine_does(engine: Engine, tmp_path: Path, strength: float) -> None:
    write_scaled(STARTER / "adapter", strength, tmp_path / "scaled")
    engine.add_adapter("written", tmp_path / "scaled")
    engine.add_adapter("held", STARTER / "adapter", strength)
    rows = [Request(p.image.convert("RGB"), p.problem, max_new_tokens=40) for p in problems(3, seed=4)]
    texts = []
    for name in ("written", "held", None):
        asked = [Request(row.image, row.question, adapter=name, max_new_tokens=40) for row in rows]
        texts.append([completion.text for completion in engine.generate(asked)])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.6, float("nan")])
def test_other_strengths_are_refused(tmp_path: Path, strength: float) -> None:
    with pytest.raises(UserError, match="more than 0 and at most 1.5"):
        write_scaled(STARTER / "adapter", strength, tmp_path / "scaled")
