"""Keeps the rule of floors, the rooms of the heavy libraries, and the pinned requirements."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

PRODUCT = sorted([*ROOT.glob("*.py"), *(ROOT / "inference").rglob("*.py"), *(ROOT / "training").rglob("*.py")])
ROOMS_OF = {
    "gradio": ("app", "inference.ui", "training.ui"),
    "gradio_client": ("app", "inference.ui", "training.ui"),
    "trl": ("training.grpo",),
    "huggingface_hub": (
        "inference.adapters.hub_fetch",
        "inference.common.hub_errors",
        "training.admin.hub_identity",
        "training.data.hub_source",
        "training.doctor",
        "training.hub",
        "training.launch.jobs",
    ),
    "spaces": ("inference.server.zero_gpu",),
    "app": (),
    "tests": (),
}
"""The rooms, or modules, that alone may import a package."""
WITHOUT_TORCH = (
    "inference.common",
    "inference.prompt",
    "training.admin",
    "training.audit",
    "training.cli.audit",
    "training.config",
    "training.data",
    "training.grading",
    "training.runs.store",
)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def packages_of(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def is_in(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def test_the_rule_of_floors() -> None:
    """Layers, every room on a floor, and no circles: the contracts stand in pyproject.toml."""
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("floors", "broken"), [("data | runs", True), ("runs", False)])
def test_the_rule_of_floors_can_fail(tmp_path: Path, floors: str, broken: bool) -> None:
    """A room on the wrong floor, or on none, is found."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = settings.replace('    "runs",\n    "data",\n', f'    "{floors}",\n' + ("" if broken else '    "data",\n'))
    assert (changed != settings) is broken
    (tmp_path / "pyproject.toml").write_text(changed, encoding="utf-8")
    lint = Path(sys.executable).with_name("lint-imports")
    command = [lint, "--no-cache", "--config", tmp_path / "pyproject.toml"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode != 0) is broken, result.stdout


@pytest.mark.parametrize("package", ROOMS_OF)
def test_a_package_stays_in_its_rooms(package: str) -> None:
    users = [module_of(path) for path in PRODUCT if package in packages_of(path)]
    assert [module for module in users if not is_in(module, ROOMS_OF[package])] == []


def test_a_user_of_each_heavy_library_is_found() -> None:
    """The walk sees imports, those inside functions too."""
    used = set().union(*map(packages_of, PRODUCT))
    assert {"gradio", "trl", "huggingface_hub", "torch"} <= used


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_light_room_loads_no_torch(room: str) -> None:
    """Asked of `sys.modules` in an interpreter of its own, so that what a module imports in turn counts too."""
    modules = [module for path in PRODUCT if is_in(module := module_of(path), (room,))]
    assert modules
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


@pytest.mark.parametrize("entry", ["app", "training.__main__", "training.launch.worker", "training.launch.jobs.worker"])
def test_no_telemetry_is_sent(entry: str) -> None:
    """Whatever is started, the libraries that report their use find it turned off when they are imported."""
    names = ("HF_HUB_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE", "DO_NOT_TRACK")
    env = {name: value for name, value in os.environ.items() if name not in names}
    code = (
        f"import {entry}, os; from huggingface_hub import constants; "
        "assert constants.HF_HUB_DISABLE_TELEMETRY and os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False'"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, timeout=120).returncode == 0


def test_the_completion_format_needs_the_standard_library_only() -> None:
    assert packages_of(ROOT / "inference" / "prompt" / "format.py") <= sys.stdlib_module_names


def test_requirements_are_pinned_and_all_of_them_used() -> None:
    """Every direct dependency has an exact version, and something imports it."""
    import_names = {
        "huggingface-hub": "huggingface_hub",
        "markdown-it-py": "markdown_it",
        "pillow": "PIL",
        "pyyaml": "yaml",
    }
    indirect = {
        "accelerate": "transformers' Trainer asks for it",
        "huggingface-hub": "transformers, datasets and peft load through it; pinned so that they agree",
        "latex2sympy2-extended": "math-verify parses with it; pinned so that verdicts do not change",
        "tensorboard": "transformers' Trainer writes live figures through it",
        "torchvision": "the processor of Qwen2.5-VL needs it",
    }
    used = set().union(*map(packages_of, PRODUCT)) - {"_typeshed"}  # for type checkers only
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    assert wanted and all("==" in line for line in wanted)
    names = [line.split("==")[0].split("[")[0].strip().lower() for line in wanted]
    unused = [n for n in names if n not in indirect and import_names.get(n, n.replace("-", "_")) not in used]
    assert unused == []
    ours = {
        "inference",
        "training",
        "app",
        "gradio_client",
        "spaces",
    }  # gradio and the Hub's builder bring the last two
    provided = {import_names.get(n, n.replace("-", "_")) for n in names}
    assert used - ours - provided - set(sys.stdlib_module_names) == set()


def test_no_folder_is_crowded() -> None:
    """At most 14 files in a folder."""
    for folder in {path.parent for path in PRODUCT}:
        assert len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= 14, folder


def test_no_docstring_is_a_question() -> None:
    """A docstring of a module, class or function begins with a noun or a verb; every module has one."""
    questions = []
    for path in PRODUCT:
        module = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(module) or not module_of(path), path
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = re.match(r"\w*", ast.get_docstring(node) or "")
                if first and first[0] in ("Who", "What", "How", "Which", "Where", "When", "Whether"):
                    questions.append((module_of(path), getattr(node, "name", "")))
    assert questions == []


def test_the_doors_of_a_room_exist() -> None:
    """Every name that an `__init__.py` gives as a door is a module or a definition of the project."""
    names = {part for path in PRODUCT for part in module_of(path).split(".")}
    for path in PRODUCT:
        definitions = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if hasattr(n, "name")]
        names.update(str(node.name) for node in definitions)
    for path in PRODUCT:
        if path.name == "__init__.py":
            _, _, doors = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("Door")
            words = re.findall(r"`([a-z_A-Z.]+)`", re.sub(r"`\w+\.jsonl?`", "", doors))
            missing = [word for word in words if not set(word.split(".")) <= names]
            assert not missing, (module_of(path), missing)
