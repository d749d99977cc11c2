"""An adapter at another strength: written as a folder, it is the engine's own at that strength."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.adapters.record import LEARN_FOLDER, SCALED_FILE, adapter_digest
from inference.adapters.versions import store_version
from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine, Request
from tests.support.samples import problems
from training.learn.strength import STRENGTHS_FILE, read_scaled, write_scaled


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


def test_a_promoted_copy_says_what_it_was_made_of(tmp_path: Path) -> None:
    """It has the strengths of its origin, and nothing else of that one's record; no copy is made of a copy."""
    write_scaled(STARTER / "adapter", 0.25, tmp_path / "starter-at-25")
    stored = store_version(tmp_path / "home", tmp_path / "starter-at-25", str(STARTER), "admin").folder
    found = read_scaled(stored)
    assert found is not None and (found.of, found.strength) == ("starter-adapter", 0.25)
    assert found.of_digest == adapter_digest(STARTER / "adapter") and found.digest == adapter_digest(stored)
    assert [path.name for path in (stored / LEARN_FOLDER).iterdir()] == [STRENGTHS_FILE]
    assert read_scaled(STARTER / "adapter") is None
    with pytest.raises(UserError, match="at 25 % of its strength. Choose starter-adapter"):
        write_scaled(stored, 0.5, tmp_path / "again")


@pytest.mark.parametrize(
    "change", [{"strength": 9}, {"strength": "x"}, {"of": 3}, {"of_digest": "../x"}, {"digest": "0" * 64}, {"more": 1}]
)
def test_a_damaged_origin_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    target = tmp_path / "scaled"
    write_scaled(STARTER / "adapter", 0.25, target)
    content = json.loads((target / SCALED_FILE).read_text())
    assert read_scaled(target) is not None
    (target / SCALED_FILE).write_text(json.dumps(content | change))
    assert read_scaled(target) is None


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.6, float("nan")])
def test_other_strengths_are_refused(tmp_path: Path, strength: float) -> None:
    with pytest.raises(UserError, match="more than 0 and at most 1.5"):
        write_scaled(STARTER / "adapter", strength, tmp_path / "scaled")
