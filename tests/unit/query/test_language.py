"""The query language: its grammar, its bounds, and errors that name their place and a remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query import language
from prefork_logd.query.evaluate import matches
from prefork_logd.query.language import QueryError
from prefork_logd.query.tree import (
    EVERYTHING,
    And,
    Compare,
    Has,
    InGroup,
    Node,
    Not,
    Or,
    Words,
    all_of,
    any_of,
    level_is,
    logger,
)
from tests.support.queries import RECORD
from tests.support.strategies import bounded

NOW = 1_795_429_550.25
KEY = "g1:0123456789abcdef"
IN_GROUP = And((Or((level_is(">=", 40), Has(("exc_text",)), Has(("exception",)))), InGroup(KEY)))
A, B, C = (Words((one,)) for one in "abc")


def parse(text: str) -> Node:
    return language.parse(text, now=NOW, carried=lambda: {"AUDIT": 35})


def extra(key: str, operand: str, operator: str = "=") -> Compare:
    return Compare(("extra", key), operator, operand)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("*", EVERYTHING),
        ("a", A),
        ("a b", And((A, B))),
        ("a AND b", And((A, B))),
        ("a OR b", Or((A, B))),
        ("a b OR c", Or((And((A, B)), C))),
        ("a (b OR c)", And((A, Or((B, C))))),
        ("-a", Not(A)),
        ("NOT a", Not(A)),
        ("NOT -a", A),
        ("-(a b)", Not(And((A, B)))),
        ("a -b NOT c", And((A, Not(B), Not(C)))),
        ("or and not", And((Words(("or",)), Words(("and",)), Words(("not",))))),
        ('"OR"', Words(("or",))),
        ("ORDER ANDROID NOTE", And((Words(("order",)), Words(("android",)), Words(("note",))))),
        ('"disk full"', Words(("disk", "full"))),
        ('"disk fu*"', Words(("disk", "fu"), is_prefix=True)),
        ("user-19022", Words(("user", "19022"))),
        ("time*", Words(("time",), is_prefix=True)),
        ("日本*", Words(("日", "本"), is_prefix=True)),
        ("std::vector", Words(("std", "vector"))),
        ("http://host/a", Words(("http", "host", "a"))),
        ("12:30:05", Words(("12", "30", "05"))),
        ("2026-11-29T12:30", Words(("2026", "11", "29t12", "30"))),
        ("ada@example.org", Words(("ada", "example", "org"))),
        ("level>=WARNING", level_is(">=", 30)),
        ("level:error", level_is("=", 40)),
        ("level<audit", level_is("<", 35)),
        ("level!=30", Not(level_is("=", 30))),
        ("level:*", Has(("levelno",))),
        (f"fingerprint={KEY}", IN_GROUP),
        (f"fingerprint:{KEY}", IN_GROUP),
        (f'fingerprint="{KEY}"', IN_GROUP),
        (f"fingerprint!={KEY}", Not(IN_GROUP)),
        ("fingerprint=pay", extra("fingerprint", "pay")),
        (f"extra.fingerprint={KEY}", extra("fingerprint", KEY)),
        ("level:(ERROR OR CRITICAL)", Or((level_is("=", 40), level_is("=", 50)))),
        ("level:(NOT ERROR -INFO)", And((Not(level_is("=", 40)), Not(level_is("=", 20))))),
        ("logger:shop.orders", logger("shop.orders")),
        ("logger=shop", logger("shop")),
        ("logger:shop*", Compare(("name",), "^=", "shop")),
        ("name:shop", Compare(("name",), "=", "shop")),
        ("exc:KeyError", Words(("keyerror",), fields=("exc_text",))),
        ("message:(disk full)", And((Words(("disk",), fields=("message",)), Words(("full",), fields=("message",))))),
        ("message=disk", Compare(("message",), "=", "disk")),
        ("message:*", Has(("message",))),
        ("tenant=north", extra("tenant", "north")),
        ("extra.tenant:north", extra("tenant", "north")),
        ("tenant:north*", extra("tenant", "north", "^=")),
        ('tenant:"north*"', extra("tenant", "north*")),
        ("tenant=north*", extra("tenant", "north*")),
        ("tenant!=(a OR b)", Not(Or((extra("tenant", "a"), extra("tenant", "b"))))),
        ("status>=500", extra("status", "500", ">=")),
        ("status >= 500", extra("status", "500", ">=")),
        ("status:>=500", extra("status", "500", ">=")),
        ("delta<-5", extra("delta", "-5", "<")),
        ("delta:-5", extra("delta", "-5")),
        ("tenant:*", Has(("extra", "tenant"))),
        ("-tenant:*", Not(Has(("extra", "tenant")))),
        ("extra:*", Has(("extra",))),
        ("http.status:500", Or((Compare(("extra", "http", "status"), "=", "500"), extra("http.status", "500")))),
        ('"http.status":500', extra("http.status", "500")),
        ('extra."http.status".x=1', Compare(("extra", "http.status", "x"), "=", "1")),
        ("host.name:*", Or((Has(("extra", "host", "name")), Has(("extra", "host.name"))))),
        ("exception.0.type=KeyError", Compare(("exception", "0", "type"), "=", "KeyError")),
        ('"level"=3', extra("level", "3")),
        (r'tenant="a\"b\\c\d"', extra("tenant", 'a"b\\c\\d')),
        (r'message=~"^GET /a\d+"', Compare(("message",), "=~", r"^GET /a\d+")),
        ("message~disk", Compare(("message",), "~", "disk")),
        ("lineno>=17", Compare(("lineno",), ">=", "17")),
        ("created>=2h", Compare(("created",), ">=", repr(NOW - 7200))),
        ("time<@5", Compare(("created",), "<", "5.0")),
        ("a\tb\n", And((A, B))),
        ("(a)", A),
        ("((a) OR (b))", Or((A, B))),
    ],
)
def test_grammar(text: str, node: Node) -> None:
    """Each form, and what it stands for."""
    assert parse(text) == node


def test_the_example_of_the_documentation() -> None:
    """All of it in one query."""
    text = 'stock level>=WARNING logger:shop.cart extra.text=42 -healthz "low stock" (item>=500 OR exc:OSError)'
    node = parse(text)
    assert node == all_of(
        [
            Words(("stock",)), level_is(">=", 30), logger("shop.cart"), extra("text", "42"), Not(Words(("healthz",))),
            Words(("low", "stock")), any_of([extra("item", "500", ">="), Words(("oserror",), fields=("exc_text",))]),
        ]
    )  # fmt: skip
    assert matches(node, RECORD)


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("disk (full", 6, "the parenthesis is not closed; add "),
        ("disk) full", 5, "closes nothing; leave it out"),
        ("a ()", 3, "the parentheses are empty; put text with parentheses into double quotes"),
        ("f(x)", 2, "follows without a space; put a text with such signs into double quotes"),
        ('say"x"', 4, "follows without a space"),
        ('a "b', 3, "the double quote is not closed; add one"),
        ("a OR", 5, "a condition is missing here; add one"),
        ("(a OR) b", 6, "a condition is missing here"),
        ("OR a", 1, 'OR needs a condition on both sides; write "OR" for the word'),
        ("a AND AND b", 7, "AND needs a condition on both sides"),
        ("x NOT", 6, "a condition is missing here"),
        ("a -", 3, "has no letter or digit; to look for signs write message~"),
        ("a*b", 1, 'stands only at the end of a word; for parts of words write message~"a"'),
        ("url:*x*", 1, 'for a part of a value write url~"x"'),
        ("KeyError: 'x'", 1, 'a value is missing behind KeyError:; add one, or write "KeyError:" for the word'),
        ("(x=)", 2, "a value is missing behind x="),
        ("a lineno:abc", 3, "lineno is a number, and 'abc' is not"),
        ("lineno~1", 1, "lineno is a number, and `~` is for texts; write lineno="),
        ("lineno:1*", 1, "lineno is a number, and a `.` is for texts"),
        ("created>soon", 1, "'soon' is not a time; write one of"),
        ("level>LOUD", 1, r"'LOUD' is not a level; .*records carry \(AUDIT\)"),
        ("level:(ERROR CRITICAL)", 14, "write OR between the values"),
        ("status>(1 OR 2)", 8, "takes one value; write the comparisons side by side"),
        ("a==b", 1, "`==` is not an operator; write a=b"),
        ("a<>b", 1, "`<>` is not an operator; write a!=b"),
        ("x !a", 3, '`!` is not an operator; write -a, or "!a" for the word'),
        ("funcname=f", 1, "a record has no field funcname; write funcName, or extra.funcname"),
        ("extra=1", 1, "`extra` is an object; name one of its keys"),
        ('x=~"("', 1, "is not a regular expression of RE2: missing"),
        ("(" * 33 + "a" + ")" * 33, 33, "nested at most 32 deep"),
        (" ".join(["a"] * 513), 1025, "at most 512 conditions"),
        (" ".join(["a=~b"] * 17), 81, "at most 16 conditions with `=~`"),
        (" ".join(["a~b"] * 65), 257, "at most 64 conditions with `~`"),
        ("a" * 16_385, 16_385, "at most 16,384 characters"),
        ('"' + "a " * 65 + '"', 1, "a phrase has at most 64 words, and this one 65"),
        ("s" * 33, 1, "at most 32 consecutive s"),
    ],
)
def test_errors_name_the_column_and_a_remedy(text: str, column: int, says: str) -> None:
    """Columns are counted from 1, in characters."""
    with pytest.raises(QueryError, match=says) as caught:
        parse(text)
    assert caught.value.column == column
    assert str(caught.value) == f"column {column} of the query: {caught.value.problem}"


@bounded
@given(
    st.lists(
        st.sampled_from(
            ["a", "b:c", "OR", "AND", "NOT", "-", "(", ")", '"', " ", "*", "level", ">=", "30", "x.y", "=", "~", ":",
             "\\", "=~", "日", "extra", "\udcff", "\0", "created", "2h", ".", "!="]
        ),
        max_size=12,
    ).map("".join)
    | st.text(max_size=20)
)  # fmt: skip
def test_any_text_is_a_query_or_an_error(text: str) -> None:
    """No other exception, and every tree can be evaluated."""
    column = 1
    try:
        assert matches(parse(text), RECORD) in {True, False}
    except QueryError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


def test_negations_without_end_are_no_recursion() -> None:
    """They take no stack."""
    assert parse("NOT " * 4_000 + "a") == A
    assert parse("-" * 8_001 + "a") == Not(A)
