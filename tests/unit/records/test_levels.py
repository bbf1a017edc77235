"""Numbers of levels get the names that people know them by."""

from __future__ import annotations

import pytest

from prefork_logd.records.levels import names_of


def never() -> dict[str, int]:
    pytest.fail("the names that records carry are not needed")


def test_names_of_logging_come_first() -> None:
    """WARNING and CRITICAL, not WARN and FATAL; without a look at the records."""
    assert names_of([0, 5, 10, 20, 30, 40, 50, "30", None, 30], never) == {
        0: "NOTSET", 5: "TRACE", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"
    }  # fmt: skip


def test_other_numbers_have_the_names_that_records_carry() -> None:
    """Of several the first by alphabet; a number that nothing names has none."""
    carried = {"SUCCESS": 25, "NOTICE": 25, "AUDIT": 35, "LOUD": 30}
    assert names_of([25, 30, 35, 36], lambda: carried) == {25: "NOTICE", 30: "WARNING", 35: "AUDIT"}
