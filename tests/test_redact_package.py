"""What the appliance runs loads nothing heavy, and depends on what the base install has."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("redact", "runtime", "cli", "cli_blur", "cli_boxes", "cli_live", "cli_options", "bundle_check")
HEAVY = {"torch", "ray", "pydantic", "pyarrow", "scipy", "typer", "pandas", "matplotlib", "onnx", "mmengine",
         "mmdet", "mmpose", "mmcv", "jinja2", "psutil", "lap"}  # fmt: skip
OPTIONAL = {"pyvirtualcam"}


def modules() -> list[Path]:
    parts = sorted((ROOT / "stages" / "redaction").glob("*.py"))
    assert len(parts) > 10
    return [*parts, *(ROOT / "stages" / f"{name}.py" for name in COMMANDS)]


def test_nothing_heavy_is_loaded() -> None:
    names = [
        ".".join(["orveil", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for path in modules()
    ]
    code = f"import sys\nfor name in {names!r}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert {"numpy", "av", "cv2", "onnxruntime"} <= loaded and loaded & HEAVY == set()


def imported(path: Path) -> set[str]:
    """Top names of the packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_imports_are_in_the_base_install() -> None:
    base = {line.split(">")[0].split("=")[0].strip() for line in requires("orveil") or [] if ";" not in line}
    given = packages_distributions()
    for path in modules():
        outside = imported(path) - set(sys.stdlib_module_names) - {"orveil"} - OPTIONAL
        missing = {name for name in outside if not base & set(given.get(name, []))}
        assert not missing, (
            f"{path.name} imports {missing}, which `pip install orveil[appliance]` does not bring"
        )


def test_the_appliance_is_an_extra() -> None:
    assert "appliance" in (ROOT / "pyproject.toml").read_text("utf-8")
