"""A footer is taken apart and put together again to the octet, and whatever is not a footer is an error."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefork_logd.stores.parquet import segments
from prefork_logd.stores.parquet.footer import FooterError, make_footer, moved, read_footer
from prefork_logd.stores.parquet.index import read_tail
from tests.support.parquet_store import written
from tests.support.strategies import bounded


@pytest.fixture(scope="module")
def footer(tmp_path_factory):
    """Return the footer of a segment."""
    root = tmp_path_factory.mktemp("records")
    written(root, [5])
    fd = os.open(segments.find_segments(root)[0].path, os.O_RDONLY)
    try:
        return read_tail(fd)[1]
    finally:
        os.close(fd)


def test_a_footer_is_made_of_its_parts(footer):
    """Also with a row group that was moved away and back."""
    found = read_footer(footer)
    assert (found.rows, len(found.groups)) == (5, 1)
    again = [moved(moved(one, 1_000_000, 7), -1_000_000, 0) for one in found.groups]
    assert again == [moved(one, 0, 0) for one in found.groups] == found.groups
    made = read_footer(make_footer(found, found.rows, found.groups * 20))
    assert made.groups == found.groups * 20
    assert made.fields == found.fields


def test_each_part_of_a_footer_alone_is_an_error(footer):
    """Cut off anywhere, and one octet before its end."""
    for end in (*range(0, len(footer), 11), len(footer) - 1):
        with pytest.raises(FooterError):
            read_footer(footer[:end])


@bounded
@given(st.binary(max_size=60))
@example(b"\x19" * 2_000)
@example(b"\x1c" * 2_000)
@example(b"\x19\xfc" + b"\xff" * 9 + b"\x7f")
def test_other_octets_are_an_error(octets):
    """Nested without end, or with lists of any length: nothing but FooterError."""
    with pytest.raises(FooterError):
        read_footer(octets)


def test_any_octet_may_be_wrong(footer):
    """The answer is a footer or a FooterError."""
    for at in range(0, len(footer), 29):
        for wrong in (0, 0xFF, footer[at] ^ 0x10):
            try:
                found = read_footer(footer[:at] + bytes((wrong,)) + footer[at + 1 :])
                for group in found.groups:
                    moved(group, 5, 0)
            except FooterError:
                pass
