"""Whatever ends a verb, the command ends with a status and at most one sentence for each problem."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import pytest

from prefork_logd.cli import main as entry
from prefork_logd.cli.app import cli
from prefork_logd.errors import ConfigError, ExitStatus, Problem, ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the standard streams and the umask of the test run alone."""
    for name in ("prepare", "flush", "abandon"):
        monkeypatch.setattr(entry.standard_streams, name, lambda: None)
    umask = os.umask(0o022)
    yield
    os.umask(umask)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ProcessError("not running", ExitStatus.NOT_RUNNING), 3, "prefork-logd: not running\n"),
        (
            ConfigError([Problem("a", "is odd"), Problem("b", "too")]),
            2,
            "prefork-logd: a: is odd\nprefork-logd: b: too\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_an_exception_has_a_status_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    sentence: str,
) -> None:
    """No traceback."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    assert entry.main() == status
    assert capsys.readouterr().err == sentence


def test_a_usage_error_has_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Click prints it with the usage."""
    monkeypatch.setattr(sys, "argv", ["prefork-logd", "nothing"])
    assert entry.main() == 2
    assert "No such command 'nothing'" in capsys.readouterr().err


def test_files_are_not_for_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever umask the caller has."""
    monkeypatch.setattr(sys, "argv", ["prefork-logd", "--version"])
    assert entry.main() == 0
    assert os.umask(entry.UMASK) == entry.UMASK
    assert "version" in capsys.readouterr().out
