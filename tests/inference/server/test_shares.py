"""Shared answers: what is signed, kept, refused, deleted and swept."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.common.errors import UserError
from inference.common.space_file import SharingSection
from inference.server.shares import MAX_RECORD_CHARS, SHARES_PER_HOUR, SharedAnswer, Shares
from tests.support.samples import problems
from tests.support.shared_answers import answer_about, noise, shared

MANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sharing(home: Path, **values: Any) -> Shares:
    return Shares(home, SharingSection.model_validate({"allowed": True} | values))


@pytest.fixture
def shares(tmp_path: Path) -> Shares:
    return sharing(tmp_path)


def left(shares: Shares) -> list[str]:
    """The names in the folder, besides its lock."""
    names = (path.name for path in shares.folder.iterdir()) if shares.folder.is_dir() else ()
    return sorted(name for name in names if name != ".lock")


def test_what_was_shared_is_read_until_its_visitor_deletes_it(shares: Shares) -> None:
    images = [problems(1, seed=3)[0].image, noise(400)]
    answer = answer_about(images)
    share_id, key = shares.save(shares.sign(answer), images)
    share = sharing(shares.folder.parent).read(share_id)  # another process of this home, or one after a restart
    assert share.answer == answer and key not in (shares.folder / share_id / "share.json").read_text()
    drawn, photographed = (Image.open(io.BytesIO(data)) for data in shares.pictures(share_id, share))
    assert (drawn.format, photographed.format) == ("PNG", "JPEG"), "exact unless that takes much"
    assert drawn.convert("RGB").tobytes() == images[0].tobytes() and photographed.size == (400, 400)
    for wrong in ("", key + "x", key[:-1], None, 7, "\ud800"):
        with pytest.raises(UserError, match="Only the browser"):
            shares.delete(share_id, wrong)
    shares.delete(share_id, key)
    assert left(shares) == []
    for again in (lambda: shares.read(share_id), lambda: shares.delete(share_id, key)):
        with pytest.raises(UserError, match="no shared answer"):
            again()


@pytest.mark.parametrize(
    "share_id",
    [
        "",
        ".",
        "..",
        ".lock",
        "../shares",
        "a" * 31,
        "a" * 33,
        "a" * 31 + "/",
        "a" * 32 + "\n",
        "é" * 32,
        "\x00",
        None,
        3,
        [],
    ],
)
def test_nothing_else_is_an_id(shares: Shares, share_id: object) -> None:
    kept, _ = shared(shares)
    for refused in (lambda: shares.read(share_id), lambda: shares.delete_as_owner(share_id)):
        with pytest.raises(UserError, match="no shared answer"):
            refused()
    assert left(shares) == [kept]


@MANY
@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_no_text_leads_out_of_the_folder(shares: Shares, text: str) -> None:
    folder = shares._folder_of(text)
    assert folder is None or folder.resolve().parent == shares.folder.resolve()


@MANY
@given(st.data())
def test_a_record_with_any_change_is_refused(shares: Shares, data: st.DataObject) -> None:
    image = noise()
    record = shares.sign(answer_about([image]))
    at = data.draw(st.integers(0, len(record) - 1))
    changed = record[:at] + data.draw(st.text(st.characters(exclude_categories=[]), max_size=3)) + record[at + 1 :]
    if changed != record:
        with pytest.raises(UserError, match="cannot be shared"):
            shares.save(changed, [image])
    assert left(shares) == []


@pytest.mark.parametrize("record", ["", None, 7, "x" * 64, "0" * 64 + "{}", ["x"], "x" * (MAX_RECORD_CHARS + 65)])
def test_what_is_no_record_is_refused(shares: Shares, record: object) -> None:
    with pytest.raises(UserError, match="cannot be shared"):
        shares.save(record, [noise()])


def test_a_record_of_another_process_or_other_pictures_is_refused(shares: Shares, tmp_path: Path) -> None:
    one, two = noise(), noise()
    record = shares.sign(answer_about([one, two]))
    with pytest.raises(UserError, match="started anew"):
        sharing(tmp_path).save(record, [one, two])
    for images in ([], [one], [two, one], [one, one], [one, two, two]):
        with pytest.raises(UserError, match="not those of this answer"):
            shares.save(record, images)
    assert left(shares) == []
    shares.save(record, [one, two])


def test_an_answer_that_is_too_long_is_not_signed(shares: Shares) -> None:
    assert shares.sign(answer_about([], text="x" * MAX_RECORD_CHARS)) == ""


@MANY
@given(st.text(max_size=40), st.text(max_size=40))
def test_signed_words_come_back_as_they_are(shares: Shares, question: str, text: str) -> None:
    answer = answer_about([], question, text)
    assert shares._verified(shares.sign(answer)) == answer


def test_off_nothing_is_signed_kept_or_read_and_the_owner_still_deletes(shares: Shares, tmp_path: Path) -> None:
    share_id, _ = shared(shares)
    off = sharing(tmp_path, allowed=False)
    assert not SharingSection.model_validate({}).allowed and off.sign(answer_about([])) == ""
    for refused in (lambda: off.read(share_id), lambda: off.save(shares.sign(answer_about([])), [])):
        with pytest.raises(UserError, match=r"sharing\.allowed"):
            refused()
    assert [name for name, _ in off.newest()] == [share_id]
    off.delete_as_owner(share_id)
    assert left(off) == []


def test_a_full_folder_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    shares = sharing(tmp_path, megabytes=1)
    kept = [shared(shares, noise(900))[0]]
    with pytest.raises(UserError, match=r"take 0\.\d MB of 1 MB, and this one needs 0\.\d MB"):
        while True:
            kept.append(shared(shares, noise(900))[0])
    assert left(shares) == sorted(kept) and shares.num_bytes() <= 1e6


def test_a_visitor_shares_so_many_in_an_hour(shares: Shares) -> None:
    for _ in range(SHARES_PER_HOUR):
        shared(shares, visitor="one")
    with pytest.raises(UserError, match=f"{SHARES_PER_HOUR} answers in an hour"):
        shared(shares, visitor="one")
    shared(shares, visitor="two")


def test_the_sweep_deletes_what_is_over_and_what_was_left_half_made(tmp_path: Path) -> None:
    shares = sharing(tmp_path, days=2)
    young, old = shared(shares, days_ago=1.9)[0], shared(shares, days_ago=2.1)[0]
    with pytest.raises(UserError, match="its days are over"):
        shares.read(old)
    half, damaged, fresh = (shares.folder / name for name in (".new-" + "a" * 32, "b" * 32, ".new-" + "c" * 32))
    for folder in (half, damaged, fresh):
        folder.mkdir()
    (damaged / "share.json").write_text("{")
    for folder in (half, damaged):
        os.utime(folder, (0, 0))
    sharing(tmp_path, days=2, allowed=False).sweep()
    assert left(shares) == sorted([young, fresh.name])


def test_a_home_without_shares_is_left_as_it_is(shares: Shares) -> None:
    shares.sweep()
    assert list(shares.newest()) == [] and shares.num_bytes() == 0 and not shares.folder.exists()


@pytest.mark.parametrize("change", [{"created": "x"}, {"answer": 3}, {"files": ["../../secret"]}, {"more": 1}])
def test_a_file_that_was_edited_leads_nowhere(shares: Shares, change: dict[str, Any]) -> None:
    share_id, _ = shared(shares)
    (shares.folder.parent / "secret").write_text("words")
    file = shares.folder / share_id / "share.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="no shared answer"):
        shares.pictures(share_id, shares.read(share_id))


def test_a_disk_that_refuses_is_said_and_leaves_nothing(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inference.server.shares.write_json", full)
    with pytest.raises(UserError, match="No space left"):
        shared(shares)
    assert left(shares) == []


def test_every_figure_of_an_answer_is_signed(shares: Shares) -> None:
    """Each field by itself changes the record."""
    answer = answer_about([noise()])
    for name in SharedAnswer.model_fields:
        other = answer.model_copy(update={name: "other" if name != "pictures" else ()})
        assert shares.sign(other)[:64] != shares.sign(answer)[:64], name
