"""Lines of other collectors, dispatched one by one or all at once, make the same batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config import load
from prefork_logd.errors import RecordRejected
from prefork_logd.processes.control import Configuration
from prefork_logd.processes.dispatch import Dispatcher
from prefork_logd.protocol.batch import Lines

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = Configuration(1, load(None, {}), (1,))
GOOD = b'{"message":"x"}\n'


@given(st.lists(st.sampled_from([GOOD, b'{"extra":{"a":{}}}\n', b"{}\n", b"{\n", b"}\n", b"\n", b'{"a":1} {"b":2}\n']),
                min_size=1, max_size=6), st.integers(-1, 1))  # fmt: skip
def test_all_at_once_is_what_one_by_one_is(lines: list[bytes], more: int) -> None:
    """What is done at once is what would have been taken line by line, and never another number of lines."""
    data = b"".join(lines)
    together, single = Dispatcher(CONFIGURATION, Lines), Dispatcher(CONFIGURATION, Lines)
    refused = 0
    for line in lines:
        try:
            single.dispatch_line(line)
        except RecordRejected:
            refused += 1
    done = together.dispatch_lines(data, len(lines) + more)
    assert done == (not refused and not more)
    if done:
        assert together.batch.build(7) == single.batch.build(7)


@pytest.mark.parametrize("toml", ['[[output]]\nformat = "text"\n', '[[output]]\nlevel = "ERROR"\n'])
def test_an_output_that_looks_into_records_gets_them_one_by_one(toml: str, tmp_path: Path) -> None:
    """Templates and filters want each record."""
    path = tmp_path / "c.toml"
    path.write_text(toml)
    assert not Dispatcher(Configuration(1, load(path, {}), (1,)), Lines).dispatch_lines(GOOD, 1)
