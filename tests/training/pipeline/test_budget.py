"""A run's hours are counted over all its starts, and it stops before they are exceeded."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.common.files import append_line
from training.pipeline import budget
from training.pipeline.budget import Budget


@pytest.fixture(scope="module")
def clock():
    """The clock that budgets look at, set by the test."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        def time(self) -> float:
            return self.now

    patch = pytest.MonkeyPatch()
    found = Clock()
    patch.setattr(budget, "time", found)
    yield found
    patch.undo()


def test_without_a_budget_the_hours_are_counted_all_the_same(clock, tmp_path: Path) -> None:
    first = Budget(tmp_path, None)
    clock.now += 50
    first.loaded()
    clock.now += 10
    first.step_done()
    assert (
        not first.is_over() and first.spent == 60 and first.needed() == 20
    )  # a checkpoint is taken for as long as a step
    second = Budget(tmp_path, None)
    clock.now += 5
    assert second.spent == 65 and second.needed() == 20
    assert second.needed(is_saving=True) == 30 and second.needed(is_starting=True) == 70
    second.record()
    assert [start["seconds"] for start in json.loads((tmp_path / "hours.json").read_text())["starts"]] == [60, 5]


def test_what_is_said(clock, tmp_path: Path) -> None:
    found = Budget(tmp_path, 2)
    clock.now += 7100
    found.loaded()
    for seconds, done in ((60, found.step_done), (40, found.save_done)):
        clock.now += seconds
        done()
    assert found.is_over()
    said = found.reason(12, Path("runs/first"))
    assert said.startswith("the budget of 2 hours (max_hours) is used up: 2 are spent at step 12") and "100 s" in said
    assert said.endswith("raise max_hours and go on with --resume runs/first")
    assert "the budget of 1 hour (" in Budget(tmp_path, 1).reason(1, Path("x"))


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        *((text, 0.5) for text in ("{", "[]", "[" * 50_000, "\xff", '{"starts": 3}', '{"starts": [1]}')),
        ('{"starts": [{"seconds": 1000}, {"seconds": "x"}, {"time": 1}, null]}', 0.5),
        ('{"starts": [{"seconds": 7200}, {"seconds": NaN}]}', 2.0),
        *((f'{{"starts": [{{"seconds": 7200}}], "{name}": "x"}}', 2.0) for name in ("save_seconds", "load_seconds")),
        ('{"starts": [{"seconds": 7200}], "recent_step_seconds": ["x", null, 3]}', 2.0),
    ],
)
def test_a_damaged_count_is_at_least_the_times_of_the_steps(text: str, hours: float, clock, tmp_path: Path) -> None:
    """The run goes on, and its budget is not begun anew."""
    (tmp_path / "hours.json").write_bytes(text.encode("latin-1"))
    for step in range(1, 19):
        append_line(tmp_path / "metrics.jsonl", {"step": step, "step_time": 100.0 if step != 7 else "x"})
    append_line(tmp_path / "metrics.jsonl", {"step": 7, "step_time": 100.0})
    found = Budget(tmp_path, 1)
    assert found.spent == pytest.approx(3600 * hours)
    assert found.is_over() is (hours > 1)
    found.record()
    assert Budget(tmp_path, 1).spent == pytest.approx(3600 * hours)


durations = st.floats(0.1, 100)


@settings(max_examples=30)  # each writes to the disk at every step
@given(
    load=durations,
    step=durations,
    save=durations,
    num_steps=st.floats(1, 40),
    save_every=st.integers(1, 9),
    killed_after=st.integers(1, 30),
)
def test_it_is_never_exceeded_once_a_step_and_a_checkpoint_are_measured(
    clock, load: float, step: float, save: float, num_steps: float, save_every: int, killed_after: int
) -> None:
    """Steps of one length, checkpoints of one length, a kill, and a resume: the end is within the budget."""
    hours = (2 * load + num_steps * step + 2 * save) / 3600
    with TemporaryDirectory() as folder:
        num_saves = 0
        for limit in (killed_after, 100):
            found = Budget(Path(folder), hours)
            if found.is_over(is_starting=True):
                return
            clock.now += load
            found.loaded()
            for done in range(1, limit + 1):
                clock.now += step
                found.step_done()
                is_saving = done % save_every == 0
                is_over = found.is_over(is_saving=is_saving)
                if is_over or is_saving:
                    clock.now += save
                    found.save_done()
                    num_saves += 1
                    is_over = is_over or found.is_over()
                if is_over:
                    assert num_saves == 1 or found.spent <= 3600 * hours + 1e-6
                    if num_saves > 1:  # before, a checkpoint was taken to last as long as a step
                        assert Budget(Path(folder), hours - 1e-6).is_over(is_starting=True), "a resume ends at once"
                    raised = hours + (load + 2 * step + 2 * save) / 3600
                    assert not Budget(Path(folder), raised).is_over(is_starting=True)
                    return
        pytest.fail("the budget never ended it")
