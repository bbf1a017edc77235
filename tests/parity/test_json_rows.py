"""The compiled core makes the rows of JSON that the Python module makes, and every row gives its line back."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork_logd.records.record import make_record, rfc3339
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows as stored_rows
from prefork_logd.stores import rows_core
from prefork_logd.stores.parquet import rows
from tests.parity.whole_line import LINE, TOKENS
from tests.support import odd_lines
from tests.support.corpus import corpus_lines
from tests.support.strategies import attributes, bounded, damaged, with_changed_byte

pytestmark = pytest.mark.skipif(rows_core.json_rows is None, reason="the compiled core is not there, or switched off")
NAMES = (*stored_rows.COLUMNS, "line")


def with_python(lines, number, refuse):
    """Return the rows that the Python module makes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows_core, "json_rows", None)
        return rows.make_rows(lines, number, refuse)


def given_back(made):
    """Return the lines of rows, as a reader of the columns makes them."""
    decode = msgspec.json.decode
    return [rows.make_line([decode(row).get(name) for name in NAMES]) for row in made.data.splitlines()]


def check(lines, number=0):
    """Compare the rows of the core with those of Python, and the lines that they give back with the lines."""
    refused, refused_by_python = [], []
    ours = rows.make_rows(lines, number, lambda *one: refused.append(one[:2]))
    theirs = with_python(lines, number, lambda *one: refused_by_python.append(one[:2]))
    assert (ours, refused) == (theirs, refused_by_python)
    gone = {at for at, _ in refused}
    wanted = [one + b"\n" for at, one in enumerate(lines.split(b"\n")[:-1], number) if at not in gone]
    assert given_back(ours) == wanted
    return ours


def test_the_corpus():
    """Every accepted record of the corpus, hostile ones included."""
    check(b"".join(corpus_lines()), 1000)


def test_odd_lines():
    """Lone surrogates, long numbers, deep nesting, and lines that no collector has written."""
    check(b"".join(odd_lines.records()))
    for line, is_record in odd_lines.foreign:
        made = check(line)
        assert bool(made.data) == is_record


@settings(bounded, max_examples=20)
@given(st.lists(attributes, min_size=1, max_size=4))
def test_any_records(many):
    """Any values in any field."""
    check(b"".join(render_json(make_record(values, "peer", 1.0)) for values in many))


def test_most_lines_need_no_line_beside_their_columns():
    """Of the corpus, all but those with lone surrogates; of plain records, all."""
    lines = corpus_lines()
    made = rows.make_rows(b"".join(lines), 0, lambda *_: None)
    assert made.data.count(b'"line":') < len(lines) / 10
    plain = render_json(
        make_record({"msg": '\x00 \x7f \x85 \u2028 é \U0001f600 \\ " / \n', "n": 5, "f": 0.1}, "p", 1.5)
    )
    assert b'"line":' not in rows.make_rows(plain, 0, lambda *_: None).data


@bounded
@given(damaged(LINE))
@example(LINE[1:])
def test_a_damaged_line(line):
    """A changed line is a row that gives it back, or is refused."""
    check(line)


@bounded
@given(with_changed_byte(LINE))
def test_a_changed_byte(line):
    """The same for the bytes that mean something."""
    check(line)


@bounded
@given(
    st.lists(st.sampled_from([*TOKENS, '"\\u00e9"', '"\\/"', '"\\ud800"', '"\\\\u0041"', '"\\u0007"', '"\x7f"', '"é"']))
)
def test_any_extra(parts):
    """Escapes that the collector does not write make a line odd, whether in a text or in JSON."""
    extra = "".join(parts).encode()
    for form in (
        b'{"created":1.0,"time":"1970-01-01T00:00:01.000000Z","extra":{%b}}\n',
        b'{"created":1.0,"message":%b}\n',
        b'{"created":1.0,"time":"1970-01-01T00:00:01.000000Z","extra":%b}\n',
        b'{"created":1.0,"time":"1970-01-01T00:00:01.000000Z","truncated":[%b]}\n',
        b'{"created":1.0,"time":"1970-01-01T00:00:01.000000Z","exception":[%b]}\n',
        b'{"created":1.0,"time":"1970-01-01T00:00:01.000000Z","exception":%b}\n',
    ):
        check(form % extra)


@bounded
@given(st.floats(0, 7_258_118_400.0, exclude_max=True), st.integers(0, 10), st.booleans())
@example(1795560100.6451237, 7, True)
@example(5e-324, 0, True)
@example(951_782_400.0, 1, True)
@example(4_107_542_399.9999995, 7, True)
def test_times_of_any_spelling(created, places, is_short):
    """A time with more or fewer digits than it needs is odd; its date is right in every year."""
    text = repr(created) if is_short else f"{created:.{places}f}"
    value = min(float(text), 7_258_118_399.0)
    check(b'{"created":%b,"time":"%b","received":%b}\n' % (text.encode(), rfc3339(value).encode(), text.encode()))
    check(b'{"created":%b,"time":"%b"}\n' % (text.encode(), rfc3339(min(value + 1e-6, 7e9)).encode()))


def test_days_are_told_where_they_change():
    """By `received`, or `created` without one; a refused line has none."""
    stamp = rfc3339(0.0).encode()
    day = b'{"created":0.0,"time":"%b","received":%b}\n'
    lines = [day % (stamp, b"86399.0"), b"x\n", day % (stamp, b"86400.0"), day % (stamp, b"1.5"), b'{"created":9.5}\n']
    made = check(b"".join(lines), 40)
    assert [(one.number, one.day) for one in made.days] == [(40, 0), (42, 1), (43, 0)]
    assert [made.data[one.offset :].startswith(b'{"number":%d,' % one.number) for one in made.days] == [True] * 3
