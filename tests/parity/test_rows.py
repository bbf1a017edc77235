"""The compiled core of the stores makes the rows that the Python modules make, or leaves a line to them."""

import sqlite3
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows_core
from prefork_logd.stores.sqlite.row_builder import Packer
from tests.support.strategies import attributes, bounded
from tests.unit.stores.test_rows import corpus_lines

pytestmark = pytest.mark.skipif(rows_core.Packer is None, reason="the compiled core is not there, or switched off")

TOKENS = ['"a":1', "{", "}", "[", "]", ",", ":", '"k":', "true", "null", "0", "-1.5e9", "01", '"', "\\"]
LINE = (
    b'{"created":1795560100.645,"time":"2026-11-24T22:41:40.645000Z","name":"shop.cache","levelno":10,'
    b'"levelname":"DEBUG",'
    b'"message":"miss for key `7` \\"x\\" \\u00e9\\ud83d\\ude00 \xc3\xa9","msg":"miss for key `%d` \\"x\\"",'
    b'"pathname":"/srv/cache.py",'
    b'"filename":"cache.py",'
    b'"module":"cache","lineno":75,"funcName":"handle","process":2576,"processName":"MainProcess","thread":-13,'
    b'"threadName":"MainThread","taskName":"t","exc_text":"a\\nb","stack_info":"s","extra":{"a":[1,-2.5e+3,true,null,{}],'
    b'"b":"\\u0000\\\\","c":{"d":[]}},"truncated":["extra.a","message"],'
    b'"exception":[{"type":"KeyError","frames":[{"lineno":7},{}]},{}],"host":"web-1","service":"shop \\u00e9",'
    b'"environment":"prod","version":"2.4","peer":"10.0.0.3:40000","received":1795560100.6551237}\n'
)


def packers():
    """Return a packer with the compiled core, and one without."""
    one, other = Packer(1, 1), Packer(1, 1)
    other._core = None
    return one, other


def told(packer, packed):
    """Return all that a packer has said, comparable."""
    return (packed, packer.new_sites, packer.new_origins, packer._next_site, packer._next_origin)


def check(lines, number=0):
    """Pack the same twice with both, and compare; return what the core has left to Python."""
    one, other = packers()
    left = []
    slow = one._row
    one._core = rows_core.Packer(one._site, one._origin, lambda line, at: left.append(line) or slow(line, at))
    for _ in range(2):
        ours, theirs = one.pack(lines, number), other.pack(lines, number)
        assert [refused[:2] for refused in ours.refused] == [refused[:2] for refused in theirs.refused]
        ours, theirs = ours._replace(refused=[]), theirs._replace(refused=[])
        assert told(one, ours) == told(other, theirs)
        assert [list(map(type, row)) for row in ours.rows] == [list(map(type, row)) for row in theirs.rows]
    return left[: len(left) // 2]


def test_the_corpus():
    """Every accepted record of the corpus; the core does all but those with lone surrogates or numbers too long."""
    lines = corpus_lines()
    left = check(b"".join(lines), 1000)
    assert len(left) < len(lines) / 10


@settings(bounded, max_examples=20)
@given(st.lists(attributes, min_size=1, max_size=4))
def test_any_records(many):
    """Any values in any field."""
    check(b"".join(render_json(make_record(values, "peer", 1.0)) for values in many))


def test_a_line_with_every_field_is_for_the_core():
    """Escapes, numbers and nested values do not make it Python's."""
    assert check(LINE * 3) == []
    for line in (b'{"created":1.0,"time":""}\n', b'{"created":0.0,"time":"x","received":0.0}\n'):
        assert check(line) == []


@bounded
@given(st.integers(0, len(LINE) - 2), st.binary(max_size=3), st.integers(0, 3))
@example(0, b"", 1)
def test_a_damaged_line(place, put, cut):
    """Whatever is changed in a line: the core takes it only where Python does, and for the same."""
    put = put.replace(b"\n", b"")
    check(LINE[:place] + put + LINE[min(place + cut, len(LINE) - 1) :])


@bounded
@given(st.integers(0, len(LINE) - 2), st.sampled_from(list(b'{}[]",:\\u0123456789-+.eEtrufalsn\x00\x1f\x7f\x80\xff ')))
def test_a_changed_byte(place, byte):
    """The same for the bytes that mean something."""
    check(LINE[:place] + bytes([byte]) + LINE[place + 1 :])


@bounded
@given(
    st.lists(
        st.sampled_from(['"a":1', "{", "}", "[", "]", ",", ":", '"k":', "true", "null", "0", "-1.5e9", "01", '"', "\\"])
    )
)
def test_any_extra(parts):
    """What is no JSON is never taken for it."""
    extra = "".join(parts).encode()
    check(b'{"created":1.0,"time":"x","extra":{%b}}\n' % extra)
    check(b'{"created":1.0,"time":"x","extra":%b}\n' % extra)
    check(b'{"created":1.0,"time":"x","truncated":[%b]}\n' % extra)
    check(b'{"created":1.0,"time":"x","exception":[%b]}\n' % extra)
    check(b'{"created":1.0,"time":"x","exception":%b}\n' % extra)


@bounded
@given(st.floats(0, 7_258_118_400.0, exclude_max=True) | st.integers(0, 2**62).map(lambda n: n / 2**30))
@example(1795560100.6451237)
@example(5e-324)
def test_times_are_exact(created):
    """Of 17 digits, too: the double that Python reads, to the last bit."""
    line = b'{"created":%b,"time":"x","received":%b}\n' % (repr(created).encode(), repr(created).encode())
    one, other = packers()
    ours, theirs = one.pack(line, 0).rows, other.pack(line, 0).rows
    assert [struct.pack("d", row[1]) for row in ours] == [struct.pack("d", row[1]) for row in theirs]
    assert ours == theirs


@bounded
@given(st.from_regex(rb"[0-9]{1,11}(\.[0-9]{1,9})?", fullmatch=True))
def test_times_of_any_spelling_are_exact(text):
    """Leading zeros are no JSON; more digits than a double has are rounded as Python does."""
    check(b'{"created":1.0,"time":"x","received":%b}\n' % text)
    check(b'{"created":%b,"time":"x"}\n' % text)


def test_more_sites_than_the_core_remembers():
    """Those it forgets it asks for again, and gets the same number."""
    lines = b"".join(b'{"created":1.0,"time":"x","name":"n%d","process":%d}\n' % (n, n) for n in range(20_000))
    one, other = packers()
    for _ in range(2):
        assert one.pack(lines, 0) == other.pack(lines, 0)
    assert one.new_sites == other.new_sites
    assert len(one.new_origins) == 20_000


def test_rows_are_what_sqlite_takes():
    """As they are, without another look."""
    one, _ = packers()
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (a, b, c, d, e, f, g, h, i, j, k)")
    db.executemany("INSERT INTO t VALUES (?,?,?,?,?,?,?,?,?,?,?)", one.pack(LINE, 0).rows)
    assert db.execute("SELECT f, i FROM t").fetchone() == (
        'miss for key `7` "x" \u00e9\U0001f600 \u00e9',
        '{"a":[1,-2.5e+3,true,null,{}],"b":"\\u0000\\\\","c":{"d":[]}}',
    )
    db.close()
