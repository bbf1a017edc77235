"""The compiled core makes the rows for COPY that the Python encoder makes, or leaves a line to it."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows, rows_core
from prefork_logd.stores.postgresql.copy_rows import EPOCH_DAY, Encoder, pack_values
from tests.parity.whole_line import LINE, TOKENS
from tests.support.corpus import corpus_lines
from tests.support.strategies import attributes, bounded, damaged, with_changed_byte

pytestmark = pytest.mark.skipif(rows_core.Copier is None, reason="the compiled core is not there, or switched off")

DAY, SLICE = 20_780, 3
EVER = (0.0, 1e15)


def new_copier():
    return rows_core.Copier(pack_values, pack_values)


def check(lines, number=0):
    """Make rows twice with the core, compare them with Python's; return the lines that the core has left to it."""
    copier, encoder = new_copier(), Encoder()
    for _ in range(2):
        left, at, now = [], 0, number
        while at < len(lines):
            packed, count, end = copier.copy(lines, at, 1 << 30, now, DAY - EPOCH_DAY, SLICE, *EVER)
            taken = lines[at:end].split(b"\n")[:-1]
            assert len(taken) == count
            assert packed == encoder.encode([*map(rows.decode, taken)], taken, now, DAY, SLICE)
            at, now = end, now + count
            if at < len(lines) and not count:
                end = lines.index(b"\n", at) + 1
                left.append(lines[at:end])
                at, now = end, now + 1
    return left


def test_the_corpus():
    """Every accepted record of the corpus; the core does most, and leaves what jsonb and text cannot hold."""
    lines = corpus_lines()
    assert len(check(b"".join(lines), 1000)) < len(lines) / 5


@settings(bounded, max_examples=20)
@given(st.lists(attributes, min_size=1, max_size=4))
def test_any_records(many):
    """Any values in any field."""
    check(b"".join(render_json(make_record(values, "peer", 1.0)) for values in many))


@pytest.mark.parametrize(
    "extra",
    [
        '{"a":[1,-2.5,true,false,null,{}],"when":"2026-11-24T02:14:00-05:00","id":"1e9-0"}',
        '{"a":"\\\\u0041 \\u20ac","e":{"E":[1.5,-1,10]},"\u00e9":"\U0001f600"}',
        "{}",
    ],
)
def test_what_is_usual_is_for_the_core(extra):
    """Escapes, dates, negative numbers, words with an e, and letters beyond ASCII do not make a line Python's."""
    line = LINE.replace(LINE[LINE.index(b'{"a":[') : LINE.index(b',"truncated"')], extra.encode())
    line = line.replace(b"\\ud83d\\ude00", b"")
    assert check(line * 3) == []
    for short in (b'{"created":1.0,"time":""}\n', b'{"created":0.0,"time":"x","received":0.0}\n'):
        assert check(short) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"miss", b"\\u0000"),
        (b"miss", b"\\ud800"),
        (b"miss", b"\\\\ud800"),
        (b"miss", b"\xff"),
        (b'"a\\nb"', b'"\xc3"'),
        (b"shop.cache", b"\xed\xa0\x80"),
        (b"shop.cache", b"n" * 257),
        (b"[1,", b"[1e3,"),
        (b"[1,", b"[-0,"),
        (b"[1,", b"[-0.0,"),
        (b'"c":', b'"\xff":'),
        (b'"lineno":75', b'"lineno":7500000000000000000'),
        (b'{"lineno":7}', b'{"lineno":7e1}'),
        (b'["extra.a"', b'["\xff"'),
        (b'["extra.a"', b"[5"),
        (b'"frames":[', b'"\xff":['),
    ],
)
def test_what_the_columns_cannot_give_back_is_left(old, new):
    """Python says what becomes of it, or refuses it."""
    usual = LINE.replace(b"\\ud83d\\ude00", b"").replace(b"\\u0000", b"").replace(b"e+3", b"")
    assert check(usual) == []
    odd = usual.replace(old, new, 1)
    assert odd != usual
    assert check(usual + odd + usual) == [odd]


@bounded
@given(damaged(LINE))
@example(LINE[1:])
def test_a_damaged_line(line):
    """Whatever is changed in a line: the core takes it only where Python does, and for the same."""
    check(line)


@bounded
@given(with_changed_byte(LINE))
def test_a_changed_byte(line):
    """The same for the bytes that mean something."""
    check(line)


@bounded
@given(st.lists(st.sampled_from([*TOKENS, "-0", "2e2", '"-0"', '"1e5"'])))
def test_any_extra(parts):
    """What jsonb would spell in another way is never taken for what it would not."""
    extra = "".join(parts).encode()
    check(b'{"created":1.0,"time":"x","extra":{%b}}\n' % extra)
    check(b'{"created":1.0,"time":"x","extra":{"a":[%b]}}\n' % extra)


@bounded
@given(st.floats(0, 7_258_118_400.0, exclude_max=True) | st.integers(0, 2**62).map(lambda n: n / 2**30))
@example(1795560100.0000005)
@example(1795560100.0000015)
def test_times_are_rounded_as_python_does(created):
    """To the nearest microsecond, half to even."""
    check(b'{"created":%b,"time":"x","received":%b}\n' % (repr(created).encode(), repr(created).encode()))


@bounded
@given(st.from_regex(rb"[0-9]{1,11}(\.[0-9]{1,9})?", fullmatch=True))
def test_times_of_any_spelling_are_exact(text):
    """Leading zeros are not JSON; more digits than a double has are rounded as Python does."""
    check(b'{"created":1.0,"time":"x","received":%b}\n' % text)
    check(b'{"created":%b,"time":"x"}\n' % text)


def test_it_ends_where_another_partition_begins():
    """Before the first line that was not received in the span, and after as many lines as are wanted."""
    lines = [b'{"created":1.0,"time":"x","received":%d.0}\n' % when for when in (10, 19, 20, 15, 9)]
    copier, text = new_copier(), b"".join(lines)
    assert copier.copy(text, 0, 100, 0, 0, 0, 10.0, 20.0)[1:] == (2, len(lines[0]) * 2)
    assert copier.copy(text, 0, 1, 0, 0, 0, 10.0, 20.0)[1:] == (1, len(lines[0]))
    assert copier.copy(text, len(lines[0]) * 2, 100, 0, 0, 0, 10.0, 20.0) == (b"", 0, len(lines[0]) * 2)
    assert copier.copy(text, len(lines[0]) * 3, 100, 0, 0, 0, 10.0, 20.0)[1] == 1
    assert copier.copy(text, len(text), 100, 0, 0, 0, 10.0, 20.0) == (b"", 0, len(text))
    for start in (-1, len(text) + 1):
        with pytest.raises(ValueError, match="no line begins there"):
            copier.copy(text, start, 1, 0, 0, 0, 10.0, 20.0)
    with pytest.raises(ValueError, match="has no end"):
        copier.copy(text[:-1], 0, 100, 0, 0, 0, 0.0, 1e15)


def test_more_loggers_than_the_core_remembers():
    """Those it forgets are packed again."""
    lines = b"".join(b'{"created":1.0,"time":"x","name":"n%d","process":%d}\n' % (n, n) for n in range(20_000))
    assert check(lines) == []
