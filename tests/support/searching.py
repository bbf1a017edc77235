"""Compares a store's search with the specification: a mixed lot of records, random queries, and every answer checked.

Knows no store: the test of each store makes one of `make_lines`, and calls `check` with what `filters` generates.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from prefork_logd.query import analysis, statistics
from prefork_logd.query.filters import Filters
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.query.language import parse_field
from prefork_logd.query.long_values import key_of
from prefork_logd.query.patterns import pattern_of
from prefork_logd.query.search import Cursor, RecordId
from prefork_logd.query.tree import TEXT_FIELDS, And, Compare, Has, InGroup, Not, Or, Words, level_is, logger
from prefork_logd.query.words import words_of
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.query.search import Search

DAY = 86_400.0
START = NOW - 2 * DAY
"""Arrival of the first of `make_lines`, in seconds since 1970."""

MESSAGES = [
    "order A-2207 accepted", "Order refused: Grüße", "GRÜẞE aus İstanbul", "disk full", "", "a\0b", "x \udcff y",
    "order_a accepted/refused", "\u017ftock low", "日本の注文 order", "the disk is full of orders",
    "Straße und STRASSE", "東京tower", "서버에서 오류", "ปวดหัว", "ada@example.org 9f1c2b7e-0d4a-4a53-8c1d-2f6f0a9d1b3e",
    "e\u0301t\u00e9 \u00e9",
    "done✅deploy", "KeyError: 'sku'", "/srv/shop/app.py:17", '100% (50%) [x] {y} a\\b "q" _under_',
    "two\nlines\ttab",
    "x" * 300, "m" * 13_000,
    "sssß", "\u212aelvin \u0131s\u0131k", "Σίσυφος ΣΊΣΥΦΟΣ", "  ", "no\u00a0break", "\U0001f642",
]  # fmt: skip
NAMES = ["shop", "shop.cart", "shopping", "shop.cart.item", "", "root\udc80", "n" * 300, "shop.cart" + "x" * 260, "é.ü"]
LEVELS = [10, 20, 30, 40, 50, None, -5, 25, 0]
EXTRAS: list[dict[str, Any]] = [
    {}, {"id": 1}, {"id": "1"}, {"id": 1.0}, {"id": True}, {"o": {"p": "q"}}, {"id": None, "\udcff": 10**40},
    {"id": 2**53}, {"id": 2**53 + 1}, {"id": 2**70}, {"id": -(2**63)}, {"id": 0.1}, {"id": 1e300}, {"id": 5e-324},
    {"id": -0.0}, {"id": 1e22}, {"id": "a\0b"}, {"id": "\udcff"}, {"id": "Grüße 日本"}, {"id": ["1", 1, {"p": None}]},
    {"o.p": "q", "o": {"p": 7}}, {"o.p": "q"}, {"list": [1, "two", [3]], "-1": "minus", "01": "lead"}, {"id": ""},
    {"id": "x" * 1_001}, {"id": "\u00e9\n\U0001f642" * 3_100}, {"id": ["long" * 3_100]}, {"id": 'q"\\' * 2_500},
    {"list": {"0": "key", "-1": 2, "+1": 3}}, {"id": "true"}, {"id": False}, {"id": {}}, {"id": []}, {"id": "order"},
    {'q"u': 1, "sp ace": "x", "a$b": 2, "": 3, "a/b~c": 4}, {"id": 500}, {"id": "500"}, {"id": 499.9999999999999},
]  # fmt: skip
TRACE = 'Traceback (most recent call last):\n  File "app.py", line 7\nOSError: disk order'

_PATHS = [
    ("extra", "id"), ("extra", "o", "p"), ("extra", "o.p"), ("extra", "list", "0"), ("extra", "list", "1"),
    ("extra", "list", "-1"), ("extra", "list", "2", "0"), ("extra", "-1"), ("extra", "01"), ("extra", "\udcff"),
    ("extra", 'q"u'), ("extra", "sp ace"), ("extra", "a$b"), ("extra", ""), ("extra", "a/b~c"), ("extra", "absent"),
    ("extra", "id", "0"), ("extra", "id", "2",
    "p"), ("extra",), ("name",), ("levelno",), ("levelname",), ("message",),
    ("lineno",), ("exc_text",), ("stack_info",), ("peer",), ("host",), ("service",), ("created",), ("received",),
    ("time",), ("process",), ("threadName",), ("truncated",), ("exception",), ("exception", "0", "type"), ("msg",),
    ("name", "x"), ("extra", "list", "01"), ("extra", "list", "+1"), ("truncated", "0"),
]  # fmt: skip
_OPERANDS = [
    "", "1", "1.0", "0", "-5", "30", "500", "0.1", "1e300", "1e999", "5e-324", "9007199254740992", "9007199254740993",
    str(2**70), "-9223372036854775808", "1e22", "true", "false", "null", "q", "order", "Order", "a\0b", "\udcff",
    "disk",
    "Grüße 日本", "shop", "shop.cart", "n" * 300, "n" * 256, "shop.cart" + "x" * 260, "key", "two", "minus", "é", "日",
    "%",
    "_", "\\", "[x]", "x" * 300, str(START + 5), "4", "20", "192", "2026-11", "ß", " ", "\n", "9" * 400, "7", "-0",
    "1E0", "-1e999",
]  # fmt: skip
_EXPRESSIONS = [
    "^order",
    "(?i)ORDER",
    r"\d{2,}",
    "a.b",
    "full$",
    "[äöüß]",
    r"\bdisk\b",
    "^$",
    "x+y?",
    "日.",
    "(a|b)*c",
    "^.$",
    "(?i)[k\u00df]",
    "(?i)gr.\u00df",
    r"[^a-z ]$",
    r"(order|disk)( accepted| full)?$",
    r"\[x\] \{y\}",
    r"^\S+\s\w+?$",
    r"/srv/[^/]+/app\.py:\d",
]
_OPERATORS = ["=", "<", "<=", ">", ">=", "~", "^="]

_words = st.builds(
    lambda text, start, count, is_prefix, cut, fields: Words(
        _cut(words_of(text)[start : start + count] or words_of(text)[:1], is_prefix, cut), is_prefix, fields
    ),
    st.sampled_from([text for text in (*MESSAGES, TRACE, "nothing",
    "orde ord") if words_of(text) and len(text) < 200]),
    st.integers(0, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2),
    st.sampled_from([TEXT_FIELDS, TEXT_FIELDS, ("message",), ("exc_text",), ("stack_info", "message")]),
)  # fmt: skip
_compared = st.builds(Compare, st.sampled_from(_PATHS), st.sampled_from(_OPERATORS), st.sampled_from(_OPERANDS))
_common = st.sampled_from(
    [level_is(">=", 30), level_is("<", 20), level_is("=", 0), logger("shop"), logger("shop.cart"), logger("root\udc80"),
     logger("n" * 300), logger("é"), Compare(("extra", "id"), "=", "1"), Compare(("extra", "id"), ">=", "1"),
     Compare(("extra", "id"), "=", "500"), Compare(("message",), "~", "order"), Compare(("lineno",), ">", "4"),
     Compare(("created",), ">=", repr(START + DAY)), Words(("order",)), Words(("disk", "full")),
     InGroup(fingerprint({"levelno": 40, "name": "shop.cart.item", "message": "disk full"}) or ""),
     InGroup(fingerprint({"exc_text": TRACE}) or ""), InGroup(fingerprint({"exc_text": TRACE}, "g1v") or ""),
     InGroup("g1:0000000000000000")]
)  # fmt: skip
leaves = (
    _common
    | _words
    | _compared
    | st.builds(Has, st.sampled_from(_PATHS))
    | st.builds(Compare, st.sampled_from(_PATHS), st.just("=~"), st.sampled_from(_EXPRESSIONS))
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts)))
    ),
    max_leaves=6,
)
times = st.none() | st.sampled_from(
    [0.0, START - 2000, START, START + 1, START + 0.0000005, START + DAY, START + 3 * DAY, 1e10]
)
filters = st.builds(Filters, since=times, until=times, tree=trees)
"""Queries of every kind of condition, about values that `make_lines` has and has not."""


def _cut(phrase: list[str], is_prefix: bool, cut: int) -> tuple[str, ...]:
    if is_prefix:
        phrase = [*phrase[:-1], phrase[-1][: max(1, len(phrase[-1]) - cut)]]
    return tuple(phrase)


def make_lines(count: int = 400) -> list[bytes]:
    """Return the lines of a mixed lot that arrived over three days, some with the same time."""
    lines = []
    for number in range(count):
        received = START + (number * 3 // count) * DAY + number
        values: dict[str, Any] = {
            "name": NAMES[number % len(NAMES)], "levelno": LEVELS[number % len(LEVELS)], "lineno": number % 8,
            "created": received - number % 7 * 1000.5 if number % 5 else START,
            "msg": MESSAGES[number % len(MESSAGES)], **EXTRAS[number * 7 % len(EXTRAS)],
        }  # fmt: skip
        if number % 13 == 0:
            values["exc_text"] = TRACE
        if number % 17 == 0:
            values["stack_info"] = "Stack:\n  order Straße"
        if number % 19 == 0:
            values["prefork_logd.exception"] = [{"type": "OSError", "module": "builtins", "frames": []}]
            values["prefork_logd.truncated"] = ["order", "extra.ids"]
        lines.append(line(received, **values))
    return lines


@dataclass(repr=False)
class Stored:
    """Lines, and the search of a store that has them; without a long `repr`, which Hypothesis would print."""

    lines: Sequence[bytes]
    search: Search


def check(stored: Stored, wanted: Filters) -> None:
    """Check lines, order, limit, count and histogram of a search against the specification.

    The keys of `extra` may come in another order.
    """
    search = stored.search
    records = [json.loads(one) for one in stored.lines]
    want = [record for record in records if wanted.matches(record)]
    for newest in (False, True):
        order = replace(wanted, order="newest" if newest else "oldest")
        got = [json.loads(one) for one in search.lines(order)]
        assert Counter(map(_key, got)) == Counter(map(_key, want))
        at = [round(record["created"], 3) for record in got]
        assert at == sorted(at, reverse=newest)
        assert [json.loads(one) for one in search.lines(replace(order, limit=3))] == got[:3]
    assert search.count(wanted) == len(want)
    # Slots that consist of whole minutes may be counted in another way.
    for start, slot_s, slots in ((START - DAY, DAY / 4, 20), ((START - DAY) // 60 * 60, 60.0 * 240, 24)):
        bars: Counter[tuple[int, int]] = Counter()
        for record in want:
            slot = int((record["created"] - start) // slot_s)
            if 0 <= slot < slots:
                bars[slot, record.get("levelno", 0)] += 1
        assert {(slot, level): count for slot, level, count in search.histogram(wanted, start, slot_s, slots)} == bars


FACETS = [
    parse_field(text)
    for text in (
        "name",
        "level",
        "extra.id",
        "o.p",
        "list.1",
        "absent",
        "lineno",
        "time",
        "exception",
        "service",
        "id.0",
    )
]
STATISTICS = [
    statistics.parse(text)
    for text in (
        "count",
        "count by level",
        "count, count(id), distinct(id), min(lineno), max(lineno), avg(lineno), p95(lineno), median(lineno) by name",
        "sum(lineno), p0(lineno), p100(lineno), p33.3(lineno), min(absent) by o.p, levelno",
        "avg(created), distinct(message) by extra.id",
    )
]


def check_analysis(stored: Stored, wanted: Filters) -> None:
    """Check pages, facets, statistics, fields and patterns of a search against the specification.

    Records whose texts the store cannot hold exactly may be shown otherwise; the lot must have none.
    """
    search = stored.search
    records = [record for record in map(json.loads, stored.lines) if wanted.matches(record)]
    _check_pages(search, wanted, records)
    found = search.facets(wanted, FACETS, 5)
    assert found.coverage == (len(records), True)
    for facet, everything in zip(found.facets, analysis.facets_of(records, FACETS, 1_000), strict=True):
        counts = {key_of(value): count for value, count in everything.values}
        assert facet.field == everything.field
        assert facet.missing == everything.missing
        assert [count for _, count in facet.values] == [one.count for one in everything.values[:5]]
        assert all(counts[key_of(value)] == count for value, count in facet.values)
        assert facet.others == sum(counts.values()) - sum(count for _, count in facet.values)
    for question in STATISTICS:
        table = search.stats(wanted, question)
        want, left_out = analysis.stats_of(records, question)
        assert (table.columns, table.left_out) == (question.columns, left_out)
        width = len(question.by)
        ours = {tuple(map(key_of, row[:width])): row[width:] for row in table.rows}
        theirs = {tuple(map(key_of, row[:width])): row[width:] for row in want}
        assert ours.keys() == theirs.keys()
        for key, row in ours.items():
            assert row == pytest.approx(theirs[key]), (question, key, row, theirs[key])
    assert search.fields(wanted) == (analysis.fields_of(records), (len(records), True))
    newest = sorted(records, key=lambda record: record["created"], reverse=True)
    patterns = search.patterns(wanted, 1_000)
    want_patterns, others = analysis.patterns_of(
        ((record.get("message", ""), record["created"]) for record in newest), 1_000
    )
    assert (patterns.others, patterns.coverage) == (others, (len(records), True))
    assert [one._replace(example="") for one in patterns.patterns] == [
        one._replace(example="") for one in want_patterns
    ]
    assert all(pattern_of(one.example) == one.text for one in patterns.patterns)


def _check_pages(search: Search, wanted: Filters, records: Sequence[dict[str, Any]]) -> None:
    for order in ("oldest", "newest"):
        ordered = replace(wanted, order=order, limit=37)  # type: ignore[arg-type]
        found, cursor = [], None
        while True:
            page = search.page(ordered, cursor)
            found += page.records
            cursor = page.cursor and Cursor.parse(str(page.cursor))
            if cursor is None:
                break
            assert len(page.records) == 37
        assert Counter(_key(json.loads(one.line)) for one in found) == Counter(map(_key, records))
        assert len({one.id for one in found}) == len(found)
        at = [one.created for one in found]
        assert at == sorted(at, reverse=order == "newest")
    for one in found[:3]:
        assert search.get(RecordId.parse(str(one.id))) == one


def _key(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)
