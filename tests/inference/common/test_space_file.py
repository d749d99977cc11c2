"""space.yaml: mistakes name the line, the value and the remedy; names of hardware are those of the Hub's client."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.common.settings import load_settings
from inference.common.space_file import (
    COLORS,
    JOB_HARDWARE,
    SPACE_HARDWARE,
    SPACE_YAML,
    SpaceFile,
    has_gpu,
    read_space_file,
)

BASE = "model:\n  base: a/b\n"


@pytest.fixture
def read(tmp_path: Path):
    """Reads a `space.yaml` of this text."""

    def read_text(text: str) -> SpaceFile:
        path = tmp_path / "space.yaml"
        path.write_text(text, encoding="utf-8")
        return read_space_file(path)

    return read_text


def test_the_file_of_the_repository_says_every_default() -> None:
    file = read_space_file()
    assert file == SpaceFile.model_validate({"model": {"base": "Qwen/Qwen2.5-VL-3B-Instruct"}})
    assert (file.space.hardware, file.training.trainer, file.admin.oauth) == ("a100-large", "space", True)
    assert file.space.sleep_minutes > 0
    written = SPACE_YAML.read_text(encoding="utf-8")
    for section in (file.space, file.training, file.model, file.privacy, file.admin):
        for name in type(section).model_fields:
            assert f"\n  {name}: " in written


def test_the_hardware_is_that_of_the_client() -> None:
    from huggingface_hub import JobHardware, SpaceHardware

    assert set(SPACE_HARDWARE) == {hardware.value for hardware in SpaceHardware}
    assert set(JOB_HARDWARE) == {hardware.value for hardware in JobHardware}
    assert [name for name in JOB_HARDWARE if not has_gpu(name)] == [
        "cpu-basic",
        "cpu-upgrade",
        "cpu-performance",
        "cpu-xl",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (BASE + "space:\n  hardwear: t4-small", ["line 4", "space.hardwear", "hardware", "'t4-small'"]),
        (BASE + "space:\n  title: x\n  hardware: a100", ["line 5", "'a100'", "did you mean a100-large", "l4x1"]),
        (BASE + "space:\n  hardware: h200", ["line 4", "hardware of a Space"]),
        (BASE + "training:\n  job_hardware: h100", ["line 4", "training.job_hardware", "h200"]),
        (BASE + "training:\n  trainer: jobs", ["line 4", "'jobs'", "'space' or 'job'"]),
        (BASE + f"space:\n  short_description: {'x' * 61}", ["line 4", "60"]),
        (BASE + "space:\n  color_to: teal", ["line 4", "teal", "indigo"]),
        (BASE + "space:\n  emoji: eye", ["line 4", "eye"]),
        (BASE + "space:\n  sleep_minutes: -5", ["line 4", "-5", "0"]),
        (BASE + "training:\n  bucket: mine", ["line 4", "'mine'", "owner/name"]),
        (BASE + "training:\n  publish_to: a/b/c", ["line 4", "'a/b/c'", "owner/name"]),
        (BASE + "training:\n  publish_every_minutes: 0", ["line 4", "publish_every_minutes", "1"]),
        (BASE + "training:\n  publish_to: null\n  x: 1\n", ["line 5", "training.x"]),
        (BASE + "training:\n  publish_public: true\n", ["line 4", "publish_to"]),
        (BASE + "training:\n  publish_to: null\n  publish_public: true\n", ["lines 4 and 5", "publish_to"]),
        (BASE + "space:\n  hardware: cpu-basic\n", ["line 4", "no GPU", "training.trainer", "a/b"]),
        (
            BASE + "space: {hardware: cpu-basic}\ntraining:\n  trainer: job\n  job_hardware: cpu-xl",
            ["lines 5 and 6", "cpu-xl", "no GPU"],
        ),
        (BASE + "limits:\n  max_new_tokens: 10\n", ["line 4", "512", "10"]),
        (BASE + "admin:\n  oauth: sometimes\n", ["line 4", "sometimes"]),
        (BASE + "model:\n  base: c/d\n", ["line 3", "model is there twice", "line 1"]),
        ("model:\n  base: a/b\n  base: c/d\n", ["line 3", "model.base is there twice", "line 2"]),
        ("space:\n  title: x\nmodel:\n  adapter: null\n", ["line 3", "model.base is missing"]),
        ("model: a/b\n", ["line 1", "model"]),
        (BASE + "spaces: {}\n", ["line 3", "spaces", "space"]),
        (BASE + "admin:\n", ["line 3", "admin", "below it"]),
        (BASE + "training:\n  publish_to: me/a--b", ["line 4", "'me/a--b'", "owner/name"]),
        (BASE + "training:\n  publish_to: me/a.git", ["line 4", "owner/name"]),
        (BASE + f"training:\n  bucket: me/{'x' * 94}", ["line 4", "at most 96"]),
        (BASE + 'training:\n  dataset: "a\\nb"', ["line 4", "dataset", "line of text"]),
        (BASE + 'space:\n  title: " "', ["line 4", "title"]),
        (BASE + "space:\n  emoji: 日本", ["line 4", "not an emoji"]),
        (BASE + "space:\n  hаrdware: t4-small", ["line 4", "is not a setting", "hardware"]),
        (BASE + "space:\n  hardware: а100-large", ["line 4", "did you mean a100-large"]),
        (BASE + "limits:\n  max_question_chars: 99999999999999999999", ["line 4", "1000000"]),
        ("model:\n  base: starter\nspace:\n  hardware: zero-a10g", ["line 4", "for seconds", "trainer to job"]),
    ],
)
def test_a_mistake_names_line_value_and_remedy(read, text: str, names: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(text)
    for name in ["space.yaml", *names]:
        assert name in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        BASE + "space: {hardware: cpu-basic}\ntraining: {trainer: job}",
        BASE + "space: {hardware: zero-a10g}\ntraining: {trainer: job}",
        BASE + "space: {hardware: t4-small}\ntraining: {job_hardware: cpu-basic}",
        "model: {base: starter}\nspace: {hardware: cpu-basic}",
        BASE + "training: {publish_to: me/adapter, publish_public: true, bucket: me/runs}",
    ],
)
def test_these_go_together(read, text: str) -> None:
    read(text)


SLEEP = BASE + "space:\n  sleep_minutes: "


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (SLEEP + "030", ["line 4", "030", "plain figures"]),
        (SLEEP + "1:30", ["line 4", "1:30", "plain figures"]),
        (SLEEP + "1" * 5000, ["line 4", "plain figures"]),
        (SLEEP + "true", ["line 4", "integer"]),
        (SLEEP + '"30"', ["line 4", "integer"]),
        (BASE + "limits:\n  uploads_mb_per_hour: .inf", ["line 4", "plain figures"]),
        (BASE + "admin:\n  oauth: 1", ["line 4", "boolean"]),
        (BASE + "space:\n  title: 2024-02-31", ["line 4", "2024-02-31", "quotes"]),
        (BASE + 'space:\n  title: !!int "x"', ["line 4", "plain figures"]),
        (BASE + "space:\n\ttitle: x", ["line 4", "spaces, not with tabs"]),
        (BASE + "space:\n  title: !!python/object/apply:os.system [x]", ["line 4", "not YAML"]),
        ("model: &a\n  base: a/b\n  more: *a\n", ["line 3", "*a stands for another part"]),
        ("model: " + "[" * 3000 + "]" * 3000, ["line 1", "nested"]),
        (BASE + "---\nmodel: {}\n", ["line 3", "not YAML"]),
        (BASE + "\0", ["not YAML"]),
        ("", ["write its settings below it"]),
    ],
)
def test_what_yaml_reads_otherwise_than_people_do_is_refused(read, text: str, names: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(text)
    for name in ["space.yaml", *names]:
        assert name in str(error.value)
    assert "\n" not in str(error.value)


@given(st.sampled_from(sorted(set(SpaceFile.model_fields) - {"model"})), st.text("abcdefgh_", min_size=1), st.data())
def test_an_unknown_key_is_named_wherever_it_stands(tmp_path_factory, section: str, key: str, data) -> None:
    known = SpaceFile.model_fields[section].annotation.model_fields
    if key in known:
        return
    blank = data.draw(st.integers(0, 5))
    path = tmp_path_factory.getbasetemp() / "unknown.yaml"
    path.write_text(f"{BASE}{'# a comment' + chr(10) if blank else ''}{chr(10) * blank}{section}:\n  {key}: 1\n")
    with pytest.raises(UserError, match=rf"line {4 + blank + bool(blank)}: {section}\.{key} is not a setting"):
        read_space_file(path)


def test_the_settings_have_the_sections_and_the_bucket_that_deploy_made(tmp_path: Path) -> None:
    settings = load_settings(env={"LOOKTHINK_STATE": str(tmp_path), "LOOKTHINK_BUCKET": "me/runs"}, has_gpu=False)
    assert (settings.state, settings.training.bucket) == (tmp_path, "me/runs")
    assert settings.space.color_from in COLORS
    assert load_settings(env={}, has_gpu=False).state is None
    with pytest.raises(UserError, match="LOOKTHINK_BUCKET.*owner/name"):
        load_settings(env={"LOOKTHINK_BUCKET": "runs"}, has_gpu=False)


def test_an_adapter_of_the_hub_has_a_revision(tmp_path: Path) -> None:
    for named, is_right in (
        ("a/b", True),
        ("a/b@main", True),
        ("a/b@refs/pr/3", True),
        ("a/b@", False),
        ("b@x", False),
    ):
        env = {"LOOKTHINK_ADAPTER": named}
        if is_right:
            assert load_settings(env=env, has_gpu=False).adapter == named
        else:
            with pytest.raises(UserError, match="owner/name@revision"):
                load_settings(env=env, has_gpu=False)
