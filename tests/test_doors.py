"""Walks every import, also those inside functions, and keeps the doors between the rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = sorted([*ROOT.glob("*.py"), *(ROOT / "inference").rglob("*.py"), *(ROOT / "training").rglob("*.py")])
EVERYTHING = sorted([*PRODUCT, *(ROOT / "tests").rglob("*.py")])

WITHOUT_TORCH = ("format", "config", "data_config", "runs", "grading", "access")
"""Modules (of either side) that are used where torch is not wanted."""
TRL_PLACES = ("training/trainer.py",)
HUB_PLACES = (
    "inference/hub_adapters.py",
    "inference/hub_refusals.py",
    "training/deploy.py",
    "training/space/hub.py",
    "training/hub_identity.py",
    "training/hub_source.py",
    "training/state/hub.py",
    "training/hub_words.py",
    "training/jobs/order.py",
    "training/jobs/hub.py",
    "training/launcher.py",
    "training/space/prices.py",
    "training/space/tokens.py",
    "training/publishing/publisher.py",
    "training/publishing/send.py",
    "training/publishing/model_card.py",
    "training/space/setup_steps.py",
    "training/space/sleep_timer.py",
)
"""Where something goes to or comes from the Hub."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, `from a import b` as `a` and `a.b`, relative ones made absolute."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), name_of(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).parent.parts)[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def offenders(package: str, allowed: tuple[str, ...], files: list[Path] = PRODUCT) -> list[str]:
    """Files that import `package`, other than `allowed` ones (a name that ends in a slash is a folder)."""
    found = [name_of(path) for path in files if package in roots(path)]
    return [n for n in found if not any(n == a or (a.endswith("/") and n.startswith(a)) for a in allowed)]


def test_the_walk_sees_the_code() -> None:
    assert len(PRODUCT) > 20
    assert "torch" in roots(ROOT / "inference" / "engine.py")
    assert "inference.format" in imports(ROOT / "training" / "rewards.py")
    assert "datasets" in roots(ROOT / "training" / "problems.py")  # it stands inside a function


def test_inference_never_imports_training() -> None:
    assert offenders("training", ("app.py", "training/")) == []


def test_nothing_imports_app() -> None:
    assert offenders("app", ()) == []


def test_nothing_imports_the_tests() -> None:
    assert offenders("tests", ()) == []


def test_gradio_stays_in_the_page() -> None:
    allowed = ("app.py", "inference/ui/", "training/ui/")
    assert offenders("gradio", allowed) == []
    assert offenders("gradio_client", allowed) == []


def test_trl_stays_in_the_trainer() -> None:
    assert offenders("trl", TRL_PLACES) == []


def test_the_hub_client_stays_where_things_go_to_the_hub() -> None:
    assert offenders("huggingface_hub", HUB_PLACES) == []


def light_modules() -> list[str]:
    found = [p for room in ("inference", "training") for n in WITHOUT_TORCH if (p := ROOT / room / f"{n}.py").exists()]
    return [name_of(path)[: -len(".py")].replace("/", ".") for path in found]


@pytest.mark.parametrize("module", light_modules())
def test_light_modules_load_no_torch(module: str) -> None:
    """In an interpreter of its own, so that what the module imports in turn counts too."""
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


def test_the_protocol_is_standard_library_only() -> None:
    assert roots(ROOT / "inference" / "format.py") <= sys.stdlib_module_names


def test_requirements_are_pinned_and_all_of_them_used() -> None:
    """Every direct dependency has an exact version, and something imports it."""
    import_names = {"scikit-learn": "sklearn", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub", "pillow": "PIL"}
    indirect = {
        "accelerate": "transformers' Trainer asks for it",
        "huggingface-hub": "transformers, datasets and peft load through it; pinned so that they agree",
        "latex2sympy2-extended": "math-verify parses with it; pinned so that verdicts do not change",
        "tensorboard": "transformers' Trainer writes live figures through it",
        "torchvision": "the processor of Qwen2.5-VL needs it",
    }
    used = set().union(*map(roots, PRODUCT))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    assert wanted and all("==" in line for line in wanted)
    names = [line.split("==")[0].split("[")[0].strip().lower() for line in wanted]
    unused = [n for n in names if n not in indirect and import_names.get(n, n.replace("-", "_")) not in used]
    assert unused == []
    ours = {"inference", "training", "app", "gradio_client"}  # gradio_client comes with gradio
    provided = {import_names.get(n, n.replace("-", "_")) for n in names}
    assert used - ours - provided - set(sys.stdlib_module_names) == set()
