"""Makes Parquet stores with records, and segments without any, for the tests of the store and of its readers."""

import contextlib
import os
from pathlib import Path

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query.filters import Filters
from prefork_logd.stores.parquet import segments
from prefork_logd.stores.parquet.search import open_search
from prefork_logd.stores.parquet.segments import Segment
from prefork_logd.stores.parquet.store import ParquetStore
from tests.support.stores import JOURNAL, block, line, never

NOON = 1_795_521_600.0
"""2026-11-24, 12:00 UTC."""
DAY = 86_400.0


def make_store(root, **given):
    """Return a store in a directory."""
    return ParquetStore(ParquetStoreSettings(path=str(root), **given))


def numbered(first, count, received=NOON):
    """Return lines whose `created` is in their order."""
    return [line(received + number / 1e3, msg=f"record {number}") for number in range(first, first + count)]


def written(root, counts):
    """Return a store with a segment of each number of records, and the lines; every fifth has a lone surrogate."""
    made = make_store(root)
    made.open(JOURNAL)
    lines, first = [], 0
    for count in counts:
        some = [
            line(NOON + at / 1e3, msg=f"record {at}" + ("\udcff" if at % 5 == 4 else ""), n=at)
            for at in range(first, first + count)
        ]
        made.write([block(first, some)], never)
        lines += some
        first += count
    return made, lines


def lines_of(root, journal=None):
    """Return all lines of a store."""
    with contextlib.closing(open_search(ParquetStoreSettings(path=str(root)), journal)) as search:
        found = [*search.lines(Filters())]
        assert search.problems == []
        return found


def some(count, day="2026-11-24", first=0, written_s=NOON, nbytes=10, journal=JOURNAL):
    """Return neighbours of one record each."""
    return [
        Segment(Path(f"{journal}{at}"), day, journal, at, at + 1, nbytes, written_s)
        for at in range(first, first + count)
    ]


def segment(root, first, following, day="2026-11-29", journal=JOURNAL, nbytes=10, written_s=0.0):
    """Return a segment, and make its file."""
    path = segments.segment_path(root, day, journal, first, following)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * nbytes)
    os.utime(path, (written_s, written_s))
    return Segment(path, day, journal, first, following, nbytes, written_s)
