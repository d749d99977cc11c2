"""Compare without an adapter: what is missing, in the deployment's words, and an example that was really recorded."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from inference.common.settings import STARTER, load_settings
from inference.engine.engine import Engine, Request
from inference.server.visitors import MAX_KEYS
from inference.ui.about import privacy_html
from inference.ui.compare import missing_html, missing_words
from inference.ui.recorded import recorded_example, recorded_html
from training.ui.training_app import grade_expected


def settings(base: str, **training: Any) -> Any:
    made = load_settings(env={"LOOKTHINK_BASE": base}, has_gpu=False)
    return made.model_copy(update={"training": made.training.model_copy(update=training)})


def test_the_words_and_figures_are_what_the_starter_says(engine: Engine) -> None:
    """If this fails after a change of the starter, `python -m tests.support.record_example` records it anew."""
    example = recorded_example()
    picture = Image.open(io.BytesIO(base64.b64decode(example.picture.partition(",")[2]))).convert("RGB")
    engine.add_adapter("recorded", STARTER / "adapter")
    try:
        rows = [Request(picture, example.question, adapter=name, max_new_tokens=256) for name in (None, "recorded")]
        completions = engine.generate(rows)
    finally:
        engine.remove_adapter("recorded")
    for kept, said in zip((example.base, example.tuned), completions, strict=True):
        assert (kept.text, kept.num_tokens) == (said.text, said.num_tokens)
        verdict = grade_expected(example.expected, said.text, example.question)
        assert (kept.verdict.correct, kept.verdict.gold) == (verdict.correct, verdict.gold)
        assert 0 < kept.thought_seconds <= kept.seconds or not kept.thought_tokens


def test_the_example_is_marked_as_recorded_and_small() -> None:
    example, shown = recorded_example(), recorded_html()
    assert "Recorded" in shown and example.on in shown and "Nothing here is computed now" in shown
    assert example.question.split("\n")[0][:20] in shown and len(shown) < 60_000
    assert f"{example.tuned.num_tokens:,} tokens" in shown and "<script" not in shown


@pytest.mark.parametrize(
    ("base", "training", "on_space", "words"),
    [
        (
            "me/base",
            {},
            True,
            ["Here me/base answers", "owner of this Space", "the Space's own a100-large", "Adapters"],
        ),
        ("me/base", {"trainer": "job", "job_hardware": "l4x1"}, True, ["as a Job on l4x1", "owner of this Space"]),
        ("starter", {}, False, ["Here the starter answers", "Whoever runs this app", "on this machine"]),
    ],
)
def test_what_is_missing_is_said_in_the_words_of_the_deployment(
    base: str, training: dict[str, Any], on_space: bool, words: list[str]
) -> None:
    said = missing_words(settings(base, **training), on_space)
    assert all(word.lower() in said.lower() for word in words), said
    assert "make " not in missing_html(SimpleNamespace(settings=settings(base, **training)))  # type: ignore[arg-type]


def test_what_is_kept_of_visitors_stands_on_the_page() -> None:
    own = settings("me/base")
    said = privacy_html(own, True)
    for words in ("60 minutes after it came", "5 minutes later", f"{MAX_KEYS:,} visitors", "a name for you that is"):
        assert words in said
    changed = own.privacy.model_copy(update={"keep_pictures_minutes": 5, "log_questions": False})
    quiet = privacy_html(own.model_copy(update={"privacy": changed}), False)
    assert "They are never written to a disk" in quiet and "Answers that you share" not in quiet
    sharing = own.sharing.model_copy(update={"allowed": True, "days": 9})
    shared = privacy_html(own.model_copy(update={"sharing": sharing}), False)
    assert "to a disk only if you share" in shared and "for at most 9 days" in shared
    assert "deleted 5 minutes after" in quiet and "The log has no line about visitors." in quiet
