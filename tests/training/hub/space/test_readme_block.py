"""README.md's block is that of space.yaml, and the Hub takes it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

from inference.common.errors import UserError
from inference.common.space_file import SpaceFile
from tests.support.hub.client import Client
from training.hub.space import readme_block
from training.hub.space.readme_block import ROOT

FILES = ("README.md", "space.yaml", "requirements.txt")
PINS = "a==1\ngradio[oauth]==6.31.0\nb==2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the block is made from."""
    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_the_block_is_that_of_space_yaml() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme_block.expected_readme(), "run make space"


def test_sdk_version_is_the_gradio_that_is_pinned_and_installed() -> None:
    card = SpaceCard.load(ROOT / "README.md").data.to_dict()
    pinned = readme_block.gradio_version((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert card["sdk_version"] == pinned == version("gradio")
    assert (card["hf_oauth"], card["suggested_hardware"]) == (True, "a100-large")


def test_the_hub_takes_it(hub_client: Client) -> None:
    card = SpaceCard.load(ROOT / "README.md")
    card.validate()
    card.data.short_description = "x" * 61
    with pytest.raises(ValueError, match="60 characters"):
        card.validate()


def test_a_change_of_space_yaml_is_written_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = folder / "README.md"
    before = readme.read_text(encoding="utf-8")
    space = folder / "space.yaml"
    space.write_text(space.read_text(encoding="utf-8").replace("title: LookThink", "title: 'Mine: yes'"))
    assert readme_block.main(folder) == readme_block.main(folder) == 0
    after = readme.read_text(encoding="utf-8")
    assert SpaceCard(after).data.title == "Mine: yes"
    assert after.split("\n---\n", 1)[1] == before.split("\n---\n", 1)[1]
    said = capsys.readouterr().out.splitlines()
    assert "new block" in said[0] and "is right" in said[1]
    space.write_text("model: {base: a/b}\nspace: {hardware: zero-a10g}\ntraining: {trainer: job}")
    assert readme_block.main(folder) == 0
    card = SpaceCard.load(readme).data
    assert (card.python_version, card.suggested_hardware) == ("3.12.12", "zero-a10g"), "a Python that ZeroGPU offers"
    space.write_text("model: {}")
    capsys.readouterr()
    assert readme_block.main(folder) == 2 and "line 1" in capsys.readouterr().err


def test_what_a_deployment_does_not_have_is_left_out() -> None:
    asked = {"model": {"base": "starter"}, "training": {"dataset": "my/own/folder"}, "admin": {"oauth": False}}
    block = readme_block.front_matter(SpaceFile.model_validate(asked), PINS)
    assert not {"models", "datasets", "preload_from_hub", "hf_oauth_scopes"} & set(block)
    assert block["hf_oauth"] is False
    asked = {"model": {"base": "a/b", "adapter": "c/d@v1"}, "space": {"hardware": "cpu-basic"}}
    block = readme_block.front_matter(SpaceFile.model_validate(asked | {"training": {"trainer": "job"}}), PINS)
    assert block["models"] == ["a/b", "c/d"] and "preload_from_hub" not in block


@pytest.mark.parametrize("readme", ["# Title\n", "---\na: 1\n---\n\n# Title\n", "---\na: 1\n---\n# Title\n"])
def test_one_block_on_top_of_the_same_text(readme: str) -> None:
    assert readme_block.with_block(readme, {"b": "3.10"}) == "---\nb: '3.10'\n---\n\n# Title\n"


def test_what_cannot_be_made_is_said() -> None:
    with pytest.raises(UserError, match="gradio"):
        readme_block.gradio_version("gradio>=6\n")
    with pytest.raises(UserError, match="second one"):
        readme_block.with_block("---\na: 1\n", {})
