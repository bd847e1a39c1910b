"""The wheel holds every tracked file of the package, and the appliance's command needs little."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("pipeline", "stages", "trackers", "configs", "sim")


def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout: nothing to compare the wheel with")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def test_the_wheel_holds_every_tracked_file_of_the_package(tmp_path):
    files = tracked()
    copy = tmp_path / "copy"
    for name in files:
        if name.split("/")[0] in FOLDERS or "/" not in name:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "-w", str(tmp_path), str(copy)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("orveil-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = {f"orveil/{name}" for name in files if name.split("/")[0] in FOLDERS}
    assert wanted - inside == set()


APPLIANCE = """
import builtins, sys
real = builtins.__import__
def guarded(name, *rest):
    if name.split(".")[0] in {"torch", "ray", "pydantic", "pyarrow", "typer", "mmengine", "mmdet", "mmpose"}:
        raise ModuleNotFoundError(f"the appliance has no {name}", name=name)
    return real(name, *rest)
builtins.__import__ = guarded
sys.argv = ["orveil", *sys.argv[1:]]
from orveil.stages.cli import main
main()
"""


def appliance(*arguments):
    """Run the command line where only the base install is there."""
    command = [sys.executable, "-c", APPLIANCE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_of_blur_needs_only_the_base_install():
    done = appliance("blur", "--help")
    assert done.returncode == 0, done.stderr
    assert "frames in = frames out" in done.stdout


def test_help_without_the_rest_lists_what_there_is():
    code = APPLIANCE.replace(
        "builtins.__import__ = guarded",
        "builtins.__import__ = guarded\nimport importlib.util\n"
        "importlib.util.find_spec = lambda name: None if name == 'typer' else 1",
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {name} " in done.stdout for name in ("blur", "live", "analyse", "boxes", "export"))


def test_a_command_that_needs_more_says_so(tmp_path):
    (tmp_path / "site.toml").write_text('name = "x"\nvideos = "."\n')
    done = appliance("adapt", tmp_path / "site.toml")
    assert done.returncode == 2
    assert "needs the Python package" in done.stderr
    assert "Traceback" not in done.stderr


def test_blur_runs_on_the_appliance(tmp_path):
    import videos
    from bundles import write_bundle

    bundle = write_bundle(tmp_path / "bundle")
    source = videos.write_video(tmp_path / "cam.mp4", videos.scene(5))
    done = appliance("blur", source, "--bundle", bundle, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "cam.mp4").is_file()
