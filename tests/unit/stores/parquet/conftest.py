"""Stores that several tests of searches read: each is made once for a module."""

import contextlib

import pytest

from prefork_logd.stores.parquet import segments
from prefork_logd.stores.parquet.merging import Merger
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import JOURNAL, make_store
from tests.support.record_logs import write_log
from tests.support.searching import Stored, make_lines
from tests.support.stores import block, never


@pytest.fixture(scope="module", params=["segments", "merged, and the journal"])
def found(request, tmp_path_factory):
    """Return lines, and a search of a store with them, for each place in which they may be."""
    root = tmp_path_factory.mktemp("records")
    lines = make_lines()
    store = make_store(root)
    store.open(JOURNAL)
    journal = None
    if request.param == "segments":
        for first in range(0, 400, 100):
            store.write([block(first, lines[first : first + 100])], never)
    else:
        store.write([block(0, lines[:50])], never)
        store.write([block(50, lines[50:120])], never)
        Merger(store._directory, 64 << 20).merge(segments.find_segments(root))
        store.write([block(120, lines[120:250])], never)
        journal = tmp_path_factory.mktemp("journal")
        write_log(journal, JOURNAL, lines)
    with contextlib.closing(open_search(store._settings, journal)) as opened:
        yield Stored(lines, opened)
