"""The trouble of many files is told as that of one output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer.trouble import Trouble

if TYPE_CHECKING:
    import pytest


def made(on_error: str = "block") -> tuple[Trouble, memoryview]:
    """Return the trouble of an output, and its counters."""
    counters = memoryview(bytearray(8 * 8)).cast("Q")
    settings = OutputSettings(name="all", path="l/{service}.jsonl", on_error=on_error)  # type: ignore[arg-type]
    return Trouble(settings, "l", counters), counters


def test_one_line_at_the_beginning_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """However many files fail, and in whatever order they work again; one that is gone counts no more."""
    trouble, counters = made()
    trouble.report("a", "", 1)
    for path in "abc":
        trouble.report(path, f"{path}: full", 1)
    trouble.report("a", "", 1)
    assert counters[OutputField.FAILED]
    trouble.forget("b")
    trouble.report("c", "", 1)
    assert not counters[OutputField.FAILED]
    assert [record.getMessage() for record in caplog.records] == [
        "output all: a: full; clients wait until it works again",
        "output all: c: written again",
    ]


def test_skipped_records_are_summed(caplog: pytest.LogCaptureFixture) -> None:
    """Over all files, until the last of them works again."""
    trouble, counters = made("skip")
    trouble.report("a", "a: full", 2)
    trouble.report("b", "b: full", 3)
    trouble.report("a", "", 1)
    assert counters[OutputField.FAILED]
    trouble.report("b", "", 1)
    assert [record.getMessage() for record in caplog.records] == [
        "output all: a: full; its records are skipped until it works again",
        "output all: b: written again; skipped 5 records",
    ]
    trouble.configure(OutputSettings(name="all", path="l/{service}.jsonl"))
    trouble.report("b", "b: full", 1)
    assert "clients wait" in caplog.text
