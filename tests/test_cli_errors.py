"""Command line: what a user can put right is one message on stderr and exit status 2, and nothing is left."""

from __future__ import annotations

import sys

import pytest

from orveil.stages import cli

MINIMAL = 'name = "x"\nvideos = "videos"\n'


def run(monkeypatch, capsys, *arguments):
    """Exit status, stdout and stderr of `orveil ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["orveil", *map(str, arguments)])
    status = 0
    try:
        cli.main()
    except SystemExit as stop:
        status = stop.code or 0
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def orveil(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


def one_error(err):
    """The message: one `error:` and no traceback."""
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    return " ".join(err.split())


@pytest.mark.parametrize("command", ["adapt", "status", "explain", "report", "evaluate"])
def test_every_site_command_names_a_missing_site_file(orveil, tmp_path, command):
    status, out, err = orveil(command, tmp_path / "none.toml")
    assert (status, out) == (2, "")
    assert "no such site file" in one_error(err)
    assert "none.toml" in err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "not valid TOML"),
        (MINIMAL + "colour = 1\n", "unknown key `colour`"),
        (MINIMAL + "[detect]\nlongside = 512\n", "unknown key `detect.longside`"),
        (MINIMAL + '[detect]\nlong_side = "big"\n', "`detect.long_side`: Input should be a valid integer"),
        (MINIMAL + "rounds = -1\n", "`rounds`: Input should be greater than or equal to 0"),
        (MINIMAL + '[blur]\ntarget = "feet"\n', "`blur.target`"),
        ('name = "x"\n', 'give either `videos = "FOLDER"` or a list of [[camera]]'),
        (MINIMAL + '[[camera]]\nid = "a"\npath = "a.mp4"\n', "not both"),
        (
            'name = "x"\n[[camera]]\nid = "a"\npath = "a.mp4"\n[[camera]]\nid = "a"\npath = "b.mp4"\n',
            "same session and id",
        ),
    ],
)
def test_a_wrong_site_file_names_the_key(orveil, tmp_path, text, problem):
    path = tmp_path / "site.toml"
    path.write_text(text)
    status, out, err = orveil("adapt", path)
    assert (status, out) == (2, "")
    assert problem in one_error(err)
    assert str(path) in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site.toml"]


def test_a_folder_is_no_site_file(orveil, tmp_path):
    status, _, err = orveil("adapt", tmp_path)
    assert status == 2
    assert str(tmp_path) in err.replace("\n", "")


def test_evaluate_without_ground_truth_says_what_to_give(orveil, tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(MINIMAL)
    status, _, err = orveil("evaluate", path)
    assert status == 2
    assert "--ground-truth" in one_error(err)


def test_models_that_do_not_exist(orveil):
    status, _, err = orveil("models", "pull", "no-such-model")
    assert status == 2
    assert "embedded-detector" in one_error(err)


def test_sim_refuses_a_layout_that_does_not_exist(orveil, tmp_path):
    status, _, err = orveil("sim", "--layout", "spiral", "--out", tmp_path / "x")
    assert status == 2
    assert "unknown layout 'spiral'" in err
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_a_missing_library_is_named(orveil, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    for name in [name for name in sys.modules if name.startswith("orveil.") and "cli" in name]:
        if name != "orveil.stages.cli":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "orveil.pipeline.settings", raising=False)
    monkeypatch.delitem(sys.modules, "orveil.pipeline.artifact", raising=False)
    status, _, err = orveil("adapt", tmp_path / "site.toml")
    assert status == 2
    assert "needs the Python package pydantic" in one_error(err)


def test_a_refusal_of_the_system_is_explained(orveil, monkeypatch, tmp_path):
    from orveil.stages import cli_run

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/locked")

    monkeypatch.setattr(cli_run, "run_status", refuse)
    status, _, err = orveil("status", tmp_path / "site.toml")
    assert status == 2
    assert "Permission denied [/locked]" in one_error(err)


def test_an_interrupted_run_says_how_to_go_on(orveil, monkeypatch, tmp_path):
    from orveil.stages import cli_run

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_run, "run_adapt", interrupt)
    status, _, err = orveil("adapt", tmp_path / "site.toml")
    assert status == 130
    assert "run the same command again" in err


@pytest.mark.parametrize("arguments", [("--help",), ("adapt", "-h"), ("models", "--help"), ("sim", "--help")])
def test_help_teaches(orveil, arguments):
    status, out, _ = orveil(*arguments)
    assert status == 0
    assert "Usage: orveil" in out


def test_version(orveil):
    status, out, _ = orveil("version")
    assert status == 0
    assert out.splitlines()[0].startswith("orveil 0.")
