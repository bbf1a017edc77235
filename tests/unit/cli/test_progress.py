"""Progress bars on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.cli.progress import make_progress

if TYPE_CHECKING:
    import pytest


def test_bytes_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file there are so many of so many."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with make_progress() as bar:
        bar.update(bar.add_task("day.jsonl", total=2_000_000), completed=2_000_000)
    shown = capsys.readouterr().err
    assert "2.0/2.0 MB" in shown
