"""What the usual programs write as JSON becomes records with the time, level and logger that they mean."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import NotARecord
from prefork_logd.records import imported_names
from prefork_logd.records.imported import MOST_DEPTH, canonical, parse
from prefork_logd.records.imported_values import level_of_name, level_of_number, read_time
from prefork_logd.records.stored import read_fields, read_row
from prefork_logd.stores.rows import render
from tests.support import odd_lines
from tests.support.corpus import corpus_lines
from tests.support.strategies import attributes, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[2] / "data" / "foreign.json"
AT = 1_795_904_698.4
NOW = 9.5
ERROR = {"levelno": 40}

MEANT: dict[str, list[dict[str, Any]]] = {
    "python-json-logger": [
        {**ERROR, "levelname": "ERROR", "name": "shop.cart", "message": "disk full on /srv", "lineno": 12},
        {**ERROR, "message": "failed", "exc_text": ...},
        {"levelno": 25, "levelname": "NOTICE"},
    ],
    "python-json-logger timestamp": [
        {**ERROR, "name": "shop.cart", "extra": {"tenant": "north"}},
        {**ERROR, "exc_text": ...},
        {"levelno": 25},
    ],
    "ecs-logging": [
        {**ERROR, "name": "shop.cart", "lineno": 12, "filename": "app.py", "funcName": "go", "process": 30989,
         "threadName": "MainThread", "thread": ..., "processName": "MainProcess"},
        {**ERROR, "exc_text": ...},
        {"levelno": 25},
    ],
    "structlog": [
        {**ERROR, "message": "disk full", "name": None, "pathname": "/srv/shop/app.py", "funcName": "sl",
         "threadName": "MainThread", "process": 30989, "extra": {"path": "/srv", "name": "Bob"}},
        {**ERROR, "exc_text": ...},
        {"levelno": 30, "extra": {"at": 1}},
    ],
    "loguru": [
        {**ERROR, "name": "__main__", "message": "disk full on /srv", "filename": "app.py", "funcName": "lo",
         "pathname": "/srv/shop/app.py", "process": 30989, "threadName": "MainThread", "lineno": 34},
        {"levelno": 25, "levelname": "SUCCESS"},
        {**ERROR, "message": "failed"},
    ],
    "graypy": [
        {**ERROR, "name": "shop.cart", "pathname": "/srv/a.py", "lineno": 7, "funcName": "f", "process": 30989,
         "host": "vm", "version": None, "extra": {"version": "1.0", "tenant": "north", "level": 3}},
        {**ERROR, "levelname": "ERROR"},
        {**ERROR, "message": "failed", "exc_text": ...},
    ],
    "docker": [{"levelno": None, "message": "2026-11-28 22:24:58 disk full on /srv"}],
    "docker around structlog": [{**ERROR, "message": "disk full", "funcName": "sl"}],
    "journald": [
        {**ERROR, "levelname": "ERROR", "name": "shop", "process": 4711, "message": "disk full on /srv",
         "pathname": "/srv/shop/app.py", "lineno": 12, "funcName": "go"},
    ],
    "journald, octets": [{"levelno": 20, "message": "\x1b[31mred", "name": "shop"}],
    "pino": [{**ERROR, "process": 4711, "message": "disk full on /srv"}],
    "pino, error": [{"levelno": 20, "exc_text": ...}],
    "bunyan": [{"levelno": 30, "name": "shop", "process": 4711}],
    "zap": [{**ERROR, "name": "shop.cart", "exc_text": ..., "extra": {"caller": "cart/disk.go:12"}}],
    "logrus": [{"levelno": 30, "levelname": "warning", "message": "disk full on /srv"}],
    "log4j": [{**ERROR, "name": "shop.cart", "threadName": "main"}],
    "logstash-logback": [{**ERROR, "name": "shop.cart", "threadName": "main", "exc_text": ...}],
    "serilog": [{**ERROR, "name": "Shop.Cart", "message": "disk full on {path}", "extra": {"path": "/srv"}}],
    "monolog": [{**ERROR, "name": "shop", "extra": {"context": {"tenant": "north"}, "level": 400}}],
    "google cloud": [{"levelno": 25, "message": "disk full on /srv"}],
}  # fmt: skip
"""What is meant by the lines of each program, in their order; `...` is anything."""


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read times without a zone as the machine did that wrote the lines."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _lines() -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for entry in json.loads(DATA.read_text()):
        found.setdefault(entry["from"], []).append(entry["line"].encode())
    return found


@pytest.mark.parametrize("program", MEANT)
def test_lines_of_the_usual_programs(program: str) -> None:
    """Lines that these have really printed."""
    for line, meant in zip(_lines()[program], MEANT[program], strict=True):
        found = canonical(line, NOW)
        fields = read_fields(found.line)
        assert abs(fields["created"] - AT) < 0.5
        assert found.has_time
        assert found.has_level == (meant["levelno"] is not None)
        for name, value in meant.items():
            assert fields.get(name) == value if value is not ... else fields[name], name


def test_each_line_has_its_expectation() -> None:
    """None of the data is forgotten."""
    assert _lines().keys() == MEANT.keys()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_790_000_000, 1_790_000_000.0),
        (1_790_000_000.5, 1_790_000_000.5),
        (1_790_000_000_500, 1_790_000_000.5),
        (1_790_000_000_500_000, 1_790_000_000.5),
        (1_790_000_000_500_000_000, 1_790_000_000.5),
        ("1790000000.5", 1_790_000_000.5),
        ("1790000000500", 1_790_000_000.5),
        ("2026-09-21T14:13:20.5Z", 1_790_000_000.5),
        ("2026-09-21 14:13:20,500", 1_790_000_000.5),
        ("2026-09-21T16:13:20.500000+02:00", 1_790_000_000.5),
        ("2026-09-21 16:13:20.5 +0200", 1_790_000_000.5),
        ("2026-09-21 14:13:20.5 UTC", 1_790_000_000.5),
        ("20260921T141320Z", 1_790_000_000.0),
        ("2026-09-21T14:13Z", 1_789_999_980.0),
        ("2016-12-31T23:59:60Z", 1_483_228_800.0),
        (0, 0.0),
    ],
)
def test_times(value: Any, seconds: float) -> None:
    """A number in any unit, as number or text; ISO 8601 and what is near it."""
    found = read_time(value)
    assert found is not None
    assert found == (pytest.approx(seconds, abs=1e-6), True)


@pytest.mark.parametrize(
    "value",
    [True, None, -1, 10**19, 10**30, "", "soon", "20261128", "14:05", "2026-13-01 00:00:00", "2026-11-28", [], {},
     "0000-01-01 00:00:00", "2026-11-28T00:00:00+99:00", "9" * 21, "1969-12-31T00:00:00Z", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_time(value: Any) -> None:
    """Nothing is guessed."""
    assert read_time(value) is None


def test_a_time_finer_than_ours_is_kept() -> None:
    """Nanoseconds are in `extra`, as they were."""
    for key, value in (("ts", 1_790_000_000_500_000_001), ("time", "2026-09-21T14:13:20.500000001Z")):
        fields = read_fields(canonical(json.dumps({key: value, "msg": "m"}).encode(), NOW).line)
        assert (fields["created"], fields["extra"]) == (pytest.approx(1_790_000_000.5, abs=1e-6), {key: value})


def test_levels() -> None:
    """Words in any case, and numbers on the scales that are in use."""
    assert [level_of_name(name) for name in ("warn", "Information", "EMERG", "success", "loud")] == [
        30,
        20,
        50,
        25,
        None,
    ]
    assert [level_of_number(number, "syslog") for number in (-1, 0, 3, 7, 8)] == [None, 50, 40, 10, None]
    assert [level_of_number(number, "any") for number in (3, 10, 35, 200, 400, 800, 2.5)] == [
        40, 10, 35, 20, 30, 50, None,
    ]  # fmt: skip
    assert [level_of_number(number, "opentelemetry") for number in (0, 1, 9, 17, 24, 25)] == [None, 5, 20, 40, 50, None]


def test_what_is_missing_is_told() -> None:
    """A record without a time gets the time of the import."""
    found = canonical(b'{"msg":"bare"}', NOW)
    assert (read_fields(found.line)["created"], found.has_time, found.has_level) == (NOW, False, False)
    for line in (b'{"level":"error"}', b"{}", b"[]", b"5", b'"x"', b"", b"\0\0", b'{"msg":"x"', b'{"msg":"x"}{}'):
        with pytest.raises(NotARecord):
            canonical(line, NOW)


@pytest.mark.slow
def test_our_own_lines_stay_as_they_are() -> None:
    """Also when they are read as anybody's; a level is added where there is only its name."""
    for line in (*corpus_lines(), *odd_lines.records()):
        found = canonical(b"\0\0" + line.rstrip(b"\n") + b"\r\n", NOW).line
        row = read_row(line)
        if row.levelno is not None or row.levelname is None:
            assert found == line


@pytest.mark.parametrize("level", [{"levelno": 10, "levelname": "0"}, {"levelno": -(1 << 63), "levelname": "X"}])
def test_odd_levels(level: dict[str, Any]) -> None:
    """A name that is a numeral stays the name, beside its number; the least number is no other value than itself."""
    line = odd_lines.render_json(odd_lines.make_record({**level, "pathname": 5}, "peer", 1.0))
    assert canonical(line, NOW).line == line
    assert json.loads(line) | level == json.loads(line)
    assert json.loads(line)["extra"] == {"pathname": 5}


@pytest.mark.slow
@bounded
@given(attributes)
def test_any_record_of_ours_stays_as_it_is(values: dict[str, Any]) -> None:
    """Whatever was logged."""
    line = odd_lines.render_json(odd_lines.make_record({"levelno": 10, "levelname": "X", **values}, "peer", 1.0))
    if b'"levelno"' in line:
        assert canonical(line, NOW).line == render(read_row(line))


NAMES = (
    *imported_names.TIMES, *imported_names.MESSAGES, *imported_names.LEVEL_NAMES, *imported_names.LEVEL_NUMBERS,
    *imported_names.LOGGERS, *itertools.chain(*imported_names.OTHERS.values()),
    "extra", "peer", "received", "a", "_a", "stream", "facility", "full_message", "docker",
)  # fmt: skip
KEYS = sorted({part for name in NAMES for part in (name, *name.split("."))})
SHAPES = st.recursive(
    st.sampled_from(["text", "null", "list"]), lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
)


@pytest.mark.slow
@bounded
@given(st.dictionaries(st.sampled_from(KEYS), SHAPES, max_size=8), st.sampled_from(["", "short_message", "__CURSOR"]))
def test_nothing_is_lost(shape: dict[str, Any], form: str) -> None:
    """Every text of an object is somewhere in its record, under whatever names it came."""
    counter = itertools.count(100)

    def filled(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {key: filled(inner) for key, inner in shape.items()}
        value = None if shape == "null" else f"token{next(counter)}"
        return [value] if shape == "list" else value

    document = {"msg": "m", **filled(shape), **({form: "f"} if form else {})}
    line = canonical(json.dumps(document).encode(), NOW).line.decode()
    assert [token for token in range(100, next(counter)) if f"token{token}" not in line] == []


def test_names_that_meet_are_all_kept() -> None:
    """A name that is taken gets a mark or a number: a field beside `extra` with the name of one inside."""
    inside = {"a": 1, "a_": 2, "a__": 3, "a_2": 4, "b": 5}
    line = json.dumps({"created": NOW, "message": "m", "extra": inside, "a": 6, "b": 7}).encode()
    assert read_fields(canonical(line, NOW).line)["extra"] == inside | {"a_3": 6, "b_": 7}


def test_what_json_does_not_hold_becomes_text() -> None:
    """Numbers that are none, too large, or too long; control characters and octets that are no UTF-8."""
    digits = b"1" * 5000
    line = b'{"msg":"a\tb","created":1.5,"n":[NaN,-Infinity,1e400],"i":%b,"s":"caf\xe9"}' % digits
    extra = read_fields(canonical(line, NOW).line)["extra"]
    assert extra == {"n": ["nan", "-inf", "1e400"], "i": digits.decode(), "s": "caf\udce9"}


@pytest.mark.parametrize("depth", [MOST_DEPTH - 1, MOST_DEPTH, 2_000, 200_000])
def test_what_lies_too_deep_becomes_the_text_of_its_json(depth: int) -> None:
    """The record is stored, read again by every reader, and nothing of it is lost."""
    deep = b'{"k":[' * (depth // 2) + b'"]}\\""' + b"]}" * (depth // 2)
    document = read_fields(canonical(b'{"msg":"m","created":1.5,"levelno":40,"d":%b,"e":[{}]}' % deep, NOW).line)
    assert (document["levelno"], document["extra"]["e"]) == (40, [{}])
    value = document["extra"]["d"]
    levels = 0
    while not isinstance(value, str):
        value = value["k"] if isinstance(value, dict) else value[0]
        levels += 1
    inner = parse(value.encode()) if value.startswith("{") else value
    assert (
        levels == depth // 2 * 2 if inner == ']}"' else value.count("[") + value.count("{") + levels == depth // 2 * 2
    )


@bounded
@given(st.binary(max_size=80))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    """Whatever a line holds."""
    for line in (
        octets,
        b'{"msg":"m",%b}' % octets,
        b'{"msg":%b}' % octets,
        b'{"log":"{\\"msg\\":%b}","stream":1}' % octets,
    ):
        try:
            read_row(canonical(line, NOW).line)
        except NotARecord:
            continue
