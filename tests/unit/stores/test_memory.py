"""What stores remember of records has a bound in bytes, whatever a client invents."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from prefork_logd.stores import rows
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 40 << 20


def _postgresql() -> Callable[[bytes], object]:
    encoding = pytest.importorskip("prefork_logd.stores.postgresql.copy_rows")
    encoder = encoding.Encoder()
    return lambda text: encoder.encode([rows.decode(text)], [text], 1, 20_000, 0)


def _copier() -> Callable[[bytes], object]:
    encoding = pytest.importorskip("prefork_logd.stores.postgresql.copy_rows")
    from prefork_logd.stores import rows_core

    if rows_core.Copier is None:
        pytest.skip("no compiled core")
    copier = rows_core.Copier(encoding.pack_values, encoding.pack_values)
    return lambda text: copier.copy(text, 0, 1, 1, 20_000, 0, 0.0, 1e15)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_postgresql, _copier])
@pytest.mark.parametrize(
    ("field", "size", "count"),
    [("name", 3_000_000, 20), ("pathname", 3_000_000, 20), ("threadName", 3_000_000, 20), ("name", 1000, 25_000)],
)
def test_names_that_a_client_invents_do_not_fill_the_memory(
    make: Callable[[], Callable[[bytes], object]], field: str, size: int, count: int
) -> None:
    """Neither a few huge ones nor many small ones."""
    pack = make()
    head, _, tail = line(NOW, **{field: "MARK"}).partition(b"MARK")
    text = b"x" * (size - 9)
    tracemalloc.start()
    try:
        for number in range(count):
            pack(b"%b%b%09d%b" % (head, text, number, tail))
        assert tracemalloc.get_traced_memory()[0] < MOST_BYTES
    finally:
        tracemalloc.stop()
