"""Runs commands as `python -m mfbayes` does, in this process: a fresh one for each would take seconds."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from mfbayes.cli import main


class Outcome(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


type Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line and give back how it ended."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["mfbayes", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Outcome(code, out, err)

    return call
