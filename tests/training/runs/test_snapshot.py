"""What is seen of a run: only what is new is read, in bounded memory, and nothing a folder holds breaks it."""

import json

import pytest

from inference.common.files import append_line
from training.config.run_config import load_config
from training.runs.folder import RunFolder
from training.runs.outcome import ESTIMATE, OUTPUT
from training.runs.record import RunRecord
from training.runs.snapshot import CURVES, MAX_GROUPS, MAX_POINTS, RunWatch
from training.runs.store import RunStore

CONFIG = load_config("starter", {"max_steps": 100})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


@pytest.fixture
def record(folder) -> RunRecord:
    return RunRecord(id="run", folder=folder.path, config=CONFIG.model_dump_json(), status="running", hours=0.5)


def step(folder: RunFolder, number: int, **values) -> None:
    append_line(folder.metrics, {"step": number, "reward": number / 10, "step_time": 3.0, **values})


def group(number: int, image: str | None = None) -> dict:
    completion = {"text": "<think>", "rewards": {"format_reward": 0.0}, "advantage": 0.1, "reasons": {}}
    return {"step": number, "prompt": "How many?", "image": image, "completions": [completion] * 4}


def test_a_run_is_seen_as_it_grows(folder, record) -> None:
    watch = RunWatch(folder.path)
    empty = watch.look(record)
    assert (empty.step, empty.curves, empty.groups, empty.seconds_left) == (0, {}, [], None)
    folder.set_status("running", "training")
    for number in (1, 2):
        step(folder, number, loss=0.5)
    (folder.path / OUTPUT).write_text("loading\n")
    seen = watch.look(record)
    assert (seen.status, seen.stage, seen.step, seen.max_steps, seen.hours) == ("running", "training", 2, 100, 0.5)
    assert seen.curves == {"reward": [(1, 0.1), (2, 0.2)], "loss": [(1, 0.5), (2, 0.5)]}
    assert seen.seconds_left == 98 * 3.0 and seen.log == "loading"
    (folder.path / ESTIMATE).write_text(json.dumps({"step_seconds": 1.5, "evaluation_seconds": 60}))
    assert watch.look(record).seconds_left == 98 * 3.0 + 120  # its steps take twice as long as expected
    with folder.metrics.open("a") as file:
        file.write('{"step": 3, "reward"')
    assert watch.look(record).curves == seen.curves
    with folder.metrics.open("a") as file:
        file.write(": 0.7}\n")
    assert watch.look(record).curves["reward"][-1] == (3, 0.7)


def test_a_run_that_was_rewound_is_read_anew(folder, record) -> None:
    watch = RunWatch(folder.path)
    for number in range(1, 8):
        step(folder, number)
    assert len(watch.look(record).curves["reward"]) == 7
    folder.rewind(4)
    for number in range(5, 12):  # longer than before, so that its size tells nothing
        step(folder, number)
    assert [point[0] for point in watch.look(record).curves["reward"]] == list(range(1, 12))


def test_a_long_run_is_thinned_to_means(folder, record) -> None:
    num = 4 * MAX_POINTS
    with folder.metrics.open("a") as file:
        file.writelines(json.dumps({"step": n, "reward": 1.0 if n % 2 else 3.0}) + "\n" for n in range(1, num + 1))
    points = RunWatch(folder.path).look(record).curves["reward"]
    assert MAX_POINTS <= len(points) < 2 * MAX_POINTS
    assert all(value == 2.0 for _, value in points) and points[-1][0] > num - 4


def test_what_goes_wrong_is_said(folder, record) -> None:
    for number in range(1, 31):
        step(folder, number, **{CURVES["format"]: 0.0})
    assert [finding.name for finding in RunWatch(folder.path).look(record).findings] == ["format stuck"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "null",
        '{"step": "x"}',
        '{"step": NaN, "reward": 1}',
        "[" * 100_000,
        '{"reward": 1}',
        "x" * 3_000_000,
        "\udcff",
    ],
)
def test_a_line_edited_by_hand_is_passed_over(line: str, folder, record) -> None:
    step(folder, 1)
    with folder.metrics.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    step(folder, 2, loss="nan", **{CURVES["accuracy"]: float("inf"), CURVES["format"]: True})
    assert RunWatch(folder.path).look(record).curves == {"reward": [(1, 0.1), (2, 0.2)]}


def test_the_newest_groups_have_their_pictures_and_no_other_file(folder, record, tmp_path) -> None:
    (folder.images / "ab12.jpg").write_bytes(b"jpeg")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder.images / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    append_line(folder.rollouts, group(1, "ab12.jpg"))
    for image in ("ab12.jpg", "../../secret.jpg", "link.jpg", "/etc/passwd", None, "gone.jpg"):
        append_line(folder.rollouts, group(2, image))
    append_line(folder.rollouts, group(2, "ab12.jpg") | {"more_images": ["../../secret.jpg"]})
    append_line(folder.rollouts, {"step": 2, "prompt": 3, "completions": "none"})
    groups = RunWatch(folder.path).look(record).groups
    found = folder.images / "ab12.jpg"
    assert [g["images"] for g in groups] == [[found], [None], [None], [None], [], [None], [found, None]]
    assert all(g["step"] == 2 and len(g["completions"]) == 4 for g in groups)
    for _ in range(20):
        append_line(folder.rollouts, group(3))
    assert len(RunWatch(folder.path).look(record).groups) == MAX_GROUPS


@pytest.mark.parametrize("status", ["succeeded", "cancelled"])
def test_nothing_is_left_of_a_run_that_has_ended(status, folder, record) -> None:
    step(folder, 1)
    ended = RunRecord(id="run", folder=folder.path, config=record.config, status=status)
    seen = RunWatch(folder.path).look(ended)
    assert seen.seconds_left is None and seen.stage == ""


def test_the_folder_alone_is_enough(home, folder) -> None:
    asked = RunStore(home).submit(CONFIG, "me")
    assert RunWatch(asked.folder).look().status == "queued"
    folder.set_status("interrupted", "stopped", 1)
    assert (seen := RunWatch(folder.path).look()).status == "interrupted" and seen.reason == "stopped"
