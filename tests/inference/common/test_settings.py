"""Settings: what is served where, and mistakes that name key, value and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.settings import SPACE_YAML, STARTER, Limits, Settings, load_settings
from tests import ROOT

HUB = "Qwen/Qwen2.5-VL-3B-Instruct"


@pytest.fixture
def space(tmp_path: Path):
    """Writes a `space.yaml` and reads the settings from it."""

    def read(text: str, has_gpu: bool = False, **env: str) -> Settings:
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return load_settings(path, env, has_gpu=has_gpu)

    return read


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_the_repository_names_the_3b_base_for_a_gpu() -> None:
    settings = load_settings(env={}, has_gpu=True)
    assert (settings.base, settings.is_starter, settings.adapter) == (HUB, False, None)
    assert "has a GPU" in settings.base_reason


def test_without_a_gpu_the_starter_answers_and_the_reason_says_why() -> None:
    settings = load_settings(env={}, has_gpu=False)
    assert settings.is_starter and Path(settings.base) == STARTER
    assert HUB in settings.base_reason and "starter" in settings.base_reason


def test_the_limits_of_the_repository_are_the_defaults() -> None:
    assert load_settings(env={}).limits == Limits.model_validate({})


def test_the_starter_brings_its_adapter(space) -> None:
    expected = str(STARTER / "adapter") if (STARTER / "adapter").is_dir() else None
    assert space("model: {base: starter}").adapter == expected


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_variable_overrides_the_base(space, model_folder: Path, has_gpu: bool) -> None:
    for value, base in (("starter", str(STARTER)), (str(model_folder), str(model_folder)), ("a/b", "a/b")):
        settings = space(f"model: {{base: {HUB}}}", has_gpu, LOOKTHINK_BASE=value)
        assert settings.base == base and "LOOKTHINK_BASE" in settings.base_reason


def test_an_empty_variable_counts_as_unset(space) -> None:
    assert space(f"model: {{base: {HUB}}}", True, LOOKTHINK_BASE=" ", LOOKTHINK_HOME="").base == HUB


def test_an_adapter_goes_with_its_base_only(space, tmp_path: Path) -> None:
    text = f"model: {{base: {HUB}, adapter: {tmp_path}}}"
    assert space(text, has_gpu=True).adapter == str(tmp_path)
    assert space(text, has_gpu=False).adapter != str(tmp_path)  # the starter answers: another base
    assert space(text, has_gpu=True, LOOKTHINK_BASE="other/base").adapter is None
    assert space(text, has_gpu=False, LOOKTHINK_ADAPTER="owner/adapter").adapter == "owner/adapter"


NOBODY = ["unshare", "--user", "--map-user=54321", "--map-group=54321", "env", "-i", "PATH=/usr/bin:/bin"]
"""A container's user, whom the machine does not know, without HOME."""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ([], "Set LOOKTHINK_HOME to a folder"),
        (["LOOKTHINK_HOME=/tmp/x", "LOOKTHINK_STATE=~/state"], "Set LOOKTHINK_STATE to a folder"),
        (["LOOKTHINK_HOME=/tmp/x"], ""),
        (["HOME=/tmp/x"], ""),
    ],
)
def test_a_user_without_a_home_is_told(variables: list[str], words: str) -> None:
    if subprocess.run([*NOBODY, "true"], capture_output=True).returncode:
        pytest.skip("this machine makes no user namespaces")
    code = """
from inference.common.errors import UserError
from inference.common.settings import load_settings
try:
    load_settings(has_gpu=False)
except UserError as error:
    print(error)
"""
    ran = subprocess.run([*NOBODY, *variables, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert words in ran.stdout and ("HOME is not set" in ran.stdout) is bool(words)


def test_home(space, tmp_path: Path) -> None:
    assert space("model: {base: starter}").home == Path.home() / ".cache" / "lookthink"
    assert space("model: {base: starter}", LOOKTHINK_HOME=str(tmp_path / "new")).home == tmp_path / "new"


@pytest.mark.parametrize(
    ("text", "env", "names"),
    [
        ("", {}, ["space.yaml"]),
        ("- a\n- b", {}, ["space.yaml"]),
        ("model: [", {}, ["space.yaml", "not YAML"]),
        ("limits: {}", {}, ["space.yaml", "model"]),
        ("model: {adapter: null}", {}, ["model.base"]),
        ("model: {base: starter, basis: x}", {}, ["model.basis", "'x'"]),
        ("modle: {base: starter}", {}, ["space.yaml"]),
        ("model: {base: starter}\nlimits: {max_pixels: -1}", {}, ["limits.max_pixels", "-1"]),
        ("model: {base: starter}\nlimits: {max_side: wide}", {}, ["limits.max_side", "'wide'"]),
        ("model: {base: starter}\nlimits: {default_new_tokens: 2000}", {}, ["limits", "2000", "1024"]),
        ("model: {base: no such thing}", {}, ["model.base", "'no such thing'", "owner/name"]),
        ("model: {base: starter, adapter: nowhere}", {}, ["model.adapter", "'nowhere'"]),
        ("model: {base: starter}", {"LOOKTHINK_BASE": "/no/such/folder"}, ["LOOKTHINK_BASE", "/no/such/folder"]),
        ("model: {base: starter}", {"LOOKTHINK_ADAPTER": "nowhere"}, ["LOOKTHINK_ADAPTER", "nowhere"]),
        ("model: {base: starter}", {"LOOKTHINK_HOME": str(SPACE_YAML)}, ["LOOKTHINK_HOME", "file"]),
        ("model: {base: starter}", {"LOOKTHINK_BASE": str(SPACE_YAML.parent)}, ["LOOKTHINK_BASE", "config.json"]),
    ],
)
def test_a_mistake_is_named(space, text: str, env: dict[str, str], names: list[str]) -> None:
    with pytest.raises(UserError) as error:
        space(text, **env)
    for name in names:
        assert name in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.yaml is missing"):
        load_settings(tmp_path / "nowhere.yaml", {})
