"""Secrets: the compiled core replaces the same values as the Python modules, or leaves the record to them."""

from __future__ import annotations

import json
import logging
import logging.handlers
import pickle
from collections import OrderedDict, deque
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.ingest import core as native
from prefork_logd.records.redaction import Redactor
from prefork_logd.records.secret_forms import FORMS
from tests.parity import sides

if TYPE_CHECKING:
    from collections.abc import Callable

USUAL = {"name": "shop", "msg": "paid", "created": 1.0, "levelno": 20, "levelname": "INFO"}
KEYS = [
    *("password", "Api-Key", "apiKey2", "token", "tokens", "order", "amount"),
    *("user_PASSWD_old", "pwd", "p-w-d", "ключToken"),
    *("\u20acuro", "\uff50wd", "\u00acpwd", "\u206fpwd"),
]
LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDLgGMl+/Kq9w0B"
TEXTS = [
    "Bearer abcdefghij",
    "4111 1111 1111 1111",
    "eyJhbGciOiJI.eyJzdWIiOiIxMjM.abcdefghijklm",
    "postgres://u:pw@h/d",
    "postgres://u:pw@h,v:qx@i/d",
    "x%3DeyJhbGciOiJI.eyJzdWIiOiIxMjM.abcdefghijklm",
    "a=Bearer%20abcdefghij",
    "%094111111111111111 12/27",
    "redis://:a/b@h",
    'a "password" : "x"',
    "--token x",
    "https%3A%2F%2Fu%3Apw%40h",
    "pg%253a%252f%252fu%253Apw%2540h",
    "https://a1b2c3d4e5f6a1b2c3d4@h",
    f"-----BEGIN PRIVATE KEY-----\n{LINE}\n-----END PRIVATE KEY-----",
    f"-----BEGIN%20EC%20PRIVATE%20KEY-----%0A{LINE}%0A",
    f"{LINE} ---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    "AKIAIOSFODNN7EXAMPLE",
    "\\tghp_" + "a1b2c3" * 6,
    "%20glpat-abcdefghij-bcdefghij",
    "<soap:Token>x</soap:Token>",
    "--password",
    "name='token' value='x'",
    'form-data; name="token"\r\n\r\nx',
    "token%22%3A%22x",
]
NAMES = ["name", "processName", "threadName", "taskName"]
PIECES = [
    *(
        "name",
        "Key",
        "HEADER",
        "value",
        "VALUE",
        "<",
        ">",
        "</",
        "<\\/",
        "<token>",
        "</token>",
        "<a:pwd b='c'>",
        "</a:pwd>",
    ),
    *("<![CDATA[", "]]>", "u'", 'Rb"', "\r\n", "\\r\\n", "%22", "%3a", "(", ")", "''", "==", 'name="', "key': '"),
    *("password", "token", "Cookie", "pwd", "order", "--", "x", "\u00fc", "\u00a0", "\u201c", "b'", "Bearer", "basic"),
    *("=>", "4111111111111111", "4111", "1111", "%20", "%3D", "%09", "12", "7", "://", ":\\/\\/", "@", "."),
    "eyJhbGciOiJI",
    *("-----", "----", "BEGIN", "END", " PRIVATE KEY", "%20PRIVATE%20KEY", LINE, "\\n", "cut"),
    *("http", "https", "%3A%2F%2F", "%3a", "%40", "%25", "253A%252F%252F", "2540", "a1b2c3d4e5f6a1b2c3d4", "\ufeff"),
    *("AKIA", "ASIA", "glpat-", "sk_live_", "github_pat_", "SG.", "ABCDEFGHIJKLMNOP", "abcdefghijklmnopqrst", "_"),
    *(
        "eyJzdWIiOiIxMjM",
        "abcdefghijkl",
        "\t",
        "\n",
        " ",
        "  ",
        "-",
        "+",
        "=",
        ":",
        ",",
        '"',
        "'",
        "\\",
        "{",
        "&",
        "=>",
    ),
]


def agree(attributes: dict[str, Any], redactor: Redactor, *, native: bool | None = None) -> None:
    """Check one record on both sides, in protocols 1 and 4; `native`: whether the core has to take it."""
    core = sides.core(redactor=redactor)
    for protocol in (1, 4):
        taken = sides.agree(core, pickle.dumps(USUAL | attributes, protocol), redactor)
        assert native is None or taken == native


@pytest.mark.parametrize("value", ["s", 7, 2.5, None, True, [1, 2], {"a": {"token": "t"}}, 1 << 70, b"\x00"])
@pytest.mark.parametrize("key", KEYS)
def test_keys_of_every_kind_of_value(key: str, value: object) -> None:
    """At the top of extra and inside of it; the core takes all of them."""
    redactor = Redactor(DEFAULT_KEYS)
    agree({key: value, "deep": [{key: value}, {"n": {key: value}}]}, redactor, native=True)


PAIRS = [
    [["token", "x"], ["host", 1]],
    [("cookie", None), ("token", True)],
    (("token", "x"),),
    ({"token"}, {"host"}),
    [(b"authorization", b"x"), (b"host", b"y")],
    [["token", "x"], 1],
    [["token", "x", "y"]],
    ["token", "x"],
    [deque(["token", "x"])],
    [["k" * 300 + "token", 1]],
    {"name": "token", "value": 7},
    {"key": b"token", "value": ["x"]},
    {"key": "token", "value": None},
    {"name": "shop", "value": 7},
    OrderedDict(name="token", value=1),
    {"Name": "Set-Cookie", "Value": "x"},
    {"VALUE": "x", "value": None, "kEY": "token"},
    {"header": "token", "n": 1, "vaLue": "x"},
    OrderedDict(Header="shop", Value=1, name="token"),
    {"\u212aey": "token", "value": 1},
    {"headers": "token", "keys": "token", "names": "token", "value": 1},
    {b"Name": "token", "Value": 1},
    ["run", "--token", "x", "--password", 7, "--pwd", "--jwt", None, "--cookie", ["x"]],
    ("--token", "x"),
    {"--token"},
    [b"--token", "x"],
    ValueError("--token", "x"),
    ValueError(["token", "x"]),
]


@pytest.mark.parametrize("value", PAIRS, ids=repr)
def test_a_name_beside_its_value(value: object) -> None:
    """At any depth, and as the arguments of a class that nobody has."""
    redactor = Redactor(DEFAULT_KEYS)
    for rules in (redactor, Redactor(DEFAULT_KEYS, (), ["key-value"])):
        agree({"pairs": value, "deep": [{"d": value}]}, rules)
    agree({"pairs": [["order", "x"], ("host", "token")], "y": ["token", "x"]}, redactor, native=True)
    for arguments in (b"(Vtoken\nVx\ntt", b"(Vtoken\nVx\nt(Vtoken\nVy\ntt", b"Vtoken\nVx\nt", b"V--token\nVx\nt"):
        frame = b"(dVmsg\nVpaid\nsVpairs\ncshop\nPair\n(" + arguments + b"Rs."
        for rules in (redactor, Redactor(DEFAULT_KEYS, (), ["key-value"])):
            sides.agree(sides.core(redactor=rules), frame, rules)


def test_extra_itself_may_be_a_name_and_a_value() -> None:
    """Python replaces the value."""
    redactor = Redactor(DEFAULT_KEYS)
    agree({"key": "token", "value": "x"}, redactor, native=False)
    agree({"Key": "token", "n": 1, "VALUE": "x"}, redactor, native=False)
    agree({"key": "token", "values": "x", "value": 1}, Redactor(["*cookie"]), native=True)


@pytest.mark.parametrize("field", ["msg", "name", "threadName", "funcName"])
@pytest.mark.parametrize("value", [7, [1], {"n": {"pwd": "x"}}, Decimal(7)], ids=repr)
def test_a_field_with_the_text_of_a_secret_of_another_name_stays(field: str, value: object) -> None:
    """Texts are searched by their forms only."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value)
    agree({field: text, "token": value, "deep": value}, Redactor(DEFAULT_KEYS), native=True)


@pytest.mark.parametrize("chosen", [{}, {"format": "text", "template": "%(message)s"}, {"level": "ERROR"}], ids=repr)
def test_every_output_leaves_a_name_and_a_value_to_python(chosen: dict[str, Any]) -> None:
    """JSON, a text of the record's own values, and one that leaves the record out; a value alone does not count."""
    core = sides.core([OutputSettings(path="a", **chosen)], Redactor(DEFAULT_KEYS))
    pair = pickle.dumps(USUAL | {"value": "x", "name_of": 1, "key": "token"}, 4)
    assert core.lines(pair, sides.PEER, sides.RECEIVED) is None
    alone = pickle.dumps(USUAL | {"value": "x", "key": "order"}, 4)
    assert core.lines(alone, sides.PEER, sides.RECEIVED) is not None


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111112, 4000000000000000006, 6 * 10**18, -(10**15)])
def test_integers(number: int) -> None:
    """As values and as keys, at the top of extra and inside of it."""
    redactor = Redactor((), (), ["card"])
    agree({"number": number, "deep": [number, {number: 1}], str(number): 1}, redactor)
    agree({"number": 1795404245125, "deep": [{1795404245125: 12}]}, redactor, native=True)


@pytest.mark.parametrize("text", [*TEXTS, "nothing"])
def test_forms_in_keys(text: str) -> None:
    """Texts and bytes."""
    agree({text: 1, "deep": [{text: 2}, {text.encode(): 3}]}, Redactor(DEFAULT_KEYS, (), FORMS))


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from([[form] for form in FORMS]))
def test_forms_in_any_text(text: str, forms: list[str]) -> None:
    """Python sees each text in which it would find something."""
    redactor = Redactor(["*token", "password", "cookie", "pwd"], (), forms)
    agree({"msg": text, "deep": [text, text.encode()]}, redactor)


def test_keys_longer_than_the_core_compares() -> None:
    """Python decides about them."""
    redactor = Redactor(DEFAULT_KEYS)
    agree({"k" * 300 + "token": "s"}, redactor, native=False)
    agree({"k" * 100 + "token": "s", "k" * 100: 1}, redactor, native=True)


@pytest.mark.parametrize(
    "key", ["\ufeffpwd", "jw\u200bt", "jwt\u200d", "p\u00adwd", "p\u2060wd", "or\u200cder", "\u00ad"]
)
def test_keys_with_invisible_characters(key: str) -> None:
    """Python decides about them."""
    agree({key: "s", "deep": [{key: 1}, [[key, "x"]]]}, Redactor(DEFAULT_KEYS), native=False)


def test_a_verdict_is_kept_for_its_own_key_only() -> None:
    """Keys that share a slot among the kept verdicts do not share the verdict."""
    redactor = Redactor(["*token"])
    core = sides.core(redactor=redactor)
    for number in range(2_000):
        key = f"k{number}" + ("token" if number % 3 else "tokem")
        assert sides.agree(core, pickle.dumps(USUAL | {key: "s"}, 1), redactor)


def test_a_verdict_does_not_outlive_the_tree_of_keys() -> None:
    """A later key gets the number of an earlier one, also where the tree begins anew in the middle of a record."""
    redactor = Redactor(["*token"])
    core = sides.core(redactor=redactor)
    for key in ("note", "token", "note", "token"):
        native.speedups.unlearn()
        for _ in range(2):
            assert sides.agree(core, pickle.dumps(USUAL | {key: "s"}, 1), redactor)
    for number in range(300):
        keys = {f"k{number}-{index}" + ("token" if (number + index) % 3 else "note"): "s" for index in range(30)}
        assert sides.agree(core, pickle.dumps(USUAL | keys, 1), redactor)


@pytest.mark.parametrize("text", [*TEXTS, "nothing", "basic ", "1234567890123", "a://b", "a@b", "BASIC xxxxxxxx", ""])
@pytest.mark.parametrize("where", ["msg", "exc_text", "stack_info", "extra", "deep", *NAMES])
def test_forms(text: str, where: str) -> None:
    """A text that may hold a secret is left to Python, wherever it stands; the others are not."""
    attributes = {"deep": {"d": [{"e": text}]}} if where == "deep" else {where: f"a {text} z"}
    agree(attributes, Redactor((), (), FORMS))
    agree({"msg": "nothing of the kind", "extra": "eyes"}, Redactor((), (), FORMS), native=True)


@pytest.mark.parametrize("where", NAMES)
def test_forms_in_names_that_come_again(where: str) -> None:
    """Thread and process are a part of a record that is copied and not read; the rules of another core may differ."""
    redactor = Redactor((), (), ["provider-token"])
    core, plain = sides.core(redactor=redactor), sides.core(redactor=Redactor())
    record = logging.LogRecord("shop", logging.INFO, "/srv/shop.py", 7, "paid", None, None, "pay")
    for text, is_taken in (("of ghp_short", True), ("of ghp_" + "a1b2c3" * 6, False)):
        setattr(record, where, text)
        frame = logging.handlers.SocketHandler("localhost", 1).makePickle(record)[4:]
        for _ in range(6):
            assert sides.agree(plain, frame, Redactor())
            assert sides.agree(core, frame, redactor) == is_taken


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from([[form] for form in FORMS]))
def test_forms_in_texts_without_an_output_of_json(text: str, forms: list[str]) -> None:
    """A core with an output of text alone leaves the same records to Python."""
    redactor = Redactor(["*token", "password", "cookie", "pwd"], (), forms)
    outputs = [OutputSettings(path="a", format="text", template="%(x)s %(message)s")]
    for attributes in ({"x": text}, {text: 1}, {"x": [text]}, {"x": 4111111111111111}):
        frame = pickle.dumps(USUAL | attributes, 4)
        alone = sides.core(outputs, redactor).lines(frame, sides.PEER, sides.RECEIVED)
        assert (alone is None) == (sides.core(redactor=redactor).lines(frame, sides.PEER, sides.RECEIVED) is None)


class Word(str):
    """A text of a class of its own."""

    __slots__ = ()


MADE = [
    *(bytes, str.encode, bytearray, Path, ValueError, Word, Decimal, OrderedDict.fromkeys, set, deque),
]


def made(kind: Callable[[Any], Any], text: str) -> object:
    """Return a value of a type that holds a text."""
    if kind is bytes:
        return b"\xff" + text.encode() + b"\x80"
    if kind is bytearray:
        return bytearray(text.encode())
    if kind is Decimal:
        return Decimal(4111111111111111)
    return kind([text]) if kind in (OrderedDict.fromkeys, set, deque) else kind(text)


@pytest.mark.parametrize("text", [*TEXTS, "nothing"])
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__qualname__)
@pytest.mark.parametrize("where", ["msg", "args", "exc_text", "stack_info", "x", "deep"])
def test_forms_in_values_of_other_types(text: str, kind: Callable[[Any], Any], where: str) -> None:
    """What a value is written as is searched, too: bytes, paths, exceptions, numbers, names, classes of services."""
    value = made(kind, text)
    attributes = {"args": (value, 1)} if where == "args" else {"deep": {"d": [{"e": value}]}}
    agree(attributes if where in ("args", "deep") else {where: value}, Redactor((), (), FORMS))


def test_forms_in_other_texts_of_a_pickle() -> None:
    """Numbers in the arguments of an exception, digits of a UUID, the name of a class that nobody has."""
    redactor = Redactor((), (), FORMS)
    agree({"x": KeyError(4111111111111111), "y": [UUID(int=0x41111111111111110000000000000000)]}, redactor)
    core = sides.core(redactor=redactor)
    for name in (b"Bearer abcdefghij", b"eyJhbGciOiJI.eyJzdWIiOiIxMjM.abcdefghijklm", b"4111 1111 1111 1111"):
        for value in (b"cshop\n%b\n" % name, b"cshop\n%b\n(tR" % name, b"(cshop\n%b\nl" % name):
            sides.agree(core, b"(dVmsg\nVpaid\nsVx\n" + value + b"s.", redactor)


@given(
    st.dictionaries(st.sampled_from(KEYS), st.recursive(st.sampled_from([*TEXTS, "x", None, 1]), st.lists), max_size=6)
)
def test_any_of_them(extra: dict[str, Any]) -> None:
    """Keys and forms together."""
    agree(extra, Redactor(DEFAULT_KEYS, ["pwd"], FORMS))


@given(st.text(alphabet="0123456789 -x", max_size=60), st.booleans())
def test_digits_of_cards(text: str, begins: bool) -> None:
    """What may be the number of a card is left to Python; a number that no card has, is not."""
    text = "4111 1111 1111 1111 " * begins + text
    agree({"msg": text}, Redactor((), (), ["card"]))


def test_numbers_of_other_things() -> None:
    """The core takes identifiers and times."""
    for text in ("0000000000000000000000000001eef", "1795404245125", "id 7-1111-1111-0000-9999", "4 1 1 1"):
        agree({"msg": text}, Redactor((), (), ["card"]), native=True)


def test_the_count() -> None:
    """Each record with a secret counts once, however many secrets and outputs there are."""
    core = sides.core()
    for attributes in ({"xx": 1, "yx": {"token": 2}}, {"key": 1}, {"plain": {"token": None}}, {"token": 1}):
        assert core.lines(pickle.dumps(USUAL | attributes, 1), sides.PEER, sides.RECEIVED) is not None
    assert core.redacted == 2
