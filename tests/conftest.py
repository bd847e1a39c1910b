"""Fixtures that several test files use."""

from __future__ import annotations

import sys

import pytest

from orveil.stages import cli


@pytest.fixture
def orveil(monkeypatch, capsys):
    """The command line: arguments -> exit status, what it printed, what it complained of."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["orveil", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code or 0, out, err

    return call
